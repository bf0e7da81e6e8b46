"""Open loop: requests arrive when they arrive, evenly at random (Poisson) or in bursts, at 70 % of what can be carried.

Two rates: 70 % of what the gateway carries in a closed loop of 256 callers, and 70 % of what the batcher alone carries,
both asked by the generator that then sends the arrivals, as it needs a part of the same cores. Bare Triton is offered
the same arrivals, to the microsecond, with the window (how long a batch waits for more) in which it keeps most of them
within the bound. Times are from the moment at which a request should have left, so a request that waits in the
generator behind a stalled server is late.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf, nan
from types import MappingProxyType

import numpy as np
from rich.table import Table

from benchmarks.arrivals import Times, bursty, perfect_latency_s, poisson
from benchmarks.bare_triton import DIGITS_SERVED, WINDOWS, Setting
from benchmarks.compare import Spread, Verdict
from benchmarks.open_loop import LEAD_IN_S, Outcome, carried_per_s, run_script
from benchmarks.parts.closed import wanted
from benchmarks.payloads import Sample, WrongAnswerError, digits
from benchmarks.report import PartReport, new_table
from benchmarks.rounds import again
from benchmarks.stage import Stage
from benchmarks.targets import (
    BATCHER,
    GATEWAY_GRPC,
    GATEWAY_TYPED,
    TITLES,
    Target,
    bare_target,
    verify,
)

SHARE = 0.7
CALLERS = 256
WITHIN_S = 0.1
"""What is answered later is no goodput."""
GOODPUT_MIN = 0.995
"""Of bare Triton's: both answer nearly all in time, and one late request of some ten thousand is no difference."""
PROCESSES: Mapping[str, Callable[..., Times]] = MappingProxyType({"Poisson": poisson, "bursty": bursty})


@dataclass(frozen=True, slots=True)
class Shot:
    """One script against one target."""

    group: str
    """Whose capacity the rate is a share of."""
    process: str
    target: str
    title: str
    is_baseline: bool
    round: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    goodput: float
    errors: int
    lag_p99_ms: float
    """How late the generator itself was; it is in the times."""
    perfect_p95_ms: float
    """What the same arrivals would see at a perfect server of that capacity: what bursts cost whoever serves them."""


@dataclass(frozen=True, slots=True)
class Score:
    """One target in one group and process: medians of its rounds, and its goodput against bare Triton's."""

    group: str
    process: str
    title: str
    is_baseline: bool
    rate: float
    p50_ms: float
    p95_ms: Spread
    p99_ms: float
    goodput: Spread
    goodput_ratio: Spread
    lag_p99_ms: float
    perfect_p95_ms: float


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    effort, triton = stage.effort, await stage.triton()
    samples = digits()
    scripts = Scripts(stage, samples)
    groups = {
        "gateway": wanted(effort, (GATEWAY_GRPC, GATEWAY_TYPED)),
        "batcher alone": wanted(effort, (BATCHER,)),
    }
    await triton.keep(DIGITS_SERVED, WINDOWS)
    shots: list[Shot] = []
    notes: list[str] = []
    for group, ways in groups.items():
        targets = await stage.targets(ways)
        if not targets:
            continue
        capacity = await scripts.capacity(targets[0])
        rate = SHARE * capacity
        notes.append(f"{group}: {targets[0].title} carries {capacity:,.0f}/s; offered are {rate:,.0f}/s")
        stage.say(notes[-1])
        windows = {process: await _best_window(scripts, triton.grpc_address, process, rate) for process in PROCESSES}
        for process, window in windows.items():
            notes.append(f"{group}, {process}: bare Triton's best window: {window}")
        for number in range(1, effort.rounds + 1):
            for process, window in windows.items():
                bare = bare_target(triton.grpc_address, window.model_name(DIGITS_SERVED))
                some = (bare, *targets)
                order = some if number % 2 else some[::-1]
                shots += [await scripts.fire(group, process, target, number, rate) for target in order]
    scores = score(shots)
    return PartReport(
        name="open",
        title=f"open loop at {SHARE:.0%} of capacity, single rows of digits",
        tables=[table(scores)],
        verdicts=[verdict for one in scores if not one.is_baseline for verdict in judge(one)],
        notes=notes,
        data={"shots": [asdict(shot) for shot in shots], "scores": [asdict(one) for one in scores]},
    )


class Scripts:
    """Fires scripts and checks what came of them."""

    def __init__(self, stage: Stage, samples: Sequence[Sample]) -> None:
        self._stage = stage
        self._samples = samples

    async def capacity(self, target: Target) -> float:
        """Requests a second that the target answers in a closed loop: of three tries the median."""
        tries = []
        for _ in range(3):
            await verify(target, self._samples)
            tries.append(
                await carried_per_s(
                    address=target.address,
                    call=target.call_for(self._samples[0]),
                    callers=CALLERS,
                    seconds=self._stage.effort.seconds,
                    folder=self._stage.folder,
                )
            )
        return Spread.of(tries).median

    async def fire(
        self, group: str, process: str, target: Target, number: int, rate: float, *, seconds: float | None = None
    ) -> Shot:
        """One script; the same round has the same arrivals for all. Raises WrongAnswerError where a request fails."""

        async def shoot() -> Shot:
            return await self._shoot(group, process, target, number=number, rate=rate, seconds=seconds)

        return await again(shoot, target, self._stage.revive)

    async def _shoot(
        self, group: str, process: str, target: Target, *, number: int, rate: float, seconds: float | None
    ) -> Shot:
        length_s = seconds or self._stage.effort.seconds
        times = PROCESSES[process](rate, LEAD_IN_S + length_s, seed=number)
        perfect_s = perfect_latency_s(times, rate / SHARE)[times >= LEAD_IN_S]
        await verify(target, self._samples)
        outcome = await run_script(
            address=target.address,
            call=target.call_for(self._samples[0]),
            times=times,
            seconds=length_s,
            folder=self._stage.folder,
        )
        await verify(target, self._samples)
        shot = shot_of(
            outcome,
            group=group,
            process=process,
            target=target,
            number=number,
            rate=rate,
            perfect_p95_ms=float(np.percentile(perfect_s, 95)) * 1000,
        )
        if shot.errors:
            raise WrongAnswerError(
                f"{target.title} failed {shot.errors} of {len(outcome.latency_s)} {process} requests"
            )
        self._stage.say(
            f"  {process}, {target.title}: p95 {shot.p95_ms:.2f} ms, "
            f"{shot.goodput:,.0f}/s within {WITHIN_S * 1000:.0f} ms"
        )
        return shot


