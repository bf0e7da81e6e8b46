"""One caller: what the mesh adds to the time of a request that nobody shares."""

from collections.abc import Sequence

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Bar, summarise, verdicts
from benchmarks.parts.closed import against_bare, data_of, notes_of, wanted
from benchmarks.payloads import digits
from benchmarks.report import PartReport, cpu_tables, line_table
from benchmarks.stage import Stage
from benchmarks.targets import BARE, BARE_JSON, BATCHER, GATEWAY_GRPC, GATEWAY_REST, GATEWAY_TYPED

SETTINGS: Sequence[Setting] = (Setting(), Setting(instances=2), Setting(64))
BARS: Sequence[Bar] = (
    Bar(BATCHER, 1, "p50", 0.4),
    *(Bar(name, 1, "p50", 1.0) for name in (GATEWAY_GRPC, GATEWAY_TYPED, GATEWAY_REST)),
)


async def measure(stage: Stage) -> PartReport:
    """Raises LoadFailedError, PartFailedError, WrongAnswerError."""
    rounds = stage.rounds(digits())
    settings = {BARE: SETTINGS, BARE_JSON: SETTINGS}
    tried, best, rows = await against_bare(
        stage, rounds, DIGITS_SERVED, settings, callers=(1,), ways=wanted(stage.effort)
    )
    lines = summarise(rows)
    return PartReport(
        name="one",
        title="one caller, single rows of digits",
        tables=[line_table("Requests of one row, one after the other", lines), *cpu_tables(rows)],
        verdicts=verdicts(BARS, lines),
        notes=notes_of(best),
        data=data_of(tried, best, rows),
    )
