"""`python -m benchmarks.policy_simulation`: the learned policy against every window that could be set by hand.

In virtual time, so it is exact, the same on every machine and says nothing of how fast the code is. For each model and
load all windows are tried, as Triton's dynamic batcher has them (a longest delay, preferred sizes) with one or two
batches at a time, under several seeds. The window that is best over all of them is what ours has to keep up with: a
window is set by hand for a load, not anew for each of its moments. Ours is told nothing: it has the first seconds of
the same load to learn, and goes on trying while it is measured.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf, log
from statistics import median

from rich.console import Console
from rich.table import Table

from benchmarks.policy_world import (
    Host,
    Outcome,
    Sender,
    Service,
    World,
    bursty,
    closed_loop,
    open_loop,
    poisson,
    steady,
)
from services.batcher.domain.adaptive import Adaptive, Answered
from services.batcher.domain.policy import departure_s
from services.batcher.domain.serving import Batching

HOST = Host()
SERVICES: Sequence[Service] = (
    Service("digits", fixed_s=145e-6, row_s=0.46e-6, rows_max=256),
    Service("GPU", fixed_s=10e-3, row_s=0.1e-3, rows_max=64),
    Service("GPU, 2 instances", fixed_s=10e-3, row_s=0.1e-3, rows_max=64, instances=2),
    Service("linear", fixed_s=0.0, row_s=0.5e-3, rows_max=64),
)
"""Digits as a bare Triton served it on a busy machine of 2 cores: a round trip of 285 µs for a batch, 0.46 µs for each
row in it (the mean of two runs of `benchmarks.service_times`, 300 batches of each of nine sizes), less what `Host` has
of it: the thread's time for a batch and the way there and back. The others are assumed: a model with a large cost for
each batch and a small one for each row, the same twice on one server, and a model that gains nothing by batches."""
_DELAYS_S = (0.0, 100e-6, 500e-6, 1e-3, 5e-3)
_PREFERRED: Sequence[tuple[int, ...]] = ((), (8,), (32, 64))
_BATCHES = 1500
"""About as many are measured."""
_SEED_FIRST = 7
_SEEDS = 3
_PAUSE_S = 2.0
_PEAK = 1.15
"""Of the capacity, while a burst lasts: more only fills the queue, whatever the policy."""
_IN_FLIGHT_MAX = 4


class Window:
    """Triton's dynamic batcher: a free instance takes a preferred size as soon as it is there, or whatever waits once
    the oldest has waited `delay_s`."""

    def __init__(self, service: Service, *, delay_s: float, preferred: tuple[int, ...], in_flight: int) -> None:
        self.delay_s = delay_s
        self.preferred = tuple(size for size in preferred if size <= service.rows_max)
        self.in_flight = in_flight
        self._most = service.rows_max
        self._next = self._most

    def __str__(self) -> str:
        sizes = f", preferred {'/'.join(map(str, self.preferred))}" if self.preferred else ""
        return f"{self.delay_s * 1e6:.0f} µs{sizes}, {self.in_flight} at a time"

    def rows_max(self) -> int:
        return self._next

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        ready = [size for size in self.preferred if size <= rows]
        self._next = max(ready) if ready else self._most
        if ready or rows >= self._most:
            return now_s
        return max(now_s, oldest_s + self.delay_s)

    def departed(self, rows: int, *, left_behind: bool) -> None:
        """Learns nothing."""

    def landed(self, rows: int, *, waiting: int, now_s: float) -> None:
        """Learns nothing."""

    def observe(self, batch: Answered) -> None:
        """Learns nothing."""


class Ours:
    """The policy as the batcher has it, with the settings that a deployment has by default."""

    def __init__(self, service: Service, *, target_ms: float = 0.0, in_flight_max: int = _IN_FLIGHT_MAX) -> None:
        self.batching = Batching(max_batch_size=service.rows_max, target_latency_ms=target_ms)
        self.version = Adaptive(in_flight=2, in_flight_max=in_flight_max)
        self._group = self.version.group()

    def __str__(self) -> str:
        way = self.version.climb.best
        return f"{way.in_flight} at a time" + (f", {way.share:.0%} of those around" if way.share else "")

    @property
    def in_flight(self) -> int:
        return self.version.in_flight_per_backend

    def rows_max(self) -> int:
        return self._group.rows_max(self.batching)

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        return departure_s(
            self._group,
            self.batching,
            rows=rows,
            rows_max=self.rows_max(),
            oldest_s=oldest_s,
            now_s=now_s,
        )

    def departed(self, rows: int, *, left_behind: bool) -> None:
        self._group.departed(rows, left_behind=left_behind)

    def landed(self, rows: int, *, waiting: int, now_s: float) -> None:
        self._group.landed(rows, waiting=waiting, now_s=now_s)

    def observe(self, batch: Answered) -> None:
        if self.version.learns(batch.now_s):
            self._group.observe(batch)


@dataclass(frozen=True, slots=True)
class Load:
    """What callers do. `play(world, begin_s, seconds, warm_s)`."""

    name: str
    closed: bool
    share: float = 0.0
    callers: int = 0
    arrivals: Callable[[float, float, float, int], list[float]] | None = None
    """From the rate and the length, in seconds, the share of the capacity, and the seed."""


def _bursts(rate: float, seconds: float, share: float, seed: int) -> list[float]:
    return bursty(rate, seconds, seed, on_s=400 / rate, factor=min(2.5, _PEAK / share))


LOADS: Sequence[Load] = (
    *(Load(f"{count} callers", closed=True, callers=count) for count in (1, 8, 64, 256)),
    *(
        Load(f"{name} {share:.0%}", closed=False, share=share, arrivals=make)
        for name, make in (
            ("steady", lambda rate, seconds, *_: steady(rate, seconds)),
            ("Poisson", lambda rate, seconds, _, seed: poisson(rate, seconds, seed)),
            ("bursty", _bursts),
        )
        for share in (0.3, 0.7, 0.9)
    ),
)


@dataclass(frozen=True, slots=True)
class Result:
    """One model under one load."""

    service: Service
    load: Load
    ours: Sequence[Outcome]
    """One for each seed."""
    ours_way: str
    best: Sequence[Outcome]
    best_window: str

    @property
    def ratios(self) -> Sequence[float]:
        """Ours over the window for each seed, above 1 better: answers a second of a closed loop, else of the mean
        latency."""
        pairs = zip(self.ours, self.best, strict=True)
        if self.load.closed:
            return [ours.per_s / best.per_s for ours, best in pairs]
        return [best.mean_s / ours.mean_s for ours, best in pairs]

    @property
    def ratio(self) -> float:
        """Their median."""
        return median(self.ratios)


def windows(service: Service) -> list[Window]:
    """All that are tried."""
    return [
        Window(service, delay_s=delay_s, preferred=preferred, in_flight=in_flight)
        for delay_s in _DELAYS_S
        for preferred in (_PREFERRED if delay_s else _PREFERRED[:1])
        for in_flight in (1, 2)
    ]


def capacity(service: Service, host: Host = HOST) -> float:
    """Rows a second in full batches, through the backend and through the batcher's thread."""
    thread = 1 / (host.request_in_s + host.request_out_s + host.batch_s / service.rows_max)
    return min(service.capacity, thread)


