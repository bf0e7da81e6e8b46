"""Between protobuf and shadow reports."""

from infermesh.monitor.v1 import shadow_report_pb2

from services.monitor.domain.records import ShadowExample
from services.monitor.domain.shadows import ShadowReport, wilson_interval


def shadow_report_to_proto(report: ShadowReport) -> shadow_report_pb2.ShadowReport:
    """The report as the contract prints it."""
    low, high = wilson_interval(report.disagreed, report.compared)
    return shadow_report_pb2.ShadowReport(
        model_name=report.pair.model,
        shadow_version=report.pair.shadow_version,
        primary_version=report.pair.primary_version,
        compared_count=report.compared,
        disagreed_count=report.disagreed,
        disagreement_rate=report.disagreement_rate,
        disagreement_low=low,
        disagreement_high=high,
        failed_by_reason=report.failed_by_reason,
        dropped_count=report.unsent,
        examples=[_example(example) for example in report.examples],
    )


def _example(example: ShadowExample) -> shadow_report_pb2.ShadowReportExample:
    message = shadow_report_pb2.ShadowReportExample(
        request_id=example.request_id,
        row=example.row,
        primary_output=example.primary_output,
        shadow_output=example.shadow_output,
        difference=example.difference,
    )
    message.time.FromMicroseconds(example.time_us)
    return message
