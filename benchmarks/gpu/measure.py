"""One load at one target: how fast, how large the batches, how busy the card; answers checked before and after."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.arrivals import poisson
from benchmarks.cpu import CpuMeter
from benchmarks.gpu.card import Card
from benchmarks.gpu.targets import Batches
from benchmarks.load import run_load
from benchmarks.open_loop import LEAD_IN_S, run_script
from benchmarks.payloads import Sample, WrongAnswerError
from benchmarks.rounds import Row, Say, again
from benchmarks.targets import Target, verify
from services.common.clock import Clock

_SETTLED_S = 0.5
"""From the beginning of a load on: what nvidia-smi says looks back."""
Reader = Callable[[], Awaitable[Mapping[str, Batches]]]


@dataclass(frozen=True, slots=True)
class Seen:
    """A load, and what batches and card were like meanwhile."""

    row: Row
    rows_per_batch: float
    busy: float
    """Share of the time in which the card ran a kernel, in percent; 0 where nobody can tell."""
    watts: float


@dataclass(frozen=True, slots=True)
class Shot:
    """A script of arrivals at one target."""

    target: str
    title: str
    baseline: str
    round: int
    rate: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    lag_p99_ms: float
    """How late the generator itself was; it is in the times."""
    rows_per_batch: float
    busy: float


class Measure:
    """Whatever is wrong with an answer, and any request that fails, raises WrongAnswerError."""

    def __init__(
        self,
        *,
        h2load: Path,
        folder: Path,
        samples: Sequence[Sample],
        card: Card,
        meter: CpuMeter,
        readers: Mapping[str, tuple[Reader, str]],
        revive: Callable[[Target, Exception], Awaitable[bool]],
        clock: Clock,
        say: Say,
    ) -> None:
        """`readers` of a target's name: how its server tells of batches, and under which name."""
        self._h2load = h2load
        self._folder = folder
        self._samples = samples
        self._card = card
        self._meter = meter
        self.readers = dict(readers)
        self._revive = revive
        self._clock = clock
        self._say = say

    async def closed(self, target: Target, callers: int, *, number: int, seconds: float) -> Seen:
        """A closed loop."""
        return await again(lambda: self._closed(target, callers, number, seconds), target, self._revive)

    async def _closed(self, target: Target, callers: int, number: int, seconds: float) -> Seen:
        answer_bytes = await verify(target, self._samples)
        before = await self._batches(target)
        measured = await run_load(
            self._h2load,
            address=target.address,
            call=target.call_for(self._samples[0]),
            callers=callers,
            seconds=seconds,
            answer_bytes=answer_bytes,
            folder=self._folder,
            meter=self._meter,
        )
        end_s = self._clock.monotonic()
        after = await self._batches(target)
        await verify(target, self._samples)
        if measured.errors:
            raise WrongAnswerError(f"{target.title} failed {measured.errors} of {measured.done} requests")
        card = self._card.between(end_s - seconds + _SETTLED_S, end_s)
        seen = Seen(
            Row(target.name, target.title, target.baseline, callers, number, measured),
            after.mean_since(before),
            card.busy if card else 0.0,
            card.watts if card else 0.0,
        )
        self._say(
            f"  round {number}, {callers} callers, {target.title}: {measured.requests_per_s:,.0f}/s, "
            f"p95 {measured.p95_ms:.1f} ms, {seen.rows_per_batch:.1f} rows a batch, card {seen.busy:.0f} % busy"
        )
        return seen

    async def arrivals(self, target: Target, *, number: int, rate: float, seconds: float) -> Shot:
        """The Poisson arrivals of this round, the same for every target."""
        return await again(lambda: self._arrivals(target, number, rate, seconds), target, self._revive)

    async def _arrivals(self, target: Target, number: int, rate: float, seconds: float) -> Shot:
        await verify(target, self._samples)
        before = await self._batches(target)
        outcome = await run_script(
            address=target.address,
            call=target.call_for(self._samples[0]),
            times=poisson(rate, LEAD_IN_S + seconds, seed=number),
            seconds=seconds,
            folder=self._folder,
        )
        end_s = self._clock.monotonic()
        after = await self._batches(target)
        await verify(target, self._samples)
        if outcome.errors:
            raise WrongAnswerError(f"{target.title} failed {outcome.errors} of {len(outcome.latency_s)} requests")
        card = self._card.between(end_s - seconds + _SETTLED_S, end_s)
        p50_ms, p95_ms, p99_ms = (outcome.percentile_ms(which) for which in (50, 95, 99))
        self._say(f"  round {number}, {rate:,.0f}/s, {target.title}: p95 {p95_ms:.2f} ms")
        return Shot(
            *(target.name, target.title, target.baseline, number, rate),
            *(p50_ms, p95_ms, p99_ms, outcome.lag_ms(99)),
            after.mean_since(before),
            card.busy if card else 0.0,
        )

    async def _batches(self, target: Target) -> Batches:
        read, key = self.readers[target.name]
        return (await read()).get(key, Batches())
