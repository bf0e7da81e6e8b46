"""How many replicas a deployment should have: the algorithm of Kubernetes' HorizontalPodAutoscaler (v2), with its
tolerance, its rates and its stabilisation, over what batchers tell of the load.

Of each target the wanted number is `replicas x load of a replica / target`, rounded up, unless the load is within 10 %
of the target; of several the largest counts. Up it goes at once, doubling at most every 15 s. Down it goes to the most
that was wanted within the stabilisation window, halving at most every 60 s, and only so far that the load of what
remains is below the target by these 10 %, too: every change is another package to load, and a number at which the least
growth asks for more again is not worth one. Latency does not grow in proportion to the load: beyond its target it asks
for as many more as the excess, at least one and at most double; below it, and with half of the replicas idle and nobody
waiting, one fewer does. CPU and GPU use that is not known at the moment asks for what there is.

Each word of the batchers is judged by itself, two seconds of load, though chance is in it. Means of 15 to 30 s were
tried in its place (docs/architecture/deployer.md): they change the number as often, for the window down is of the most
that was wanted and passes chance over already, and without what chance adds to that twice as many requests wait.

A forecast's floor is kept like `min_replicas`: at once, within `max_replicas`, and it never takes a replica away.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil

from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.forecast import Floor

TOLERANCE = 0.1
UP_EVERY_S = 15.0
"""In so long the number doubles at most."""
DOWN_EVERY_S = 60.0
"""In so long it halves at most."""


@dataclass(frozen=True, slots=True)
class Load:
    """What all batchers together were asked for of a version, a second, how it stood with them at the end, what it used
    meanwhile, and what is to come."""

    requests_per_s: float = 0.0
    in_flight: float = 0.0
    queued: float = 0.0
    p95_ms: float = 0.0
    """Of the slowest batcher; 0: not known."""
    cpu_percent: float | None = None
    """Of what its replicas may use; None: not known."""
    gpu_percent: float | None = None
    """Of the model servers' GPUs; None: not known."""
    floor: Floor | None = None
    """The fewest replicas that the load to come asks for; None: nothing is forecast."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many replicas there should be now, and by which target, in words."""

    replicas: int
    why: str
    foreseen: bool = False
    """It is a forecast's floor."""


@dataclass
class Scaler:
    """Of one deployment: what was wanted and done lately. Times are monotonic seconds."""

    wanted: deque[tuple[float, int]] = field(default_factory=deque)
    """When so many were wanted or would have been at ease, the oldest first, as far back as any window goes."""
    done: deque[tuple[float, int]] = field(default_factory=deque)
    """When there were so many before a change."""

    def decide(self, scaling: Autoscaling, replicas: int, load: Load, now_s: float) -> Decision:
        """How many of now `replicas` there should be. Called once for each word of the load."""
        decided, floor = self._by_load(scaling, replicas, load, now_s), load.floor
        if floor is None or min(floor.replicas, max(1, scaling.max_replicas)) <= decided.replicas:
            return decided
        return Decision(min(floor.replicas, max(1, scaling.max_replicas)), floor.why, foreseen=True)

    def _by_load(self, scaling: Autoscaling, replicas: int, load: Load, now_s: float) -> Decision:
        wished, why = wanted_replicas(scaling, replicas, load)
        least, most = max(1, scaling.min_replicas), max(1, scaling.max_replicas)
        wished = min(most, max(least, wished))
        self.wanted.append((now_s, min(most, max(wished, _at_ease(scaling, replicas, load)))))
        while self.wanted and self.wanted[0][0] < now_s - scaling.scale_down_stabilization_s:
            self.wanted.popleft()
        while self.done and self.done[0][0] < now_s - DOWN_EVERY_S:
            self.done.popleft()
        if wished > replicas:
            before = min([replicas, *(count for at_s, count in self.done if at_s >= now_s - UP_EVERY_S)])
            return Decision(max(replicas, min(wished, 2 * before)), why)
        lowest = max(count for _, count in self.wanted)
        if lowest < replicas:
            before = max([replicas, *(count for _, count in self.done)])
            return Decision(min(replicas, max(lowest, ceil(before / 2))), f"no more were wanted: {why}")
        return Decision(min(most, max(least, replicas)), why)

    def changed(self, before: int, now_s: float) -> None:
        """The number was changed from `before`."""
        self.done.append((now_s, before))


def wanted_replicas(scaling: Autoscaling, replicas: int, load: Load) -> tuple[int, str]:
    """The number that the targets ask for, before rates and windows, and by which."""
    found: list[tuple[int, str]] = [
        (_by_ratio(replicas, total / replicas, target), f"{total / replicas:.3g} {unit} a replica of {target:g}")
        for total, target, unit in _averages(scaling, load)
        if target > 0
    ]
    for used, target, unit in _uses(scaling, load):
        if target > 0 and used is not None:
            found.append((_by_ratio(replicas, used, target), f"{used:.3g} % {unit} of {target:g}"))
        elif target > 0:
            found.append((replicas, f"{unit} use is being measured"))
    target = scaling.target_latency_ms
    if target > 0 and load.p95_ms > 0:
        ratio = load.p95_ms / target
        words = f"p95 {load.p95_ms:.3g} ms of {target:g}"
        more = min(2 * replicas, max(replicas + 1, ceil(replicas * ratio)))
        calm = _calm(replicas, load) if ratio < 1 - TOLERANCE else replicas
        found.append((more if ratio > 1 + TOLERANCE else calm, words))
    return max(found) if found else (replicas, "no target that is known here")


def acts(scaling: Autoscaling | None) -> bool:
    """Whether the number of replicas follows a load that is known here."""
    if scaling is None or not scaling.enabled:
        return False
    targets: Sequence[float] = (
        scaling.target_latency_ms,
        scaling.target_requests_per_sec,
        scaling.target_concurrency,
        scaling.target_queue_depth,
        scaling.target_cpu_percent,
        scaling.target_gpu_percent,
    )
    return scaling.max_replicas > max(1, scaling.min_replicas) and any(target > 0 for target in targets)


def _averages(scaling: Autoscaling, load: Load) -> Sequence[tuple[float, float, str]]:
    return (
        (load.requests_per_s, scaling.target_requests_per_sec, "requests/s"),
        (load.in_flight + load.queued, scaling.target_concurrency, "requests at once"),
        (load.queued, scaling.target_queue_depth, "requests waiting"),
    )


def _uses(scaling: Autoscaling, load: Load) -> Sequence[tuple[float | None, float, str]]:
    return (
        (load.cpu_percent, scaling.target_cpu_percent, "CPU"),
        (load.gpu_percent, scaling.target_gpu_percent, "GPU"),
    )


def _at_ease(scaling: Autoscaling, replicas: int, load: Load) -> int:
    """The fewest replicas whose load would be below each target by the tolerance. Latency says nothing of that: it is
    judged one replica at a time."""
    ratios = [total / target for total, target, _ in _averages(scaling, load) if target > 0]
    ratios += [replicas * used / target for used, target, _ in _uses(scaling, load) if target > 0 and used is not None]
    return ceil(max(ratios, default=0.0) * (1 + TOLERANCE))


def _by_ratio(replicas: int, value: float, target: float) -> int:
    ratio = value / target
    return replicas if abs(ratio - 1) <= TOLERANCE else ceil(replicas * ratio)


def _calm(replicas: int, load: Load) -> int:
    """With nobody waiting and half of the replicas or more idle, one fewer does."""
    return replicas - 1 if load.queued == 0 and load.in_flight <= replicas / 2 else replicas
