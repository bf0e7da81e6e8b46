"""Samples of the rows that versions answer, for drift: taken beside the prediction log, sent with it.

Not taken where the monitor did not ask for them, and never more than it asked for: what a request pays is a look-up, an
addition and a comparison. Values are read off the hot path, when a chunk is cut.
"""

from collections.abc import Callable, Iterator
from math import inf

from infermesh.monitor.v1 import prediction_log_pb2 as pb

from services.batcher.domain.request import Tensor
from services.batcher.domain.reservoir import Reservoir
from services.batcher.domain.row_columns import Column, ColumnPlan, SampledRow, small
from services.batcher.faces.call import Call
from services.batcher.faces.catalog import VersionPlan

_CHUNK_VALUES_MAX = 4000
"""Reading them holds the loop for a few milliseconds."""
ROWS_A_SECOND_MAX = 1000.0
"""What the monitor asks for beyond it is not sent."""


class RowSamples:
    """A reservoir for each version that answers."""

    def __init__(self, *, period_s: float, chance: Callable[[], float]) -> None:
        """`period_s`: how often `drain` is called."""
        self._period_s = period_s
        self._chance = chance
        self._size = 0
        self._drained_s = -inf
        self._versions: dict[VersionPlan, tuple[Reservoir[SampledRow], ColumnPlan]] = {}

    def ask_for(self, rows_a_second: float) -> None:
        """How many rows of each version are wanted; 0 for none."""
        rows = min(max(0.0, rows_a_second), ROWS_A_SECOND_MAX)
        size = max(1, round(rows * self._period_s)) if rows else 0
        if size != self._size:
            self._size = size
            self._versions.clear()

    def offer(self, call: Call, plan: VersionPlan) -> None:
        """Looks at an answered request."""
        if not self._size:
            return
        known = self._versions.get(plan)
        if known is None:
            known = Reservoir[SampledRow](self._size, self._chance), ColumnPlan(plan.served, plan.outputs)
            self._versions[plan] = known
        reservoir = known[0]
        rows = call.rows
        reservoir.seen += rows
        if reservoir.next_at < reservoir.seen:
            _take(reservoir, call, rows)

    def drain(self, *, now_s: float, time_us: int) -> Iterator[tuple[VersionPlan, pb.SampledRows]]:
        """The samples since the last time, at most once a period, and an end to those of versions that answered nothing
        since. Where there are too many values for one message, some versions wait for the next."""
        if now_s - self._drained_s < self._period_s:
            return
        self._drained_s = now_s
        values = 0
        for plan, (reservoir, columns) in list(self._versions.items()):
            if values >= _CHUNK_VALUES_MAX:
                return
            # To the end, so that those who waited come first.
            known = self._versions.pop(plan)
            seen, kept = reservoir.drain()
            if not kept:
                continue
            self._versions[plan] = known
            # As the logging policy is now: what it keeps back leaves with no sample either.
            made = [_column(column) for column in columns.columns(kept, plan.redacted)]
            values += len(made) * len(kept)
            yield (
                plan,
                pb.SampledRows(
                    seen_count=seen,
                    row_count=len(kept),
                    time_us=time_us,
                    columns=made,
                    confidences=columns.confidences(kept, plan.redacted),
                ),
            )


def _take(reservoir: Reservoir[SampledRow], call: Call, rows: int) -> None:
    inputs: tuple[Tensor, ...] = small(call.request.inputs) if call.request is not None else ()
    outputs: tuple[Tensor, ...] = small(call.result.outputs) if call.result is not None else ()
    scores = call.scores

    def row_at(row: int) -> SampledRow:
        if scores is None:
            return SampledRow(inputs, outputs, row)
        return SampledRow(inputs, outputs, row, scores.classes[row], scores.confidences[row])

    reservoir.take(rows, row_at)


def _column(column: Column) -> pb.SampledColumn:
    missing = [at for at, name in enumerate(column.categories) if name is None]
    return pb.SampledColumn(
        feature=column.name,
        output=column.output,
        numbers=column.numbers,
        categories=[name or "" for name in column.categories],
        missing_rows=missing,
    )