def shot_of(
    outcome: Outcome,
    *,
    group: str,
    process: str,
    target: Target,
    number: int,
    rate: float,
    perfect_p95_ms: float = nan,
) -> Shot:
    """The figures of a script."""
    p50_ms, p95_ms, p99_ms = (outcome.percentile_ms(which) for which in (50, 95, 99))
    return Shot(
        group=group,
        process=process,
        target=target.name,
        title=target.title,
        is_baseline=target.baseline == target.name,
        round=number,
        rate=rate,
        p50_ms=p50_ms,
        p95_ms=p95_ms,
        p99_ms=p99_ms,
        goodput=outcome.goodput(WITHIN_S),
        errors=outcome.errors,
        lag_p99_ms=outcome.lag_ms(99),
        perfect_p95_ms=perfect_p95_ms,
    )


async def _best_window(scripts: Scripts, address: str, process: str, rate: float) -> Setting:
    """The setting with most goodput, and of those that are equal within a hundredth, the one with the least p95."""
    tried = {}
    for setting in WINDOWS:
        target = bare_target(address, setting.model_name(DIGITS_SERVED))
        tried[setting] = await scripts.fire("search", process, target, 0, rate, seconds=1.0)
    most = max(shot.goodput for shot in tried.values())
    return min((one for one in tried if tried[one].goodput >= 0.99 * most), key=lambda one: tried[one].p95_ms)


def score(shots: Sequence[Shot]) -> Sequence[Score]:
    """Medians of the rounds, in the order of the first."""
    bare = {(shot.group, shot.process, shot.round): shot.goodput for shot in shots if shot.is_baseline}
    scores = []
    for group, process, target in {(shot.group, shot.process, shot.target): None for shot in _bare_first(shots)}:
        mine = [shot for shot in shots if (shot.group, shot.process, shot.target) == (group, process, target)]
        scores.append(
            Score(
                group=group,
                process=process,
                title=TITLES[target],
                is_baseline=mine[0].is_baseline,
                rate=mine[0].rate,
                p50_ms=Spread.of([shot.p50_ms for shot in mine]).median,
                p95_ms=Spread.of([shot.p95_ms for shot in mine]),
                p99_ms=Spread.of([shot.p99_ms for shot in mine]).median,
                goodput=Spread.of([shot.goodput for shot in mine]),
                goodput_ratio=Spread.of(
                    [_ratio(shot.goodput, bare[shot.group, shot.process, shot.round]) for shot in mine]
                ),
                lag_p99_ms=Spread.of([shot.lag_p99_ms for shot in mine]).median,
                perfect_p95_ms=Spread.of([shot.perfect_p95_ms for shot in mine]).median,
            )
        )
    return scores


def _ratio(goodput: float, bare: float) -> float:
    """Where bare Triton kept nothing within the bound, whoever kept anything is beyond comparison."""
    if bare:
        return goodput / bare
    return inf if goodput else 1.0


def judge(one: Score) -> Sequence[Verdict]:
    """The two bars of a target."""
    where = f"{one.title}, {one.process} at {one.rate:,.0f}/s"
    bound_ms = WITHIN_S * 1000
    return (
        Verdict(one.p95_ms.median < bound_ms, f"{where}: p95 {one.p95_ms} ms, below {bound_ms:.0f} ms"),
        Verdict(
            one.goodput_ratio.median >= GOODPUT_MIN,
            f"{where}: goodput {one.goodput_ratio} × bare Triton's, at least {GOODPUT_MIN:g}",
        ),
    )


def table(scores: Sequence[Score]) -> Table:
    """For people."""
    shown = new_table(
        f"Requests arrive on their own; goodput is what is answered within {WITHIN_S * 1000:.0f} ms",
        *(
            "arrivals",
            "offered/s",
            "target",
            "p50 ms",
            "p95 ms",
            "p99 ms",
            "goodput/s",
            "× bare",
            "lag p99 ms",
            "perfect p95 ms",
        ),
        text=("arrivals", "target"),
    )
    before: tuple[str, str] | None = None
    for one in scores:
        here = (one.group, one.process)
        if before is not None and before != here:
            shown.add_section()
        shown.add_row(
            one.process if here != before else "",
            f"{one.rate:,.0f}" if here != before else "",
            one.title,
            f"{one.p50_ms:.2f}",
            str(one.p95_ms),
            f"{one.p99_ms:.2f}",
            f"{one.goodput.median:,.0f}",
            "1" if one.is_baseline else str(one.goodput_ratio),
            f"{one.lag_p99_ms:.2f}",
            f"{one.perfect_p95_ms:.2f}",
        )
        before = here
    return shown


def _bare_first(shots: Sequence[Shot]) -> Sequence[Shot]:
    """By group and process as they came, the baseline first in each."""
    groups = list({(shot.group, shot.process): None for shot in shots})
    return sorted(shots, key=lambda shot: (groups.index((shot.group, shot.process)), not shot.is_baseline))
