"""Requests of 32 rows, as a client sends that collects its own: what the mesh carries when rows count, not requests."""

from collections.abc import Sequence

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Line, Verdict, summarise
from benchmarks.parts.closed import against_bare, data_of, notes_of, wanted
from benchmarks.payloads import digits
from benchmarks.report import PartReport, cpu_tables, line_table
from benchmarks.stage import Stage
from benchmarks.targets import BARE, BATCHER, GATEWAY_GRPC, GATEWAY_TYPED

ROWS = 32
CALLERS = (8, 32)
PREDICTIONS_PER_S_MIN = 100_000
SETTINGS: Sequence[Setting] = (Setting(), Setting(instances=2), Setting(64), Setting(256), Setting(256, instances=2))


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    ways = wanted(stage.effort, (BATCHER, GATEWAY_GRPC, GATEWAY_TYPED))
    rounds = stage.rounds(digits(ROWS))
    tried, best, rows = await against_bare(
        stage, rounds, DIGITS_SERVED, {BARE: SETTINGS}, callers=CALLERS, ways=ways, rows_each=ROWS
    )
    lines = summarise(rows)
    return PartReport(
        name="rows32",
        title=f"requests of {ROWS} rows of digits",
        tables=[line_table(f"Requests of {ROWS} rows", lines, rows_each=ROWS), *cpu_tables(rows)],
        verdicts=[judge(lines, name) for name in ways if name != BATCHER],
        notes=notes_of(best),
        data=data_of(tried, best, rows),
    )


def judge(lines: Sequence[Line], target: str) -> Verdict:
    """By the load at which the target carries most."""
    best = max((line for line in lines if line.target == target), key=lambda line: line.requests_per_s)
    predictions_per_s = best.requests_per_s * ROWS
    return Verdict(
        predictions_per_s > PREDICTIONS_PER_S_MIN,
        f"{best.title} at {best.callers} callers: {predictions_per_s:,.0f} predictions/s, more than "
        f"{PREDICTIONS_PER_S_MIN:,}; {best.throughput} × bare Triton",
    )