def play(
    sender: Sender,
    service: Service,
    load: Load,
    *,
    warm_s: float,
    seconds: float,
    learn_s: float = 0.0,
    seed: int = _SEED_FIRST,
) -> Outcome:
    """One run. The arrivals of the measured part are the same whatever went before: `learn_s` more of the load."""
    world = World(sender, service, host=HOST, seed=seed)
    if load.arrivals is None:
        return closed_loop(world, load.callers, warm_s=learn_s + warm_s, seconds=seconds)
    rate = load.share * capacity(service)
    before = load.arrivals(rate, learn_s, load.share, seed) if learn_s else []
    # What was left behind by then is gone when the measured part begins.
    begins_s = learn_s + _PAUSE_S if learn_s else 0.0
    measured = [begins_s + at_s for at_s in load.arrivals(rate, warm_s + seconds, load.share, seed)]
    return open_loop(world, before + measured, warm_s=begins_s + warm_s, seconds=seconds)


def spans_s(service: Service, batches: int) -> tuple[float, float]:
    """How long to warm up and to measure."""
    unit_s = service.usual_s(min(service.rows_max, 32)) + HOST.batch_s + 2 * HOST.transit_s
    return 50 * unit_s, batches * unit_s


def best_window(service: Service, load: Load, *, seeds: Sequence[int], batches: int) -> tuple[str, Sequence[Outcome]]:
    """The window that is best over all seeds, by the geometric mean of its power, and what came of it."""
    warm_s, seconds = spans_s(service, batches)
    best: tuple[float, str, Sequence[Outcome]] | None = None
    for window in windows(service):
        outcomes = [play(window, service, load, warm_s=warm_s, seconds=seconds, seed=seed) for seed in seeds]
        power = sum(_log_power(outcome) for outcome in outcomes)
        if best is None or power > best[0]:
            best = power, str(window), outcomes
    assert best is not None
    return best[1], best[2]


