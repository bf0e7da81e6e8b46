"""Makes prediction logs for the monitor's tests."""

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
from infermesh.monitor.v1 import prediction_log_pb2

from services.monitor.domain.records import Comparison, Group, Labels

EPOCH = datetime(2026, 1, 15, 11, 0, tzinfo=UTC)
"""When the batcher of these tests started."""


def message(
    sequence: int,
    *groups: prediction_log_pb2.PredictionGroup,
    batcher_id: str = "batcher-0",
    epoch: datetime = EPOCH,
    dropped_total: int = 0,
) -> prediction_log_pb2.RecordPredictionsRequest:
    """A chunk as it is sent."""
    chunk = prediction_log_pb2.RecordPredictionsRequest(
        batcher_id=batcher_id, sequence=sequence, dropped_total=dropped_total, groups=groups
    )
    chunk.epoch.FromDatetime(epoch)
    return chunk


def group_message(
    latencies_us: Sequence[int],
    *,
    at: datetime,
    model: str = "digits",
    version: str = "v1.0.0",
    deployment: str = "main",
    codes: Sequence[int] = (),
    reasons: Sequence[int] = (),
    by_class: dict[str, int] | None = None,
    by_confidence: dict[str, int] | None = None,
) -> prediction_log_pb2.PredictionGroup:
    """Requests that were answered one microsecond after another."""
    first_us = int(at.timestamp() * 1_000_000)
    return prediction_log_pb2.PredictionGroup(
        model_name=model,
        version=version,
        deployment_name=deployment,
        request_times_us=[first_us + place for place in range(len(latencies_us))],
        request_latencies_us=latencies_us,
        request_codes=codes,
        request_reasons=reasons,
        request_ids=[f"req_{place}" for place in range(len(latencies_us))],
        predictions_by_class=by_class or {},
        predictions_by_confidence=by_confidence or {},
    )


def group_of(
    latencies_us: Sequence[int],
    *,
    times_us: Sequence[int],
    model: str = "digits",
    version: str = "v1.0.0",
    codes: Sequence[int] = (),
    reasons: Sequence[int] = (),
    kinds: Sequence[int] = (),
    rows: Sequence[int] = (),
    by_class: dict[str, int] | None = None,
    request_ids: Sequence[str] = (),
    labels: Sequence[Labels] = (),
    comparisons: Sequence[Comparison] = (),
    teams: Sequence[str] = (),
    compute_us: Sequence[int] = (),
    gpus: float = 0.0,
) -> Group:
    """Requests as the domain has them."""
    size = len(latencies_us)

    def column(values: Sequence[int], default: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values or [default] * size, dtype=np.int64)

    return Group(
        model=model,
        version=version,
        deployment="main",
        times_us=column(times_us, 0),
        latencies_us=column(latencies_us, 0),
        rows=column(rows, 1),
        codes=column(codes, 0),
        reasons=column(reasons, 0),
        kinds=column(kinds, 0),
        request_ids=list(request_ids) or [f"req_{place}" for place in range(size)],
        users=[],
        teams=list(teams),
        compute_us=column(compute_us, 0),
        gpus=gpus,
        input_hashes=[],
        outputs=[],
        trace_ids=[],
        by_class=by_class or {},
        by_confidence={},
        labels=labels,
        comparisons=comparisons,
    )
