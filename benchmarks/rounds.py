"""The order of measurements: first Triton's best setting at each load, then rounds in which all targets take turns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bare_triton import BareTriton, Setting
from benchmarks.load import Measured, run_load
from benchmarks.payloads import Digit
from benchmarks.targets import TITLES, Target, bare_target, verify

_FINALISTS = 3
"""Settings that are tried once more under each load: a single short try may have been disturbed."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One target under one load in one round."""

    target: str
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
    """Measures. Whatever is wrong with an answer ends it with WrongAnswerError."""

    def __init__(self, *, h2load: Path, folder: Path, seconds: float, digits: Sequence[Digit], say: Say) -> None:
        self._h2load = h2load
        self._folder = folder
        self._seconds = seconds
        self._digits = digits
        self._say = say

    async def search(
        self, triton: BareTriton, settings: Sequence[Setting], *, callers: Sequence[int], seconds: float
    ) -> Sequence[Tried]:
        """Tries every setting under every load, and the best of them once more. Leaves all of them loaded."""
        best: dict[tuple[int, Setting], float] = {}
        for setting in settings:
            await triton.load(setting)
            for count in callers:
                best[count, setting] = await self._rate(triton, setting, count, seconds)
            shown = "  ".join(f"{count}: {best[count, setting]:,.0f}/s" for count in callers)
            self._say(f"  {setting}: {shown}")
        for count in callers:
            for setting in sorted(settings, key=lambda one: best[count, one], reverse=True)[:_FINALISTS]:
                best[count, setting] = max(best[count, setting], await self._rate(triton, setting, count, seconds))
        return [Tried(setting, count, rate) for (count, setting), rate in best.items()]

    async def run(
        self,
        triton: BareTriton,
        winners: Mapping[int, Setting],
        others: Sequence[Target],
        *,
        rounds: int,
    ) -> Sequence[Row]:
        """Every load, every target, `rounds` times. Bare Triton serves each load in the setting that won there."""
        rows: list[Row] = []
        for number in range(1, rounds + 1):
            for count, setting in winners.items():
                bare = bare_target(triton.grpc_address, setting.model_name)
                for target in (bare, *others):
                    measured = await self._measure(target, count, self._seconds)
                    rows.append(Row(target.name, count, number, measured))
                    errors = f", {measured.errors} errors" if measured.errors else ""
                    self._say(
                        f"  round {number} of {rounds}, {count} callers, {TITLES[target.name]}: "
                        f"{measured.requests_per_s:,.0f}/s, p95 {measured.p95_ms:.2f} ms{errors}"
                    )
        return rows

    async def _rate(self, triton: BareTriton, setting: Setting, callers: int, seconds: float) -> float:
        target = bare_target(triton.grpc_address, setting.model_name)
        return (await self._measure(target, callers, seconds)).requests_per_s

    async def _measure(self, target: Target, callers: int, seconds: float) -> Measured:
        """One load, with answers checked before and after it."""
        answer_bytes = await verify(target, self._digits)
        measured = await run_load(
            self._h2load,
            address=target.address,
            call=target.call_for(self._digits[0]),
            callers=callers,
            seconds=seconds,
            answer_bytes=answer_bytes,
            folder=self._folder,
        )
        await verify(target, self._digits)
        return measured


def winners(tried: Sequence[Tried]) -> Mapping[int, Setting]:
    """The best setting at each number of callers."""
    best: dict[int, Tried] = {}
    for one in tried:
        if one.callers not in best or one.requests_per_s > best[one.callers].requests_per_s:
            best[one.callers] = one
    return {callers: one.setting for callers, one in best.items()}
