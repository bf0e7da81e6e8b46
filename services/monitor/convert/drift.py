"""Between protobuf and drift."""

from infermesh.monitor.v1 import drift_pb2

from services.monitor.domain.drift.reports import Baseline, Report, Span, with_accuracy
from services.monitor.domain.drift.verdict import FeatureDrift, Thresholds


def baseline_to_proto(baseline: Baseline) -> drift_pb2.Baseline:
    """The baseline as the contract prints it."""
    message = drift_pb2.Baseline(
        baseline_id=baseline.baseline_id,
        model_name=baseline.model,
        version=baseline.version,
        status=baseline.status,
        status_message=baseline.status_message,
        row_count=baseline.row_count,
        created_by=baseline.created_by,
    )
    if baseline.window is not None:
        message.reference_window.CopyFrom(span_to_proto(baseline.window))
    else:
        message.sample_uri = baseline.sample_uri
    message.created_at.FromDatetime(baseline.created_at)
    return message


def report_to_proto(report: Report, limits: Thresholds) -> drift_pb2.DriftReport:
    """The report, with what outcomes say by now."""
    message = drift_pb2.DriftReport(
        report_id=report.report_id,
        model_name=report.model,
        version=report.version,
        baseline_id=report.baseline_id,
        window=span_to_proto(report.window),
        row_count=report.row_count,
        severity=report.severity,
        features=[_feature(feature) for feature in report.features],
        domain_classifier_auc=report.auc,
        expected_accuracy=report.expected_accuracy,
        anomalies=with_accuracy(report, limits),
    )
    if report.realised is not None:
        message.realised_accuracy = report.realised.accuracy
        message.outcome_count = report.realised.count
    message.created_at.FromDatetime(report.created_at)
    return message


def span_to_proto(span: Span) -> drift_pb2.ReferenceWindow:
    """A window."""
    message = drift_pb2.ReferenceWindow()
    message.start_time.FromDatetime(span.start)
    message.end_time.FromDatetime(span.end)
    return message


def _feature(feature: FeatureDrift) -> drift_pb2.FeatureDrift:
    found = feature.comparison
    return drift_pb2.FeatureDrift(
        feature=feature.key.name,
        output=feature.key.output,
        severity=feature.severity,
        ks_statistic=found.ks,
        psi=found.psi,
        chi_squared=found.chi_squared,
        jensen_shannon=found.jensen_shannon,
        p_value=feature.p_value,
        missing_fraction=found.missing,
        baseline_missing_fraction=found.baseline_missing,
        bins=[
            drift_pb2.DistributionBin(
                label=one.label, baseline_share=one.baseline, window_share=one.window, low=one.low, high=one.high
            )
            for one in found.bins
        ],
    )
