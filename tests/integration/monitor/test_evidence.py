"""The evidence on a rollout: from the batchers' log to the router's watch."""

from datetime import datetime, timedelta

import pytest
from infermesh.common.v1 import error_reason_pb2
from infermesh.monitor.v1 import evidence_pb2

from services.common.errors import MeshError
from tests.integration.monitor.conftest import RunningMonitor, StartMonitor
from tests.support.monitor_log import group_message, message

INVALID = error_reason_pb2.ERROR_REASON_INVALID_FIELD
FAILED = error_reason_pb2.ERROR_REASON_MODEL_FAILED


async def first_evidence(
    monitor: RunningMonitor, start: datetime, *versions: str
) -> evidence_pb2.WatchEvidenceResponse:
    request = evidence_pb2.WatchEvidenceRequest(model_name="digits", versions=versions, period_s=1)
    request.start_time.FromDatetime(start)
    async for answer in monitor.evidence.WatchEvidence(request, timeout=10):
        return answer
    raise AssertionError("the watch ended")


async def test_a_rollout_sees_what_its_versions_did_since_its_second(
    monitor: RunningMonitor, start_monitor: StartMonitor, now: datetime
) -> None:
    start = now + timedelta(seconds=3)
    assert (await first_evidence(monitor, start, "v2.0.0")).versions[0].request_count == 0
    before = group_message([9000] * 5, at=start - timedelta(seconds=1), version="v2.0.0")
    old = group_message([1000] * 100, at=start, by_class={"3": 100}, by_confidence={"high": 90, "low": 10})
    new = group_message(
        [1000 * place for place in range(1, 101)],
        at=start + timedelta(seconds=1),
        version="v2.0.0",
        codes=[0] * 97 + [3, 13, 13],
        reasons=[0] * 97 + [INVALID, FAILED, FAILED],
    )
    copies = group_message([5] * 7, at=start, version="v2.0.0")
    copies.request_kinds.extend([2] * 5 + [1, 3])
    later = group_message([1000] * 20, at=start + timedelta(minutes=2), version="v2.0.0")
    assert await monitor.send(message(1, before, old), message(2, new, copies), message(3, later, dropped_total=6)) == 3

    found = await first_evidence(monitor, start, "v1.0.0", "v2.0.0", "v3.0.0")
    assert found.window_start.ToDatetime() == start.replace(tzinfo=None)
    assert found.window_end.ToDatetime() >= found.window_start.ToDatetime()
    assert [version.version for version in found.versions] == ["v1.0.0", "v2.0.0", "v3.0.0"]
    one, two, three = found.versions
    assert (one.request_count, one.fault_count, dict(one.predictions_by_class)) == (100, 0, {"3": 100})
    assert dict(one.predictions_by_confidence) == {"high": 90, "low": 10}
    assert (two.request_count, two.fault_count, two.shadow_count) == (120, 2, 5)
    assert dict(two.errors_by_reason) == {"INVALID_FIELD": 1, "MODEL_FAILED": 2}
    assert two.latency.moments_ms.count == 117
    assert two.latency.moments_ms.sum == sum(range(1, 98)) + 20
    assert sum(two.latency.bucket_counts) == 117
    assert p99_ms(two.latency) == pytest.approx(96, rel=0.01)
    assert three == evidence_pb2.VersionEvidence(version="v3.0.0", latency=three.latency)
    assert found.dropped_count == 6

    # Another monitor, and the same one again, say the same.
    for other in (await start_monitor(), monitor):
        again = await first_evidence(other, start, "v1.0.0", "v2.0.0", "v3.0.0")
        assert list(again.versions) == list(found.versions)


def p99_ms(sketch: evidence_pb2.LatencySketch) -> float:
    """As whoever judges computes it out of the buckets."""
    rank, seen = 0.99 * sum(sketch.bucket_counts), 0
    for index, count in zip(sketch.bucket_indexes, sketch.bucket_counts, strict=True):
        seen += count
        if seen >= rank:
            return float(2 * sketch.growth**index / (sketch.growth + 1)) / 1000
    return 0.0


async def test_a_watch_goes_on_until_its_end(monitor: RunningMonitor, now: datetime) -> None:
    request = evidence_pb2.WatchEvidenceRequest(model_name="digits", versions=["v1.0.0"], period_s=1)
    request.start_time.FromDatetime(now)
    counts = []
    async for answer in monitor.evidence.WatchEvidence(request, timeout=15):
        counts.append(answer.versions[0].request_count)
        if len(counts) == 3:
            break
        await monitor.send(message(len(counts), group_message([1000], at=now + timedelta(seconds=1))))
    assert counts == [0, 1, 2]


async def test_a_wrong_watch_is_refused(monitor: RunningMonitor, now: datetime) -> None:
    with pytest.raises(MeshError, match="period_s is 61"):
        await anext(aiter(monitor.evidence.WatchEvidence(evidence_pb2.WatchEvidenceRequest(period_s=61), timeout=5)))
    with pytest.raises(MeshError, match="versions is"):
        await first_evidence(monitor, now)
