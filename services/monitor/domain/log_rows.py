"""Which requests are kept one by one, beside being counted."""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.monitor.domain.aggregate import EARLY_MAX_US, LATE_MAX_US
from services.monitor.domain.measures import ReasonName
from services.monitor.domain.records import Group, Kind

_HASH_RANGE = 2**32


@dataclass(frozen=True, slots=True)
class LogRow:
    """One row of inference_logs."""

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
    threshold = sample_rate * _HASH_RANGE
    for place in range(len(group.times_us)):
        request_id = _at(group.request_ids, place)
        if not group.codes[place] and zlib.crc32(request_id.encode()) >= threshold:
            continue
        yield _row(group, place, request_id, now_us, reason_name)


def _row(group: Group, place: int, request_id: str, now_us: int, reason_name: ReasonName) -> LogRow:
    failed = bool(group.codes[place])
    metadata = {"rows": str(group.rows[place]), "code": str(group.codes[place])}
    if group.kinds[place]:
        kind = int(group.kinds[place])
        metadata["kind"] = Kind(kind).name.lower() if kind in Kind.__members__.values() else str(kind)
    if team := _at(group.teams, place):
        metadata["team"] = team
    if group.trace_ids and group.trace_ids[place]:
        metadata["trace_id"] = group.trace_ids[place].hex()
    return LogRow(
        request_id=request_id,
        model=group.model,
        version=group.version,
        deployment=group.deployment,
        input_hash=group.input_hashes[place].hex() if group.input_hashes else "",
        output=_at(group.outputs, place),
        latency_ms=int(group.latencies_us[place]) / 1000,
        error_message=reason_name(int(group.reasons[place])) if failed else "",
        time_us=int(np.clip(group.times_us[place], now_us - LATE_MAX_US, now_us + EARLY_MAX_US)),
        user_id=_at(group.users, place),
        metadata=metadata,
    )


def _at(column: Sequence[str], place: int) -> str:
    """The value of an optional column; "" where the column was not sent."""
    return column[place] if column else ""
