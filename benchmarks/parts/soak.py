"""Hours in minutes: full load through the gateway while the monitor answers nobody; memory must stay flat.

The monitor takes the batcher's prediction log. It is stopped (SIGSTOP) and not killed: the supervisor would start it
again, and a monitor that still holds its connections while it reads nothing is the worse neighbour.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Verdict
from benchmarks.load import LoadFailedError, Measured
from benchmarks.memory import columns, growth, resident_mib
from benchmarks.mesh import BenchMesh
from benchmarks.parts.closed import bare_of
from benchmarks.payloads import digits
from benchmarks.plot import line_plot, sparkline
from benchmarks.report import PartReport, new_table
from benchmarks.stage import Stage
from benchmarks.targets import BARE, GATEWAY_GRPC
from services.common.clock import Clock

CALLERS = 256
GROWTH_MAX = 0.05
WATCHED = ("gateway", "batcher", "triton")
_SAMPLES = 600
_SAMPLE_EVERY_S_MIN = 0.5
_STRETCH_S = 10.0
"""The load runs in stretches, with answers checked between them."""
_BARE = Setting(64)


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    mesh, seconds = await stage.mesh(), stage.effort.soak_minutes * 60
    triton = await stage.triton()
    await triton.keep(DIGITS_SERVED, [_BARE])
    (target,) = await stage.targets([GATEWAY_GRPC])
    rounds = stage.rounds(digits())
    bare = await rounds.measure(bare_of(triton, BARE, _BARE.model_name(DIGITS_SERVED)), CALLERS, stage.effort.seconds)
    stretches: list[Measured] = []
    async with _stopped(mesh.pids()["monitor"]), _watching(mesh, stage.clock, seconds) as seen:
        end_s = stage.clock.monotonic() + seconds
        while (left_s := end_s - stage.clock.monotonic()) > 0:
            stretches.append(await rounds.measure(target, CALLERS, max(1.0, min(_STRETCH_S, left_s))))
            latest = ", ".join(f"{name} {held:.0f} MiB" for name, held in list(seen.values())[-1].items())
            stage.say(f"  {max(0.0, left_s) / 60:.1f} min left, {stretches[-1].requests_per_s:,.0f}/s, {latest}")
    memory = columns(list(seen.values()))
    minutes = [at_s / 60 for at_s in seen]
    plot = line_plot(
        "Resident memory at full load, the monitor stopped", x_label="minutes", y_label="MiB", x=minutes, series=memory
    )
    stage.effort.plot.parent.mkdir(parents=True, exist_ok=True)
    stage.effort.plot.write_text(plot)
    shown = new_table(
        f"Memory in {len(minutes)} samples",
        "process",
        "first MiB",
        "last MiB",
        "growth",
        "course",
        text=("process", "course"),
    )
    for name, held in memory.items():
        shown.add_row(name, f"{held[0]:.1f}", f"{held[-1]:.1f}", f"{_growth(held):+.1%}", sparkline(held))
    first, last = stretches[0].requests_per_s, stretches[-1].requests_per_s
    return PartReport(
        name="soak",
        title=f"{seconds / 60:g} minutes at full load, the monitor stopped",
        tables=[shown],
        verdicts=[judge(name, held) for name, held in memory.items()],
        notes=[
            f"{sum(one.done for one in stretches):,} requests",
            f"first stretch {first:,.0f}/s, {first / bare.requests_per_s:.2f} × bare Triton's just before the soak",
            f"last stretch {last:,.0f}/s, {last / bare.requests_per_s:.2f} × bare Triton's just before the soak",
            f"plot: {stage.effort.plot}",
        ],
        data={
            "minutes": minutes,
            "resident_mib": memory,
            "stretches": [asdict(one) for one in stretches],
            "bare": asdict(bare),
        },
    )


def judge(name: str, held: Sequence[float]) -> Verdict:
    """Whether it is flat."""
    grown = _growth(held)
    return Verdict(grown <= GROWTH_MAX, f"memory of {name}: {grown:+.1%}, at most {GROWTH_MAX:+.0%}")


def _growth(held: Sequence[float]) -> float:
    try:
        return growth(held)
    except ValueError as error:
        raise LoadFailedError(str(error)) from None


@asynccontextmanager
async def _stopped(pid: int) -> AsyncIterator[None]:
    """A process that neither runs nor dies meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def _watching(
    mesh: BenchMesh, clock: Clock, seconds: float
) -> AsyncIterator[Mapping[float, Mapping[str, float]]]:
    """What each watched part holds in MiB, by the seconds since the start; filled while it runs."""
    seen: dict[float, Mapping[str, float]] = {}
    began_s, every_s = clock.monotonic(), max(_SAMPLE_EVERY_S_MIN, seconds / _SAMPLES)

    def look() -> None:
        pids = mesh.pids()
        seen[clock.monotonic() - began_s] = {name: resident_mib(pids[name]) for name in WATCHED if name in pids}

    async def watch() -> None:
        while True:
            await asyncio.sleep(every_s)
            await asyncio.to_thread(look)

    look()
    watcher = asyncio.create_task(watch(), name="watch-memory")
    try:
        yield seen
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)
