"""The monitor over gRPC: evidence from it, events to it."""

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

import grpc
from infermesh.monitor.v1 import (
    evidence_pb2,
    evidence_service_pb2_grpc,
    rollout_event_pb2,
    rollout_event_service_pb2_grpc,
)

from services.router.convert import timestamp
from services.router.domain.evidence import Evidence, Latencies, MetricSum, VersionEvidence
from services.router.domain.rollouts import RolloutEvent

_REPORT_S = 5.0


class MonitorEvidenceSource:
    """An `EvidenceSource`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._evidence = evidence_service_pb2_grpc.EvidenceServiceStub(channel)

    async def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
        """What each version did since `start`."""
        request = evidence_pb2.WatchEvidenceRequest(
            model_name=model_name, versions=versions, start_time=timestamp(start)
        )
        async for message in self._evidence.WatchEvidence(request):
            yield evidence_from_proto(message)


class MonitorEventSink:
    """An `EventSink`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._events = rollout_event_service_pb2_grpc.RolloutEventServiceStub(channel)

    async def report(self, events: Sequence[RolloutEvent]) -> None:
        """Tells the monitor."""
        request = rollout_event_pb2.ReportEventsRequest(events=[_event_to_proto(event) for event in events])
        await self._events.ReportEvents(request, timeout=_REPORT_S)


def evidence_from_proto(message: evidence_pb2.WatchEvidenceResponse) -> Evidence:
    """What the monitor says."""
    return Evidence(
        window_start=message.window_start.ToDatetime(UTC),
        window_end=message.window_end.ToDatetime(UTC),
        versions={one.version: _version_from_proto(one) for one in message.versions},
        dropped=message.dropped_count,
    )


def _version_from_proto(message: evidence_pb2.VersionEvidence) -> VersionEvidence:
    return VersionEvidence(
        version=message.version,
        requests=message.request_count,
        faults=message.fault_count,
        errors_by_reason=dict(message.errors_by_reason),
        latencies=Latencies(
            growth=message.latency.growth or Latencies().growth,
            counts=dict(zip(message.latency.bucket_indexes, message.latency.bucket_counts, strict=True)),
            moments_ms=_sum_from_proto(message.latency.moments_ms),
        ),
        by_class=dict(message.predictions_by_class),
        by_confidence=dict(message.predictions_by_confidence),
        outcomes={name: _sum_from_proto(sums) for name, sums in message.outcomes.items()},
        shadows_compared=message.shadow_compared_count,
        shadows_disagreed=message.shadow_disagreement_count,
    )


def _sum_from_proto(message: evidence_pb2.MetricSum) -> MetricSum:
    return MetricSum(message.count, message.sum, message.sum_of_squares)


def _event_to_proto(event: RolloutEvent) -> rollout_event_pb2.RolloutEvent:
    return rollout_event_pb2.RolloutEvent(
        event_id=event.event_id,
        kind=event.kind,
        model_name=event.model_name,
        version=event.version,
        subject=event.subject,
        severity=event.severity.value,
        summary=event.summary,
        probable_cause=event.probable_cause,
        undo_command=event.undo_command,
        value=event.value,
        time=timestamp(event.time),
    )
