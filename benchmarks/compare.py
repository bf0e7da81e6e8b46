"""What the rounds come to: each target against its baseline of the same round, and bars that are met or missed."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.rounds import Row


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure of several rounds."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Sequence[float]) -> "Spread":
        """Raises StatisticsError where there are none."""
        return Spread(statistics.median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f}–{self.high:.2f})"


@dataclass(frozen=True, slots=True)
class Line:
    """One target under one load: medians of its rounds, and how it compares in each with its baseline."""

    target: str
    title: str
    is_baseline: bool
    callers: int
    requests_per_s: float
    p50_ms: float
    p95_ms: float
    p99_ms: float
    throughput: Spread
    """Requests per second as a multiple of the baseline's."""
    p99: Spread
    """As a multiple of the baseline's."""
    p50_over_ms: Spread
    """How much longer than the baseline's, in milliseconds."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a bar is met, in one sentence."""

    met: bool
    text: str

    def __str__(self) -> str:
        return f"{'met' if self.met else 'short'}: {self.text}"


@dataclass(frozen=True, slots=True)
class Bar:
    """What a target must reach under one load; the median of the rounds decides."""

    target: str
    callers: int
    what: str
    """The figure, and how it must stand to the bound: one of `BARS_OF`."""
    bound: float
    aim: float | None = None
    """What we would like it to reach."""

    def verdict(self, lines: Sequence[Line]) -> Verdict | None:
        """None where the run did not measure it."""
        line = next((one for one in lines if (one.target, one.callers) == (self.target, self.callers)), None)
        if line is None:
            return None
        figure_of, at_least, wording = BARS_OF[self.what]
        figure = figure_of(line)
        # As it is printed: a bound that shows as reached is reached.
        median = round(figure.median, 2)
        met = median >= self.bound if at_least else median <= self.bound
        aim = f" (aim {self.aim:g})" if self.aim is not None else ""
        many = "1 caller" if self.callers == 1 else f"{self.callers} callers"
        return Verdict(met, f"{line.title} at {many}: {figure}, {wording.format(bound=self.bound)}{aim}")


BARS_OF: Mapping[str, tuple[Callable[[Line], Spread], bool, str]] = {
    "throughput": (lambda line: line.throughput, True, "at least {bound:g} × bare Triton's throughput"),
    "p99": (lambda line: line.p99, False, "at most {bound:g} × bare Triton's p99"),
    "p50": (lambda line: line.p50_over_ms, False, "at most {bound:g} ms over bare Triton's p50"),
}
"""The figure of a line, whether more of it is better, and the sentence."""


def summarise(rows: Sequence[Row]) -> Sequence[Line]:
    """One line for each target and load, by load, within it as they were measured first."""
    by_place = {(row.target, row.callers, row.round): row.measured for row in rows}
    lines = []
    for target, callers in sorted({(row.target, row.callers): None for row in rows}, key=lambda key: key[1]):
        mine = [row for row in rows if (row.target, row.callers) == (target, callers)]
        pairs = [(row.measured, by_place[row.baseline, row.callers, row.round]) for row in mine]
        lines.append(
            Line(
                target=target,
                title=mine[0].title,
                is_baseline=mine[0].baseline == target,
                callers=callers,
                requests_per_s=statistics.median(own.requests_per_s for own, _ in pairs),
                p50_ms=statistics.median(own.p50_ms for own, _ in pairs),
                p95_ms=statistics.median(own.p95_ms for own, _ in pairs),
                p99_ms=statistics.median(own.p99_ms for own, _ in pairs),
                throughput=Spread.of([own.requests_per_s / bare.requests_per_s for own, bare in pairs]),
                p99=Spread.of([own.p99_ms / bare.p99_ms for own, bare in pairs]),
                p50_over_ms=Spread.of([own.p50_ms - bare.p50_ms for own, bare in pairs]),
            )
        )
    return lines


def cpu_by_role(rows: Sequence[Row]) -> Mapping[tuple[str, int], Mapping[str, float]]:
    """Microseconds of CPU for one request by what spent them, for each target and load: medians of the rounds."""
    found: dict[tuple[str, int], Mapping[str, float]] = {}
    for key in {(row.target, row.callers): None for row in rows}:
        mine = [row.measured.cpu_us for row in rows if (row.target, row.callers) == key]
        roles = {role: None for one in mine for role in one}
        found[key] = {role: statistics.median(one.get(role, 0.0) for one in mine) for role in roles}
    return found


def verdicts(bars: Sequence[Bar], lines: Sequence[Line]) -> Sequence[Verdict]:
    """Of the bars that the run measured."""
    return [verdict for bar in bars if (verdict := bar.verdict(lines)) is not None]