def compare(
    service: Service, load: Load, *, learn_s: float, batches: int = _BATCHES, seeds: Sequence[int] = (_SEED_FIRST,)
) -> Result:
    """Ours after `learn_s` of the load, and the best window."""
    window, best = best_window(service, load, seeds=seeds, batches=batches)
    warm_s, seconds = spans_s(service, batches)
    outcomes, ways = [], []
    for seed in seeds:
        ours = Ours(service)
        outcomes.append(play(ours, service, load, warm_s=warm_s, seconds=seconds, learn_s=learn_s, seed=seed))
        ways.append(str(ours))
    return Result(service, load, outcomes, "; ".join(dict.fromkeys(ways)), best, window)


def _log_power(outcome: Outcome) -> float:
    return log(outcome.per_s / outcome.mean_s) if outcome.latencies_s else -inf


def report(results: Sequence[Result]) -> Table:
    """Two lines for each model and load; medians over the seeds."""
    table = Table("model", "load", "policy", "answers/s", "mean ms", "p95 ms", "in time", "ours / best", "least, most")
    for result in results:
        in_time_s = 10 * (result.service.usual_s(1) + HOST.batch_s + 2 * HOST.transit_s)
        ratios = result.ratios
        for way, outcomes, ratio, span in (
            (result.best_window, result.best, "", ""),
            (f"ours: {result.ours_way}", result.ours, f"{result.ratio:.2f}", f"{min(ratios):.2f}, {max(ratios):.2f}"),
        ):
            table.add_row(
                result.service.name,
                result.load.name,
                way,
                f"{median(one.per_s for one in outcomes):,.0f}",
                f"{median(one.mean_s for one in outcomes) * 1e3:.2f}",
                f"{median(one.quantile_s(0.95) for one in outcomes) * 1e3:.2f}",
                f"{median(one.within(in_time_s) for one in outcomes):.1%}",
                ratio,
                span,
            )
    return table


def main() -> int:
    """Prints one table and what it comes to."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.policy_simulation", description=__doc__)
    names = [service.name for service in SERVICES]
    parser.add_argument("--models", default=";".join(names), help="by semicolons: " + "; ".join(names))
    parser.add_argument("--learn", type=float, default=20.0, help="seconds of the load before it is measured (20)")
    parser.add_argument("--batches", type=int, default=_BATCHES, help=f"about as many are measured ({_BATCHES})")
    parser.add_argument("--seeds", type=int, default=_SEEDS, help=f"so many runs of each, of other chance ({_SEEDS})")
    parser.add_argument("--loads", default="", help="only loads whose names have one of these, by semicolons")
    arguments = parser.parse_args()
    seeds = range(_SEED_FIRST, _SEED_FIRST + max(1, arguments.seeds))
    wanted = arguments.loads.split(";")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 140)
    results = [
        compare(service, load, learn_s=arguments.learn, batches=arguments.batches, seeds=seeds)
        for service in SERVICES
        if service.name in arguments.models.split(";")
        for load in LOADS
        if any(part in load.name for part in wanted)
    ]
    console.print(report(results))
    ratios = sorted(result.ratio for result in results)
    worst = min(results, key=lambda result: result.ratio)
    console.print(
        f"ours over the window that is best over {len(seeds)} seeds: "
        f"median {median(ratios):.3f}, least {ratios[0]:.2f} "
        f"({worst.service.name}, {worst.load.name}), most {ratios[-1]:.2f}; "
        f"at least 0.97 in {sum(ratio >= 0.97 for ratio in ratios)} of {len(ratios)}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
