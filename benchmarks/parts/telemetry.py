"""What telemetry costs: two batchers beside the mesh's own, equal but for their times and traces, asked in turns.

Both take the mesh's serving table and Triton, and are asked without the gateway, so that the cost is a larger share
than users ever see. Throughput decides; CPU of a request in the batcher's threads is shown beside it, since it holds on
a machine that others disturb.
"""

import statistics
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass

from rich.table import Table

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Spread, Verdict
from benchmarks.cpu import CpuMeter
from benchmarks.load import LOAD_ROLE, Measured
from benchmarks.mesh import BenchMesh
from benchmarks.parts.closed import bare_of
from benchmarks.payloads import MODEL, digits, open_inference
from benchmarks.report import PartReport, new_table
from benchmarks.rounds import Rounds
from benchmarks.stage import Stage
from benchmarks.targets import BARE, BATCHER, Target
from benchmarks.traces import trace_sink
from services.supervisor.parts.probes import http_ready
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process

CALLERS = (64, 256)
PAIRS_MIN = 5
COST_MAX = 0.02
_BARE = Setting(64)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both batchers and bare Triton in one round."""

    callers: int
    round: int
    on: Measured
    off: Measured
    bare: Measured

    @property
    def throughput(self) -> float:
        """With telemetry, as a multiple of without."""
        return self.on.requests_per_s / self.off.requests_per_s

    @property
    def cpu(self) -> float:
        """The same for the CPU of a request in the batcher."""
        return batcher_us(self.on) / batcher_us(self.off)


def batcher_us(measured: Measured) -> float:
    """CPU of a request in the batcher's process, in microseconds."""
    return sum(spent for role, spent in measured.cpu_us.items() if role != LOAD_ROLE)


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    mesh, triton = await stage.mesh(), await stage.triton()
    await triton.keep(DIGITS_SERVED, [_BARE])
    bare = bare_of(triton, BARE, _BARE.model_name(DIGITS_SERVED))
    pairs: list[Pair] = []
    async with AsyncExitStack() as stack:
        sink = await stack.enter_async_context(trace_sink())
        on = await stack.enter_async_context(_batcher(stage, mesh, "on", sink.address))
        off = await stack.enter_async_context(_batcher(stage, mesh, "off", ""))
        for number in range(1, max(PAIRS_MIN, stage.effort.rounds) + 1):
            for callers in CALLERS:
                order = (on, off) if number % 2 else (off, on)
                found = {side.name: await side.measure(callers, stage.effort.seconds) for side in order}
                own = await on.rounds.measure(bare, callers, stage.effort.seconds)
                pairs.append(Pair(callers, number, found["on"], found["off"], own))
                stage.say(
                    f"  pair {number}, {callers} callers: throughput × {pairs[-1].throughput:.3f}, "
                    f"CPU × {pairs[-1].cpu:.3f}"
                )
    return PartReport(
        name="telemetry",
        title="the cost of times and traces",
        tables=[table(pairs)],
        verdicts=[judge(callers, [pair for pair in pairs if pair.callers == callers]) for callers in CALLERS],
        notes=[f"{sink.spans:,} spans were received; bare Triton: {_BARE}"],
        data={"pairs": [asdict(pair) for pair in pairs], "spans": sink.spans},
    )


def judge(callers: int, pairs: Sequence[Pair]) -> Verdict:
    """The median of the pairs decides."""
    throughput, cpu = Spread.of([pair.throughput for pair in pairs]), Spread.of([pair.cpu for pair in pairs])
    return Verdict(
        throughput.median >= 1 - COST_MAX,
        f"telemetry at {callers} callers: throughput × {throughput}, at least {1 - COST_MAX:g}; CPU × {cpu}",
    )


def table(pairs: Sequence[Pair]) -> Table:
    """For people: medians of the pairs."""
    shown = new_table(
        "The batcher with its telemetry, as a multiple of without",
        *("callers", "on/s", "off/s", "throughput", "on, CPU µs", "off, CPU µs", "CPU", "on × bare", "off × bare"),
    )
    for callers in CALLERS:
        mine = [pair for pair in pairs if pair.callers == callers]
        shown.add_row(
            str(callers),
            f"{statistics.median(pair.on.requests_per_s for pair in mine):,.0f}",
            f"{statistics.median(pair.off.requests_per_s for pair in mine):,.0f}",
            str(Spread.of([pair.throughput for pair in mine])),
            f"{statistics.median(batcher_us(pair.on) for pair in mine):.1f}",
            f"{statistics.median(batcher_us(pair.off) for pair in mine):.1f}",
            str(Spread.of([pair.cpu for pair in mine])),
            str(Spread.of([pair.on.requests_per_s / pair.bare.requests_per_s for pair in mine])),
            str(Spread.of([pair.off.requests_per_s / pair.bare.requests_per_s for pair in mine])),
        )
    return shown


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two batchers."""

    name: str
    target: Target
    rounds: Rounds

    async def measure(self, callers: int, seconds: float) -> Measured:
        """One load."""
        return await self.rounds.measure(self.target, callers, seconds)


@asynccontextmanager
async def _batcher(stage: Stage, mesh: BenchMesh, name: str, otlp_endpoint: str) -> AsyncIterator[Side]:
    """A batcher beside the mesh's own, told of the same versions; the gateway does not know it."""
    (port,) = free_ports(1)
    folder = stage.folder / f"telemetry-{name}"
    folder.mkdir()
    part = service_part(
        "batcher",
        ports={"batcher": port},
        settings={
            "port": port,
            "instance": f"batcher-telemetry-{name}",
            "data_dir": folder / "data",
            "router_address": f"127.0.0.1:{mesh.ports['router']}",
            "monitor_address": f"127.0.0.1:{mesh.ports['monitor']}",
            "log_level": "warning",
            "telemetry": name == "on",
            "otlp_endpoint": otlp_endpoint,
        },
        work_dir=folder,
        log_path=folder / "batcher.log",
        ready=http_ready("127.0.0.1", port, "/ready"),
    )
    process = await Process.start(part, clock=stage.clock)
    try:
        await process.wait_ready()
        target = Target(
            BATCHER,
            f"127.0.0.1:{port}",
            lambda sample: open_inference(MODEL, sample),
            f"batcher with telemetry {name}",
            BARE,
        )
        meter = CpuMeter(lambda: {"batcher": process.pid})
        samples = digits()
        rounds = Rounds(h2load=stage.h2load, folder=stage.folder, samples=samples, meter=meter, say=stage.say)
        yield Side(name, target, rounds)
    finally:
        await process.stop()
