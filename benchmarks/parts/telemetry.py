"""What telemetry costs: two batchers beside a mesh's own, equal but for their times and traces, asked in turns.

Three kinds of turn: `off`; `on`, with times measured and a receiver of traces, by callers who ask for no trace; and
`traced`, the same batcher where every request carries a `traceparent`. Both batchers take the serving table and Triton
of a mesh and are asked without the gateway, so that the cost is a larger share than users ever see. The mesh is one of
the part's own: its gateway learns of both batchers, and would miss them when they stop. Throughput decides; CPU of a
request in the batcher's threads is shown beside it, since it holds on a machine that others disturb.
"""

import statistics
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace

from rich.table import Table

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Spread, Verdict
from benchmarks.cpu import CpuMeter
from benchmarks.load import LOAD_ROLE, Measured
from benchmarks.mesh import ROWS_MAX, BenchMesh, bench_mesh
from benchmarks.parts.closed import bare_of
from benchmarks.payloads import MODEL, Call, Sample, digits, open_inference
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
TURNS_MIN = 5
SECONDS_MAX = 1.0
"""Turns that follow each other closely meet the same disturbances; many short ones tell more than few long ones."""
COST_MAX = 0.02
ON, TRACED, OFF = "on", "traced", "off"
_BARE = Setting(64)
_TRACE = ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
"""A trace that its caller keeps, as the W3C's recommendation writes it."""


@dataclass(frozen=True, slots=True)
class Turn:
    """All kinds, and bare Triton, in one round."""

    callers: int
    round: int
    measured: Mapping[str, Measured]
    """By kind."""
    bare: Measured

    def throughput(self, kind: str) -> float:
        """As a multiple of that without telemetry."""
        return self.measured[kind].requests_per_s / self.measured[OFF].requests_per_s

    def cpu(self, kind: str) -> float:
        """The same for the CPU of a request in the batcher."""
        return batcher_us(self.measured[kind]) / batcher_us(self.measured[OFF])

    def against_bare(self, kind: str) -> float:
        """Throughput as a multiple of bare Triton's."""
        return self.measured[kind].requests_per_s / self.bare.requests_per_s


def batcher_us(measured: Measured) -> float:
    """CPU of a request in the batcher's process, in microseconds."""
    return sum(spent for role, spent in measured.cpu_us.items() if role != LOAD_ROLE)


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    triton, seconds = await stage.triton(), min(SECONDS_MAX, stage.effort.seconds)
    await triton.keep(DIGITS_SERVED, [_BARE])
    bare = bare_of(triton, BARE, _BARE.model_name(DIGITS_SERVED))
    turns: list[Turn] = []
    async with AsyncExitStack() as stack:
        stage.say("Starting a mesh of the part's own, with two more batchers")
        mesh = await stack.enter_async_context(bench_mesh(stage.folder / "telemetry", clock=stage.clock, batchers=1))
        await mesh.allow_batches(ROWS_MAX)
        sink = await stack.enter_async_context(trace_sink())
        on = await stack.enter_async_context(_batcher(stage, mesh, telemetry=True, otlp_endpoint=sink.address))
        off = await stack.enter_async_context(_batcher(stage, mesh, telemetry=False, otlp_endpoint=""))
        sides = {ON: on, TRACED: replace(on, target=_traced(on.target)), OFF: off}
        for number in range(1, max(TURNS_MIN, stage.effort.rounds) + 1):
            for callers in CALLERS:
                kinds = list(sides) if number % 2 else list(reversed(sides))
                found = {kind: await sides[kind].measure(callers, seconds) for kind in kinds}
                own = await on.rounds.measure(bare, callers, seconds)
                turns.append(Turn(callers, number, found, own))
                shown = ", ".join(
                    f"{kind}: throughput × {turns[-1].throughput(kind):.3f}, CPU × {turns[-1].cpu(kind):.3f}"
                    for kind in (ON, TRACED)
                )
                stage.say(f"  turn {number}, {callers} callers: {shown}")
    return PartReport(
        name="telemetry",
        title="the cost of times and traces",
        tables=[table(turns)],
        verdicts=[
            judge(kind, callers, [turn for turn in turns if turn.callers == callers])
            for kind in (ON, TRACED)
            for callers in CALLERS
        ],
        notes=[f"{sink.spans:,} spans were received; bare Triton: {_BARE}"],
        data={"turns": [asdict(turn) for turn in turns], "spans": sink.spans},
    )


def judge(kind: str, callers: int, turns: Sequence[Turn]) -> Verdict:
    """The median of the turns decides."""
    throughput = Spread.of([turn.throughput(kind) for turn in turns])
    cpu = Spread.of([turn.cpu(kind) for turn in turns])
    what = "telemetry" if kind == ON else "telemetry, every request traced,"
    return Verdict(
        throughput.median >= 1 - COST_MAX,
        f"{what} at {callers} callers: throughput × {throughput}, at least {1 - COST_MAX:g}; CPU × {cpu}",
    )


def table(turns: Sequence[Turn]) -> Table:
    """For people: medians of the turns."""
    shown = new_table(
        "The batcher with its telemetry, as a multiple of without",
        *("callers", "telemetry", "requests/s", "throughput", "batcher's CPU, µs", "CPU", "× bare"),
        text=("telemetry",),
    )
    for callers in CALLERS:
        mine = [turn for turn in turns if turn.callers == callers]
        for kind in (OFF, ON, TRACED):
            shown.add_row(
                str(callers) if kind == OFF else "",
                kind,
                f"{statistics.median(turn.measured[kind].requests_per_s for turn in mine):,.0f}",
                "1" if kind == OFF else str(Spread.of([turn.throughput(kind) for turn in mine])),
                f"{statistics.median(batcher_us(turn.measured[kind]) for turn in mine):.1f}",
                "1" if kind == OFF else str(Spread.of([turn.cpu(kind) for turn in mine])),
                str(Spread.of([turn.against_bare(kind) for turn in mine])),
            )
    return shown


@dataclass(frozen=True, slots=True)
class Side:
    """One way to ask one of the two batchers."""

    target: Target
    rounds: Rounds

    async def measure(self, callers: int, seconds: float) -> Measured:
        """One load."""
        return await self.rounds.measure(self.target, callers, seconds)


def _traced(target: Target) -> Target:
    """The same, every request part of a trace."""

    def call_for(sample: Sample) -> Call:
        call = target.call_for(sample)
        return replace(call, headers=(*call.headers, _TRACE))

    return replace(target, call_for=call_for, title=f"{target.title}, traced")


@asynccontextmanager
async def _batcher(stage: Stage, mesh: BenchMesh, *, telemetry: bool, otlp_endpoint: str) -> AsyncIterator[Side]:
    """A batcher beside the mesh's own, told of the same versions; the gateway does not know it."""
    name = ON if telemetry else OFF
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
            "telemetry": telemetry,
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
        rounds = stage.rounds(samples, meter=meter)
        yield Side(target, rounds)
    finally:
        await process.stop()
