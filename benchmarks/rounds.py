"""The order of measurements: first Triton's best setting at each load, then rounds in which all targets take turns."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import httpx

from benchmarks.bare_triton import BareTriton, Served, Setting
from benchmarks.cpu import CpuMeter
from benchmarks.load import LoadFailedError, Measured, run_load
from benchmarks.payloads import Sample, WrongAnswerError
from benchmarks.targets import Target, verify

_FINALISTS = 3
"""Settings that are tried once more under each load: a single short try may have been disturbed."""
_REVIVALS_MAX = 3
"""In one measurement."""
Say = Callable[[str], None]
Revive = Callable[[Target, Exception], Awaitable[bool]]
T = TypeVar("T")


async def again(attempt: Callable[[], Awaitable[T]], target: Target, revive: Revive) -> T:
    """What `attempt` measures at `target`; once more, some times, where `revive` mended what it failed at."""
    for _ in range(_REVIVALS_MAX):
        try:
            return await attempt()
        except (LoadFailedError, WrongAnswerError, httpx.HTTPError) as error:
            if not await revive(target, error):
                raise
    return await attempt()


@dataclass(frozen=True, slots=True)
class Row:
    """One target under one load in one round."""

    target: str
    title: str
    baseline: str
    """The target of the same round that it is compared with; its own name where it is one."""
    callers: int
    round: int
    measured: Measured


@dataclass(frozen=True, slots=True)
class Tried:
    """What a setting of bare Triton did under one load; of its tries, the best."""

    setting: Setting
    callers: int
    requests_per_s: float


class Rounds:
    """Measures. Whatever is wrong with an answer, and any request that fails, ends it with WrongAnswerError."""

    def __init__(
        self,
        *,
        h2load: Path,
        folder: Path,
        samples: Sequence[Sample],
        meter: CpuMeter,
        say: Say,
        revive: Revive,
    ) -> None:
        """`revive` mends what a measurement failed at, where the fault is not the mesh's; whether it did."""
        self._h2load = h2load
        self._folder = folder
        self._samples = samples
        self._meter = meter
        self._say = say
        self._revive = revive

    async def search(
        self,
        triton: BareTriton,
        served: Served,
        settings: Sequence[Setting],
        *,
        target_of: Callable[[str], Target],
        callers: Sequence[int],
        seconds: float,
    ) -> Sequence[Tried]:
        """Tries every setting under every load, and the best of them once more; `target_of` a model's name says how to
        ask. Leaves all of them loaded.
        """
        best: dict[tuple[int, Setting], float] = {}
        for setting in settings:
            await triton.load(served, setting)
            target = target_of(setting.model_name(served))
            for count in callers:
                best[count, setting] = (await self.measure(target, count, seconds)).requests_per_s
            shown = "  ".join(f"{count}: {best[count, setting]:,.0f}/s" for count in callers)
            self._say(f"  {setting}: {shown}")
        for count in callers:
            for setting in sorted(settings, key=lambda one: best[count, one], reverse=True)[:_FINALISTS]:
                again = await self.measure(target_of(setting.model_name(served)), count, seconds)
                best[count, setting] = max(best[count, setting], again.requests_per_s)
        return [Tried(setting, count, rate) for (count, setting), rate in best.items()]

    async def run(
        self, targets: Mapping[int, Sequence[Target]], *, rounds: int, seconds: float, rows_each: int = 1
    ) -> Sequence[Row]:
        """Every load, every target of that load, `rounds` times; every second round the other way about, so that what
        a target leaves behind (warm caches, a hot core) does not always meet the same neighbour.
        """
        rows: list[Row] = []
        for number in range(1, rounds + 1):
            for count, some in targets.items():
                for target in some if number % 2 else reversed(some):
                    measured = await self.measure(target, count, seconds)
                    rows.append(Row(target.name, target.title, target.baseline, count, number, measured))
                    self._say(
                        f"  round {number} of {rounds}, {count} callers, {target.title}: "
                        f"{measured.requests_per_s * rows_each:,.0f}/s, p95 {measured.p95_ms:.2f} ms"
                    )
        return rows

    async def measure(self, target: Target, callers: int, seconds: float) -> Measured:
        """One load, with answers checked before and after it; where bare Triton failed, once more, some times."""
        return await again(lambda: self._measure(target, callers, seconds), target, self._revive)

    async def _measure(self, target: Target, callers: int, seconds: float) -> Measured:
        answer_bytes = await verify(target, self._samples)
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
        await verify(target, self._samples)
        if measured.errors:
            raise WrongAnswerError(
                f"{target.title} failed {measured.errors} of {measured.done} requests of {callers} callers"
            )
        return measured


def winners(tried: Sequence[Tried]) -> Mapping[int, Setting]:
    """The best setting at each number of callers."""
    best: dict[int, Tried] = {}
    for one in tried:
        if one.callers not in best or one.requests_per_s > best[one.callers].requests_per_s:
            best[one.callers] = one
    return {callers: one.setting for callers, one in best.items()}
