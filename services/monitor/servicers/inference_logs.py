"""MonitorService: the prediction log, searched and exported."""

from infermesh.monitor.v1 import inference_log_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from services.common.access.book import AccessBook
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.log_exports import export_to_proto
from services.monitor.convert.log_search import found_to_proto, health_to_proto, position_from_token
from services.monitor.convert.moments import moment_from_proto
from services.monitor.engines.log_exports import LogExports
from services.monitor.engines.log_search import LogSearch


class InferenceLogMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `LogSearch` and `LogExports`."""

    def __init__(self, search: LogSearch, exports: LogExports, book: AccessBook) -> None:
        self._log_search = search
        self._log_exports = exports
        self._log_book = book

    async def ListInferenceLogs(
        self, request: monitor_service_pb2.ListInferenceLogsRequest, _context: Context
    ) -> monitor_service_pb2.ListInferenceLogsResponse:
        """Entries, newest first."""
        size = check_page_size(request.page_size)
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        asked = (request.version, request.request_id, request.user_id, request.errors_only, start, end)
        query = "\n".join([request.model_name, *map(str, asked)])
        before = position_from_token(decode_page_token(request.page_token, query=query))
        found = await self._log_search.find(
            request.model_name,
            version=request.version,
            request_id=request.request_id,
            user_id=request.user_id,
            errors_only=request.errors_only,
            start=start,
            end=end,
            before=before,
            limit=size + 1,
            sight=self._log_book.sight(current_identity()),
        )
        page = found[:size]
        token = ""
        if len(found) > size:
            last = page[-1].position
            token = encode_page_token(last.moment.isoformat(), last.row_id, query=query)
        return monitor_service_pb2.ListInferenceLogsResponse(
            inference_logs=[found_to_proto(one) for one in page], next_page_token=token
        )

    async def ExportInferenceLogs(
        self, request: monitor_service_pb2.ExportInferenceLogsRequest, _context: Context
    ) -> inference_log_pb2.LogExport:
        """Takes an export."""
        identity = current_identity()
        export = await self._log_exports.create(
            request.model_name,
            start=moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time"),
            end=moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time"),
            kind=request.format,
            output_uri=request.output_uri,
            request_id=request.request_id,
            created_by=identity.actor,
            team=identity.team,
        )
        return export_to_proto(export)

    async def GetLogExport(
        self, request: monitor_service_pb2.GetLogExportRequest, _context: Context
    ) -> inference_log_pb2.LogExport:
        """How far an export is."""
        sight = self._log_book.sight(current_identity())
        return export_to_proto(await self._log_exports.get(request.export_id, sight))

    async def GetLogHealth(
        self, request: monitor_service_pb2.GetLogHealthRequest, _context: Context
    ) -> monitor_service_pb2.LogHealth:
        """What is missing in the log."""
        return health_to_proto(await self._log_search.health(request.window_minutes))
