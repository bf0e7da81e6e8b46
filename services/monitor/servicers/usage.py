"""MonitorService: what teams used and what that costs."""

from collections.abc import AsyncIterator

from google.api import httpbody_pb2
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.moments import moment_from_proto
from services.monitor.convert.usage import prices_from_proto, prices_to_proto, usage_to_proto
from services.monitor.engines.usage import UsageReports

_CSV = "text/csv; charset=utf-8; header=present"
_PLACES = 3
"""Of a position: team, model, version."""


class UsageMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `UsageReports`."""

    def __init__(self, usage: UsageReports) -> None:
        self._usage = usage

    async def ListTeamUsage(
        self, request: monitor_service_pb2.ListTeamUsageRequest, _context: Context
    ) -> monitor_service_pb2.ListTeamUsageResponse:
        """Usage by team, model and version."""
        size = check_page_size(request.page_size)
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        query = f"{request.team_name}\n{start}\n{end}"
        bills = await self._usage.totals(
            current_identity(),
            request.team_name,
            start=start,
            end=end,
            after=_position(request.page_token, query),
            limit=size + 1,
        )
        page = bills[:size]
        token = ""
        if len(bills) > size:
            last = page[-1].metered.key
            token = encode_page_token(last.team, last.model, last.version, query=query)
        return monitor_service_pb2.ListTeamUsageResponse(
            usage=[usage_to_proto(bill) for bill in page], next_page_token=token
        )

    async def ExportTeamUsage(
        self, request: monitor_service_pb2.ExportTeamUsageRequest, _context: Context
    ) -> AsyncIterator[httpbody_pb2.HttpBody]:
        """A file of usage by hour, in pieces."""
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        async for piece in self._usage.export(current_identity(), request.team_name, start=start, end=end):
            yield httpbody_pb2.HttpBody(content_type=_CSV, data=piece.encode())

    async def GetPriceTable(
        self, _request: monitor_service_pb2.GetPriceTableRequest, _context: Context
    ) -> model_metrics_pb2.PriceTable:
        """What usage costs."""
        return prices_to_proto(await self._usage.prices())

    async def UpdatePriceTable(
        self, request: monitor_service_pb2.UpdatePriceTableRequest, _context: Context
    ) -> model_metrics_pb2.PriceTable:
        """Replaces the prices."""
        table, expected = prices_from_proto(request.price_table)
        return prices_to_proto(await self._usage.set_prices(table, expected=expected))


def _position(token: str, query: str) -> tuple[str, str, str] | None:
    parts = decode_page_token(token, query=query)
    if not parts:
        return None
    if len(parts) != _PLACES:
        raise MeshError(Reason.INVALID_PAGE_TOKEN, "page_token is none of this list; leave it out to begin again")
    team, model, version = parts
    return team, model, version
