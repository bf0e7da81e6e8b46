"""The faces: every call is there, and what is not understood is refused with its name."""

from datetime import UTC, datetime

import pytest
from infermesh.common.v1 import error_reason_pb2
from infermesh.monitor.v1 import evidence_service_pb2, monitor_service_pb2, prediction_log_pb2

from services.common.errors import MeshError
from services.monitor.convert.log import chunk_from_proto, reason_name
from services.monitor.servicers.evidence import EvidenceServicer
from services.monitor.servicers.monitor import MonitorServicer
from tests.support.monitor_log import EPOCH, group_message, message

AT = datetime(2026, 1, 15, 12, tzinfo=UTC)
METHODS = [
    *(
        (MonitorServicer, method)
        for method in monitor_service_pb2.DESCRIPTOR.services_by_name["MonitorService"].methods
    ),
    *(
        (EvidenceServicer, method)
        for method in evidence_service_pb2.DESCRIPTOR.services_by_name["EvidenceService"].methods
    ),
]


@pytest.mark.parametrize(("servicer", "method"), METHODS, ids=lambda value: getattr(value, "name", ""))
def test_a_call_is_there(servicer: type, method: object) -> None:
    name = str(getattr(method, "name", ""))
    assert any(name in vars(part) and part.__module__.startswith("services.monitor") for part in servicer.__mro__)


def test_a_chunk_is_read() -> None:
    chunk = chunk_from_proto(message(3, group_message([10, 20], at=AT, by_class={"a\0b": 2}), dropped_total=5))
    assert (chunk.stream.batcher_id, chunk.stream.epoch_us) == ("batcher-0", int(EPOCH.timestamp()) * 1_000_000)
    assert (chunk.sequence, chunk.dropped_total, chunk.refused_groups) == (3, 5, 0)
    [group] = chunk.groups
    assert group.latencies_us.tolist() == [10, 20]
    assert group.rows.tolist() == [1, 1]
    assert group.codes.tolist() == [0, 0]
    assert group.by_class == {"a\ufffdb": 2}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (message(0), "sequence"),
        (message(1, batcher_id=""), "batcher_id"),
        (message(1, batcher_id="x" * 200), "batcher_id"),
        (prediction_log_pb2.RecordPredictionsRequest(batcher_id="a", sequence=1), "epoch"),
    ],
)
def test_a_chunk_without_a_place_in_its_stream_is_refused(
    wrong: prediction_log_pb2.RecordPredictionsRequest, field: str
) -> None:
    with pytest.raises(MeshError) as caught:
        chunk_from_proto(wrong)
    assert caught.value.violations[0].field == field


def test_bad_groups_are_left_out_and_counted() -> None:
    chunk = chunk_from_proto(
        message(
            1,
            group_message([1], at=AT, model=""),
            group_message([1], at=AT, version="newest"),
            group_message([1], at=AT, codes=[0, 0]),
            group_message([1], at=AT, version="1.2.3"),
        )
    )
    assert chunk.refused_groups == 3
    assert [group.version for group in chunk.groups] == ["v1.2.3"]


def test_reasons_have_their_names() -> None:
    assert reason_name(error_reason_pb2.ERROR_REASON_QUEUE_FULL) == "QUEUE_FULL"
    assert reason_name(99_999) == "REASON_99999"
    assert reason_name(0) == "UNKNOWN"
