"""Shadows: how a version that gets copies would have answered what others answered."""

from collections.abc import Iterator
from datetime import datetime

from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import monitor_service_pb2, monitor_service_pb2_grpc, shadow_report_pb2

_PAGE_SIZE = 50


class Shadows:
    """Reports of shadow copies; `Client.traffic.set(…, shadows=…)` says who gets copies."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def reports(
        self,
        model: str,
        *,
        version: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        examples_max: int = 0,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[shadow_report_pb2.ShadowReport]:
        """How the copies of a window (default: the last day) compare with what callers got, by pair of versions.

        `version` is one that got copies; `examples_max` is how many disagreements each report shows (0: 10, at most
        100). Times must be aware.
        """

        def fetch(token: str) -> monitor_service_pb2.ListShadowReportsResponse:
            request = monitor_service_pb2.ListShadowReportsRequest(
                model_name=model,
                shadow_version=version,
                start_time=timestamp(start),
                end_time=timestamp(end),
                examples_max=examples_max,
                page_size=_PAGE_SIZE,
                page_token=token,
            )
            return self._transport.call(self._stub.ListShadowReports, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.shadow_reports, limit=limit)
