"""Between protobuf and evidence."""

from infermesh.monitor.v1 import evidence_pb2

from services.monitor.domain.evidence import Evidence, MetricSum, VersionEvidence
from services.monitor.domain.sketch import GROWTH, LatencySketch

_US_PER_MS = 1000.0


def evidence_to_proto(evidence: Evidence) -> evidence_pb2.WatchEvidenceResponse:
    """The answer of one moment."""
    message = evidence_pb2.WatchEvidenceResponse(
        versions=[_version(found) for found in evidence.versions], dropped_count=evidence.dropped
    )
    message.window_start.FromDatetime(evidence.window_start)
    message.window_end.FromDatetime(evidence.window_end)
    return message


def _version(found: VersionEvidence) -> evidence_pb2.VersionEvidence:
    return evidence_pb2.VersionEvidence(
        version=found.version,
        request_count=found.request_count,
        fault_count=found.fault_count,
        errors_by_reason=found.errors_by_reason,
        latency=_sketch(found.latency),
        predictions_by_class=found.by_class,
        predictions_by_confidence=found.by_confidence,
        outcomes={name: _sum(value) for name, value in found.outcomes.items()},
        shadow_count=found.shadow_count,
        shadow_disagreement_count=found.shadow_disagreement_count,
        shadow_compared_count=found.shadow_compared_count,
    )


def _sum(value: MetricSum) -> evidence_pb2.MetricSum:
    return evidence_pb2.MetricSum(count=value.count, sum=value.total, sum_of_squares=value.sum_of_squares)


def _sketch(latency: LatencySketch) -> evidence_pb2.LatencySketch:
    buckets = latency.buckets()
    return evidence_pb2.LatencySketch(
        growth=GROWTH,
        bucket_indexes=buckets.keys(),
        bucket_counts=buckets.values(),
        moments_ms=evidence_pb2.MetricSum(
            count=latency.count,
            sum=latency.sum_us / _US_PER_MS,
            sum_of_squares=latency.sum_squares_us2 / _US_PER_MS**2,
        ),
    )
