"""Which requests are kept one by one, beside being counted."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from services.common.sampling import sampled, threshold_of
from services.monitor.domain.aggregate import EARLY_MAX_US, LATE_MAX_US
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import Group, Kind

_KINDS = {kind.value: kind.name.lower() for kind in Kind}


class LogRow(NamedTuple):
    """One row of inference_logs. A tuple: tens of thousands are made a second, and a dataclass takes longer."""

    request_id: str
    model: str
    version: str
    deployment: str
    input_hash: str
    output: str
    latency_ms: float
    error_message: str
    time_us: int
    user_id: str
    metadata: dict[str, str]


def sampled_rows(group: Group, *, sample_rate: float, now_us: int, reason_name: ReasonName) -> Iterator[LogRow]:
    """The requests to keep: all failed ones, and of the others the share `sample_rate`.

    Whether a request is kept depends on its id alone, so that every part of the mesh keeps the same ones.
    """
    if sample_rate <= 0 and not group.codes.any():
        return
    threshold = threshold_of(sample_rate)
    columns = _Columns(group, now_us=now_us)
    for place, (code, request_id) in enumerate(zip(columns.codes, columns.request_ids, strict=True)):
        if code or sampled(request_id, threshold):
            yield columns.row(place, reason_name)


class _Columns:
    """A group's columns as Python values: numpy's are slow one by one, and a row takes nearly all of them."""

    def __init__(self, group: Group, *, now_us: int) -> None:
        size = len(group.times_us)
        self.codes: list[int] = group.codes.tolist()
        self.request_ids = group.request_ids or [""] * size
        self._group = group
        self._kinds: list[int] = group.kinds.tolist()
        self._rows: list[int] = group.rows.tolist()
        self._reasons: list[int] = group.reasons.tolist()
        self._latencies_us: list[int] = group.latencies_us.tolist()
        self._times_us: list[int] = np.clip(group.times_us, now_us - LATE_MAX_US, now_us + EARLY_MAX_US).tolist()

    def row(self, place: int, reason_name: ReasonName) -> LogRow:
        """One of them."""
        group, code, kind = self._group, self.codes[place], self._kinds[place]
        metadata = {"rows": str(self._rows[place]), "code": str(code)}
        if kind:
            metadata["kind"] = _KINDS.get(kind, str(kind))
        if team := _at(group.teams, place):
            metadata["team"] = team
        if group.trace_ids and group.trace_ids[place]:
            metadata["trace_id"] = group.trace_ids[place].hex()
        return LogRow(
            request_id=self.request_ids[place],
            model=group.model,
            version=group.version,
            deployment=group.deployment,
            input_hash=group.input_hashes[place].hex() if group.input_hashes else "",
            output=_at(group.outputs, place),
            latency_ms=self._latencies_us[place] / 1000,
            error_message=reason_name(self._reasons[place]) if code else "",
            time_us=self._times_us[place],
            user_id=_at(group.users, place),
            metadata=metadata,
        )


def _at(column: Sequence[str], place: int) -> str:
    """The value of an optional column; "" where the column was not sent."""
    return column[place] if column else ""
