"""What the rounds came to: tables and verdicts."""

import statistics
from collections.abc import Mapping, Sequence

from rich.table import Table

from benchmarks.compare import Spread, Verdict
from benchmarks.gpu.measure import Seen, Shot
from benchmarks.gpu.targets import MESH_OFF, MESH_ON
from benchmarks.report import new_table

FASTER_MIN = 3.0
BUSY_MIN = 80.0


def by_round(seen: Sequence[Seen]) -> Mapping[tuple[str, int, int], float]:
    """Requests a second by target, callers and round."""
    return {(one.row.target, one.row.callers, one.row.round): one.row.measured.requests_per_s for one in seen}


def closed_table(seen: Sequence[Seen], flops_per_row: float) -> Table:
    """Medians of the rounds; ratios to bare Triton in the same round."""
    columns = ("callers", "target", "requests/s", "p50 ms", "p95 ms", "p99 ms", "× bare", "p99 × bare")
    shown = new_table(
        "Closed loop, one row of 128 tokens a request",
        *(*columns, "rows a batch", "card busy %", "TFLOP/s", "W"),
        text=("target",),
    )
    carried = by_round(seen)
    late = {(one.row.target, one.row.callers, one.row.round): one.row.measured.p99_ms for one in seen}
    for callers, target in dict.fromkeys((one.row.callers, one.row.target) for one in seen):
        mine = [one for one in seen if (one.row.callers, one.row.target) == (callers, target)]
        row, measured = mine[0].row, [one.row.measured for one in mine]
        rate = statistics.median(one.requests_per_s for one in measured)
        places = [(one.row.baseline, callers, one.row.round) for one in mine]
        pairs = list(zip(measured, places, strict=True))
        bare = row.baseline == target
        shown.add_row(
            str(callers),
            row.title,
            f"{rate:,.0f}",
            *(f"{statistics.median(values):.2f}" for values in zip(*map(_times, mine), strict=True)),
            "1" if bare else str(Spread.of([one.requests_per_s / carried[at] for one, at in pairs])),
            "1" if bare else str(Spread.of([one.p99_ms / late[at] for one, at in pairs])),
            f"{statistics.median(one.rows_per_batch for one in mine):.1f}",
            f"{statistics.median(one.busy for one in mine):.0f}",
            f"{rate * flops_per_row / 1e12:.0f}",
            f"{statistics.median(one.watts for one in mine):.0f}",
        )
    return shown


def arrivals_table(title: str, shots: Sequence[Shot]) -> Table:
    """The same arrivals for all: medians of the rounds."""
    shown = new_table(
        f"{title}: Poisson, {shots[0].rate:,.0f}/s for all",
        *("target", "p50 ms", "p95 ms", "p99 ms", "p95 × bare", "rows a batch", "card busy %", "lag p99 ms"),
        text=("target",),
    )
    late = {(shot.target, shot.round): shot.p95_ms for shot in shots}
    for target in dict.fromkeys(shot.target for shot in shots):
        mine = [shot for shot in shots if shot.target == target]
        times = zip(*((one.p50_ms, one.p95_ms, one.p99_ms) for one in mine), strict=True)
        bare = mine[0].baseline == target
        shown.add_row(
            mine[0].title,
            *(f"{statistics.median(values):.2f}" for values in times),
            "1" if bare else str(Spread.of([one.p95_ms / late[one.baseline, one.round] for one in mine])),
            f"{statistics.median(one.rows_per_batch for one in mine):.1f}",
            f"{statistics.median(one.busy for one in mine):.0f}",
            f"{statistics.median(one.lag_p99_ms for one in mine):.2f}",
        )
    return shown


def judge(seen: Sequence[Seen], shots: Sequence[Shot]) -> Sequence[Verdict]:
    """Batching against none, round by round, and how busy the card was at most; medians decide."""
    carried = by_round(seen)
    verdicts = []
    for callers in sorted({callers for name, callers, _ in carried if name == MESH_OFF}):
        pairs = [(rate, carried[MESH_OFF, callers, at]) for (name, of, at), rate in carried.items()
                 if (name, of) == (MESH_ON, callers)]  # fmt: skip
        gain = Spread.of([on / off for on, off in pairs])
        text = f"throughput with batching at {callers} callers: {gain} × without, at least {FASTER_MIN:g}"
        verdicts.append(Verdict(gain.median >= FASTER_MIN, text))
    most = max(callers for _, callers, _ in carried)
    busy = Spread.of([one.busy for one in seen if (one.row.target, one.row.callers) == (MESH_ON, most)])
    text = f"the card is busy at {most} callers: {busy} %, above {BUSY_MIN:g}"
    verdicts.append(Verdict(busy.median > BUSY_MIN, text))
    late = {(shot.target, shot.round): shot.p95_ms for shot in shots}
    later = Spread.of([p95_ms / late[MESH_OFF, at] for (name, at), p95_ms in late.items() if name == MESH_ON])
    verdicts.append(Verdict(later.median <= 1, f"p95 with batching at equal load: {later} × without, at most 1"))
    return verdicts


def _times(seen: Seen) -> tuple[float, float, float]:
    measured = seen.row.measured
    return measured.p50_ms, measured.p95_ms, measured.p99_ms
