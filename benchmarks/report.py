"""What was measured, as tables and verdicts for people and as JSON for programs."""

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson
from rich.console import Console
from rich.table import Table

from benchmarks.compare import Line, Verdict, cpu_by_role
from benchmarks.rounds import Row

_CPU_SHOWN_US = 0.05
"""What spends less for a request is left out."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    cpu: str
    cores: int
    system: str
    load_before: float
    """Processes that wanted a core in the minute before the run: above 0, others disturbed it."""


@dataclass(frozen=True, slots=True)
class PartReport:
    """What one part came to."""

    name: str
    title: str
    tables: Sequence[Table]
    verdicts: Sequence[Verdict]
    notes: Sequence[str] = ()
    """What a reader must know to read it: settings, rates, files."""
    data: Mapping[str, object] = field(default_factory=dict)
    """Everything that was measured, as JSON has it."""


def this_machine() -> Machine:
    """This machine, now."""
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return Machine(
        cpu=models[0] if models else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        load_before=os.getloadavg()[0],
    )


def new_table(title: str, *columns: str, text: Sequence[str] = ()) -> Table:
    """An empty table; numbers stand right, the columns in `text` left."""
    shown = Table(
        title=title, title_justify="left", min_width=len(title), box=None, header_style="bold", pad_edge=False
    )
    for name in columns:
        shown.add_column(name, justify="left" if name in text else "right", no_wrap=True)
    return shown


def line_table(title: str, lines: Sequence[Line], *, rows_each: int = 1) -> Table:
    """Targets by load. With several rows in a request, predictions a second instead of requests."""
    rate = "requests/s" if rows_each == 1 else "predictions/s"
    shown = new_table(
        title,
        *("callers", "target", rate, "p50 ms", "p95 ms", "p99 ms", "× bare", "p99 × bare", "p50 over bare, ms"),
        text=("target",),
    )
    before = 0
    for line in lines:
        if before and line.callers != before:
            shown.add_section()
        compared = ("1", "1", "0") if line.is_baseline else (line.throughput, line.p99, line.p50_over_ms)
        shown.add_row(
            "" if line.callers == before else str(line.callers),
            line.title,
            f"{line.requests_per_s * rows_each:,.0f}",
            *(f"{time_ms:.2f}" for time_ms in (line.p50_ms, line.p95_ms, line.p99_ms)),
            *map(str, compared),
        )
        before = line.callers
    return shown


def cpu_tables(rows: Sequence[Row]) -> Sequence[Table]:
    """Where each microsecond goes: for each load, what spends CPU on a request of each target."""
    spent = cpu_by_role(rows)
    titles = {row.target: row.title for row in rows}
    tables = []
    for callers in sorted({callers for _, callers in spent}):
        targets = [target for target, count in spent if count == callers]
        roles = {role: None for target in targets for role in spent[target, callers]}
        title = f"CPU of one request in µs, {callers} caller{'s' if callers > 1 else ''}"
        shown = new_table(title, "spent by", *(titles[target] for target in targets), text=("spent by",))
        for role in sorted(roles, key=lambda role: -max(spent[one, callers].get(role, 0.0) for one in targets)):
            figures = [spent[target, callers].get(role, 0.0) for target in targets]
            if max(figures) >= _CPU_SHOWN_US:
                shown.add_row(role, *(f"{figure:.1f}" if figure >= _CPU_SHOWN_US else "" for figure in figures))
        shown.add_section()
        shown.add_row("all", *(f"{sum(spent[target, callers].values()):.1f}" for target in targets))
        tables.append(shown)
    return tables


def show(console: Console, report: PartReport) -> None:
    """Prints a part."""
    console.rule(f"{report.name}: {report.title}", align="left")
    for table in report.tables:
        console.print(table)
        console.print()
    for note in report.notes:
        console.print(note)
    for verdict in report.verdicts:
        colour = "green" if verdict.met else "red"
        console.print(f"[{colour}]{'met  ' if verdict.met else 'short'}[/] {verdict.text}")
    console.print()


def as_json(*, command: str, moment: str, machine: Machine, reports: Sequence[PartReport]) -> bytes:
    """For programs: everything that was measured."""
    document = {
        "command": command,
        "time": moment,
        "machine": asdict(machine),
        "parts": [
            {
                "part": report.name,
                "title": report.title,
                "verdicts": [asdict(verdict) for verdict in report.verdicts],
                "notes": list(report.notes),
                **report.data,
            }
            for report in reports
        ],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _cpuinfo() -> Sequence[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
