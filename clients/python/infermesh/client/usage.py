"""Usage: what teams used, what they have stored, and what that costs."""

from collections.abc import Iterator
from datetime import datetime

from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, monitor_service_pb2_grpc

EXPORT_TIMEOUT_S = 3600.0
"""An export has a row for each hour, team, model and version."""
_PAGE_SIZE = 500


class Usage:
    """Usage by team, model and version, over any window since the beginning. Times must be aware; windows are rounded
    outward to whole hours, and begin with the month where no start is given."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def list(
        self,
        *,
        team: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[model_metrics_pb2.TeamUsage]:
        """The entries by team, model and version; of every team that the caller may see where none is named. What is
        stored is in entries without a version. Raises TEAM_NOT_FOUND."""

        def fetch(token: str) -> monitor_service_pb2.ListTeamUsageResponse:
            request = monitor_service_pb2.ListTeamUsageRequest(
                team_name=team,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=_PAGE_SIZE,
                page_token=token,
            )
            return self._transport.call(self._stub.ListTeamUsage, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.usage, limit=limit)

    def export(
        self,
        *,
        team: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        timeout_s: float = EXPORT_TIMEOUT_S,
    ) -> Iterator[bytes]:
        """The pieces of a CSV file with a header line: everything by hour. Raises TEAM_NOT_FOUND."""
        request = monitor_service_pb2.ExportTeamUsageRequest(
            team_name=team, start_time=timestamp(start), end_time=timestamp(end)
        )
        for piece in self._transport.stream(self._stub.ExportTeamUsage, request, timeout_s=timeout_s):
            yield piece.data

    def prices(self, *, timeout_s: float | None = None) -> model_metrics_pb2.PriceTable:
        """What usage costs."""
        request = monitor_service_pb2.GetPriceTableRequest()
        return self._transport.call(self._stub.GetPriceTable, request, timeout_s=timeout_s)

    def set_prices(
        self, table: model_metrics_pb2.PriceTable, *, timeout_s: float | None = None
    ) -> model_metrics_pb2.PriceTable:
        """Replaces the table, for all time. Raises ETAG_MISMATCH where its `etag` is given and not the current one. For
        platform admins."""
        request = monitor_service_pb2.UpdatePriceTableRequest(price_table=table)
        return self._transport.call(self._stub.UpdatePriceTable, request, timeout_s=timeout_s)
