"""What was measured, as a table, as bars that are passed or not, and as JSON."""

import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson
from rich.table import Table

from benchmarks.bare_triton import Setting
from benchmarks.rounds import Row, Tried
from benchmarks.targets import BARE, BATCHER, GATEWAY_GRPC, TITLES


@dataclass(frozen=True, slots=True)
class Ratio:
    """Requests per second as a multiple of bare Triton's in the same round."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Line:
    """One target under one load: medians of its rounds, the sum of its errors."""

    target: str
    callers: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    errors: int
    ratio: Ratio


@dataclass(frozen=True, slots=True)
class Bar:
    """What must be reached."""

    target: str
    callers: int
    ratio_min: float

    def verdict(self, lines: Sequence[Line]) -> str | None:
        """One sentence; None where the run did not measure it."""
        line = next((one for one in lines if (one.target, one.callers) == (self.target, self.callers)), None)
        if line is None:
            return None
        word = "pass" if line.ratio.median >= self.ratio_min and not line.errors else "short"
        return (
            f"{word}: {TITLES[self.target]} at {self.callers} callers ≥ {self.ratio_min:g} × bare Triton: {line.ratio}"
        )


BARS: Sequence[Bar] = (Bar(BATCHER, 256, 1.0), Bar(GATEWAY_GRPC, 256, 0.5))


@dataclass(frozen=True, slots=True)
class Machine:
    """Where it ran."""

    cpu: str
    cores: int
    system: str
    load_before: float
    """Processes that wanted a core in the minute before the run: above 0, others disturbed it."""


def this_machine() -> Machine:
    """This machine, now."""
    models = [line.partition(":")[2].strip() for line in _cpuinfo() if line.startswith("model name")]
    return Machine(
        cpu=models[0] if models else platform.processor(),
        cores=len(os.sched_getaffinity(0)),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        load_before=os.getloadavg()[0],
    )


def summarise(rows: Sequence[Row]) -> Sequence[Line]:
    """One line for each target and load, in the order in which they were measured first."""
    bare = {(row.callers, row.round): row.measured.requests_per_s for row in rows if row.target == BARE}
    lines = []
    for target, callers in sorted({(row.target, row.callers): None for row in rows}, key=lambda key: key[1]):
        mine = [row for row in rows if (row.target, row.callers) == (target, callers)]
        ratios = [row.measured.requests_per_s / bare[row.callers, row.round] for row in mine]
        lines.append(
            Line(
                target=target,
                callers=callers,
                requests_per_s=statistics.median(row.measured.requests_per_s for row in mine),
                p50_ms=statistics.median(row.measured.p50_ms for row in mine),
                p95_ms=statistics.median(row.measured.p95_ms for row in mine),
                p99_ms=statistics.median(row.measured.p99_ms for row in mine),
                errors=sum(row.measured.errors for row in mine),
                ratio=Ratio(statistics.median(ratios), min(ratios), max(ratios)),
            )
        )
    return lines


def table(lines: Sequence[Line]) -> Table:
    """For people."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for name in ("callers", "target", "requests/s", "p50 ms", "p95 ms", "p99 ms", "errors", "× bare (min–max)"):
        shown.add_column(name, justify="left" if name == "target" else "right")
    before = 0
    for line in lines:
        if before and line.callers != before:
            shown.add_section()
        shown.add_row(
            "" if line.callers == before else str(line.callers),
            TITLES[line.target],
            f"{line.requests_per_s:,.0f}",
            *(f"{time_ms:.2f}" for time_ms in (line.p50_ms, line.p95_ms, line.p99_ms)),
            str(line.errors),
            "1" if line.target == BARE else str(line.ratio),
        )
        before = line.callers
    return shown


def as_json(
    *,
    command: str,
    moment: str,
    machine: Machine,
    tried: Sequence[Tried],
    winners: Mapping[int, Setting],
    rows: Sequence[Row],
) -> bytes:
    """For programs: everything that was measured."""
    lines = summarise(rows)
    document = {
        "command": command,
        "time": moment,
        "machine": asdict(machine),
        "bare_triton_settings": [{**asdict(one), "setting": str(one.setting)} for one in tried],
        "bare_triton_best": {str(callers): str(setting) for callers, setting in winners.items()},
        "lines": [asdict(line) for line in lines],
        "rows": [asdict(row) for row in rows],
        "bars": [verdict for bar in BARS if (verdict := bar.verdict(lines))],
    }
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def _cpuinfo() -> Sequence[str]:
    try:
        return Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
