"""MonitorService: metrics over any window."""

import copy
from collections.abc import AsyncIterator

from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from services.common.errors import invalid
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.metrics import point_to_proto, report_to_proto
from services.monitor.convert.moments import moment_from_proto
from services.monitor.engines.metrics import Metrics

Paged = monitor_service_pb2.ListVersionMetricsRequest | monitor_service_pb2.ListMetricPointsRequest

_WATCH_WINDOW_DEFAULT_MINUTES = 5
_WATCH_WINDOW_MAX_MINUTES = 1440
_WATCH_PERIOD_DEFAULT_S = 5
_WATCH_PERIOD_MAX_S = 300


class MetricMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `Metrics`."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def GetModelMetrics(
        self, request: monitor_service_pb2.GetModelMetricsRequest, _context: Context
    ) -> model_metrics_pb2.ModelMetrics:
        """The metrics of a model, or of one of its versions."""
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        report = await self._metrics.model(
            request.model_name,
            version=request.version,
            deployment=request.deployment_name,
            start=start,
            end=end,
        )
        return report_to_proto(report)

    async def ListVersionMetrics(
        self, request: monitor_service_pb2.ListVersionMetricsRequest, _context: Context
    ) -> monitor_service_pb2.ListVersionMetricsResponse:
        """The metrics of each version."""
        size = check_page_size(request.page_size)
        after = decode_page_token(request.page_token, query=_query(request))
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        reports = await self._metrics.versions(request.model_name, start=start, end=end)
        names = [report.version for report in reports]
        first = names.index(after[0]) + 1 if after and after[0] in names else 0
        page = reports[first : first + size]
        more = first + size < len(reports)
        return monitor_service_pb2.ListVersionMetricsResponse(
            versions=[report_to_proto(report) for report in page],
            next_page_token=encode_page_token(page[-1].version, query=_query(request)) if more else "",
        )

    async def ListMetricPoints(
        self, request: monitor_service_pb2.ListMetricPointsRequest, _context: Context
    ) -> monitor_service_pb2.ListMetricPointsResponse:
        """The metrics as a time series."""
        size = check_page_size(request.page_size)
        after = decode_page_token(request.page_token, query=_query(request))
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        points = await self._metrics.points(
            request.model_name, version=request.version, start=start, end=end, granularity=request.granularity
        )
        left = [point for point in points if not after or point.start.isoformat() > after[0]]
        page = left[:size]
        token = encode_page_token(page[-1].start.isoformat(), query=_query(request)) if len(left) > size else ""
        return monitor_service_pb2.ListMetricPointsResponse(
            points=[point_to_proto(point) for point in page], next_page_token=token
        )

    async def WatchModelMetrics(
        self, request: monitor_service_pb2.WatchModelMetricsRequest, _context: Context
    ) -> AsyncIterator[model_metrics_pb2.ModelMetrics]:
        """The metrics over the last minutes, again and again."""
        minutes = request.window_minutes or _WATCH_WINDOW_DEFAULT_MINUTES
        period_s = request.period_s or _WATCH_PERIOD_DEFAULT_S
        if minutes > _WATCH_WINDOW_MAX_MINUTES:
            raise invalid("window_minutes", minutes, f"1 to {_WATCH_WINDOW_MAX_MINUTES}")
        if period_s > _WATCH_PERIOD_MAX_S:
            raise invalid("period_s", period_s, f"1 to {_WATCH_PERIOD_MAX_S}")
        reports = self._metrics.watch(
            request.model_name, version=request.version, window_minutes=minutes, period_s=period_s
        )
        async for report in reports:
            yield report_to_proto(report)


def _query(request: Paged) -> str:
    """The fields that a page token is bound to: all but the page itself."""
    kept = copy.copy(request)
    kept.ClearField("page_size")
    kept.ClearField("page_token")
    return kept.SerializeToString(deterministic=True).hex()
