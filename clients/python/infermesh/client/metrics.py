"""Metrics: how a model and its versions do."""

from collections.abc import Iterator
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2, monitor_service_pb2_grpc

_PAGE_SIZE = 200


class Metrics:
    """Counts, latencies and distributions of a model's predictions."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def get(
        self,
        model: str,
        *,
        version: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        timeout_s: float | None = None,
    ) -> model_metrics_pb2.ModelMetrics:
        """The metrics of a model, or of one version, in a window (default: the last hour). Times must be aware."""
        request = monitor_service_pb2.GetModelMetricsRequest(
            model_name=model, version=version, start_time=timestamp(start), end_time=timestamp(end)
        )
        return self._transport.call(self._stub.GetModelMetrics, request, timeout_s=timeout_s)

    def by_version(
        self, model: str, *, start: datetime | None = None, end: datetime | None = None, timeout_s: float | None = None
    ) -> Iterator[model_metrics_pb2.ModelMetrics]:
        """The metrics of each version that took requests in the window, oldest version first."""

        def fetch(token: str) -> monitor_service_pb2.ListVersionMetricsResponse:
            request = monitor_service_pb2.ListVersionMetricsRequest(
                model_name=model,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=_PAGE_SIZE,
                page_token=token,
            )
            return self._transport.call(self._stub.ListVersionMetrics, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.versions)


def timestamp(moment: datetime | None) -> Timestamp | None:
    """A protobuf time. Raises ValueError for a time without a zone, which would mean something else on each machine."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        raise ValueError(f"the time {moment.isoformat()} has no time zone; for instance append +00:00 or Z")
    made = Timestamp()
    made.FromDatetime(moment.astimezone(UTC))
    return made
