"""Between protobuf and figures."""

from infermesh.monitor.v1 import model_metrics_pb2

from services.monitor.domain.figures import Figures, Usage
from services.monitor.engines.metrics import ModelReport, Point


def report_to_proto(report: ModelReport) -> model_metrics_pb2.ModelMetrics:
    """The answer as the contract prints it."""
    return model_metrics_pb2.ModelMetrics(
        model_name=report.model,
        version=report.version,
        metrics=figures_to_proto(report.figures),
        resource_usage=_usage_to_proto(report.usage),
    )


def point_to_proto(point: Point) -> model_metrics_pb2.MetricPoint:
    """One step of a series."""
    message = model_metrics_pb2.MetricPoint(version=point.version, metrics=figures_to_proto(point.figures))
    message.start_time.FromDatetime(point.start)
    return message


def figures_to_proto(figures: Figures) -> model_metrics_pb2.Metrics:
    """The figures; latencies to the microsecond, which is what was measured."""
    return model_metrics_pb2.Metrics(
        request_count=figures.request_count,
        error_count=figures.error_count,
        error_rate=figures.error_rate,
        latency=model_metrics_pb2.LatencyMetrics(
            p50=round(figures.latency_p50_ms, 3),
            p95=round(figures.latency_p95_ms, 3),
            p99=round(figures.latency_p99_ms, 3),
            avg=round(figures.latency_avg_ms, 3),
        ),
        throughput_per_sec=round(figures.throughput_per_sec, 6),
        prediction_distribution=figures.predictions_by_class,
        confidence_distribution=figures.predictions_by_confidence,
    )


def _usage_to_proto(usage: Usage) -> model_metrics_pb2.ResourceUsage:
    message = model_metrics_pb2.ResourceUsage(
        cpu_percent=round(usage.cpu_percent, 2), memory_percent=round(usage.memory_percent, 2)
    )
    if usage.gpu_utilization is not None:
        message.gpu_utilization = round(usage.gpu_utilization, 2)
    if usage.gpu_memory_percent is not None:
        message.gpu_memory_percent = round(usage.gpu_memory_percent, 2)
    return message
