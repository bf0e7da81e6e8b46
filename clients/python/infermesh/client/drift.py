"""Drift: whether a version's features and outputs still look as its baseline does."""

from collections.abc import Iterator
from datetime import datetime

from infermesh.client.metrics import timestamp
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import drift_pb2, monitor_service_pb2, monitor_service_pb2_grpc

_PAGE_SIZE = 50


class Drift:
    """Baselines and drift reports."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def create_baseline(
        self,
        model: str,
        version: str,
        *,
        sample_uri: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> drift_pb2.Baseline:
        """Sets what a version's traffic is compared with: a sample of its training data, or a window of its own
        traffic. It is read in the background: `get_baseline` tells whether it is "active" or "failed"."""
        baseline = drift_pb2.Baseline(model_name=model, version=version)
        if sample_uri:
            baseline.sample_uri = sample_uri
        else:
            baseline.reference_window.CopyFrom(_window(start, end))
        request = monitor_service_pb2.CreateBaselineRequest(baseline=baseline, request_id=request_id)
        return self._transport.call(self._stub.CreateBaseline, request, timeout_s=timeout_s)

    def get_baseline(self, model: str, baseline_id: str, *, timeout_s: float | None = None) -> drift_pb2.Baseline:
        """One baseline. Raises BASELINE_NOT_FOUND."""
        request = monitor_service_pb2.GetBaselineRequest(model_name=model, baseline_id=baseline_id)
        return self._transport.call(self._stub.GetBaseline, request, timeout_s=timeout_s)

    def baselines(
        self, model: str, *, version: str = "", limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[drift_pb2.Baseline]:
        """The baselines of a model, newest first."""

        def fetch(token: str) -> monitor_service_pb2.ListBaselinesResponse:
            request = monitor_service_pb2.ListBaselinesRequest(
                model_name=model, version=version, page_size=_PAGE_SIZE, page_token=token
            )
            return self._transport.call(self._stub.ListBaselines, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.baselines, limit=limit)

    def delete_baseline(self, model: str, baseline_id: str, *, timeout_s: float | None = None) -> None:
        """Forgets a baseline. Raises BASELINE_NOT_FOUND."""
        request = monitor_service_pb2.DeleteBaselineRequest(model_name=model, baseline_id=baseline_id)
        self._transport.call(self._stub.DeleteBaseline, request, timeout_s=timeout_s)

    def compare(
        self,
        model: str,
        version: str,
        *,
        start: datetime | None = None,
        end: datetime | None = None,
        request_id: str = "",
        timeout_s: float | None = None,
    ) -> drift_pb2.DriftReport:
        """Compares a window (default: the last hour) with the version's baseline now. Raises BASELINE_REQUIRED, and
        TOO_FEW_PREDICTIONS below a thousand."""
        request = monitor_service_pb2.CreateDriftReportRequest(
            model_name=model, version=version, window=_window(start, end), request_id=request_id
        )
        return self._transport.call(self._stub.CreateDriftReport, request, timeout_s=timeout_s)

    def get(self, model: str, report_id: str, *, timeout_s: float | None = None) -> drift_pb2.DriftReport:
        """One report, with what outcomes say by now. Raises DRIFT_REPORT_NOT_FOUND."""
        request = monitor_service_pb2.GetDriftReportRequest(model_name=model, report_id=report_id)
        return self._transport.call(self._stub.GetDriftReport, request, timeout_s=timeout_s)

    def reports(
        self,
        model: str,
        *,
        version: str = "",
        min_severity: str = "",
        start: datetime | None = None,
        end: datetime | None = None,
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[drift_pb2.DriftReport]:
        """The reports of a model that were made in a window (default: the last day), newest first, without bins."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> monitor_service_pb2.ListDriftReportsResponse:
            request = monitor_service_pb2.ListDriftReportsRequest(
                model_name=model,
                version=version,
                min_severity=min_severity,
                start_time=timestamp(start),
                end_time=timestamp(end),
                page_size=size,
                page_token=token,
            )
            return self._transport.call(self._stub.ListDriftReports, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.drift_reports, limit=limit)


def _window(start: datetime | None, end: datetime | None) -> drift_pb2.ReferenceWindow:
    return drift_pb2.ReferenceWindow(start_time=timestamp(start), end_time=timestamp(end))
