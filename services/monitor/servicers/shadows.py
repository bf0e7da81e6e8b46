"""MonitorService: how answers of shadow copies compare."""

from infermesh.monitor.v1 import monitor_service_pb2, monitor_service_pb2_grpc

from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.moments import moment_from_proto
from services.monitor.convert.shadows import shadow_report_to_proto
from services.monitor.engines.shadows import Shadows


class ShadowMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `Shadows`."""

    def __init__(self, shadows: Shadows) -> None:
        self._shadows = shadows

    async def ListShadowReports(
        self, request: monitor_service_pb2.ListShadowReportsRequest, _context: Context
    ) -> monitor_service_pb2.ListShadowReportsResponse:
        """The reports of a window, by pair of versions."""
        size = check_page_size(request.page_size)
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        query = f"{request.model_name}\n{request.shadow_version}\n{start}\n{end}\n{request.examples_max}"
        after = decode_page_token(request.page_token, query=query)
        found = await self._shadows.find(
            request.model_name,
            shadow_version=request.shadow_version,
            start=start,
            end=end,
            examples_max=request.examples_max,
        )
        left = [
            report for report in found if not after or (report.pair.shadow_version, report.pair.primary_version) > after
        ]
        page = left[:size]
        return monitor_service_pb2.ListShadowReportsResponse(
            shadow_reports=[shadow_report_to_proto(report) for report in page],
            next_page_token=encode_page_token(page[-1].pair.shadow_version, page[-1].pair.primary_version, query=query)
            if len(left) > size
            else "",
        )
