"""MonitorService: baselines and drift reports."""

from datetime import datetime

from google.protobuf.empty_pb2 import Empty
from infermesh.monitor.v1 import drift_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from services.common.errors import invalid
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.drift import baseline_to_proto, report_to_proto
from services.monitor.convert.moments import moment_from_proto
from services.monitor.domain.drift.reports import Report
from services.monitor.engines.baselines import Baselines
from services.monitor.engines.drift import Drift

_UNNAMED = "unknown"


class DriftMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages, `Baselines` and `Drift`."""

    def __init__(self, baselines: Baselines, drift: Drift) -> None:
        self._baselines = baselines
        self._drift = drift

    async def CreateBaseline(
        self, request: monitor_service_pb2.CreateBaselineRequest, _context: Context
    ) -> drift_pb2.Baseline:
        """A baseline that is read in the background."""
        sent = request.baseline
        source = sent.WhichOneof("source")
        if source is None or (source == "sample_uri" and not sent.sample_uri):
            raise invalid("baseline.source", None, "sample_uri or reference_window")
        start, end = _window(sent.reference_window, "baseline.reference_window")
        made = await self._baselines.create(
            sent.model_name,
            sent.version,
            sample_uri=sent.sample_uri,
            start=start,
            end=end,
            by=current_identity().actor or _UNNAMED,
            request_id=request.request_id,
        )
        return baseline_to_proto(made)

    async def GetBaseline(
        self, request: monitor_service_pb2.GetBaselineRequest, _context: Context
    ) -> drift_pb2.Baseline:
        """One baseline."""
        return baseline_to_proto(await self._baselines.get(request.model_name, request.baseline_id))

    async def ListBaselines(
        self, request: monitor_service_pb2.ListBaselinesRequest, _context: Context
    ) -> monitor_service_pb2.ListBaselinesResponse:
        """Baselines, newest first."""
        size = check_page_size(request.page_size)
        query = f"{request.model_name}\n{request.version}"
        found = await self._baselines.find(
            request.model_name, request.version, after=_after(request.page_token, query), limit=size + 1
        )
        page = found[:size]
        more = ""
        if len(found) > size:
            more = encode_page_token(page[-1].created_at.isoformat(), page[-1].baseline_id, query=query)
        return monitor_service_pb2.ListBaselinesResponse(
            baselines=[baseline_to_proto(one) for one in page], next_page_token=more
        )

    async def DeleteBaseline(self, request: monitor_service_pb2.DeleteBaselineRequest, _context: Context) -> Empty:
        """Forgets one."""
        await self._baselines.delete(request.model_name, request.baseline_id)
        return Empty()

    async def GetDriftReport(
        self, request: monitor_service_pb2.GetDriftReportRequest, _context: Context
    ) -> drift_pb2.DriftReport:
        """One report."""
        return self._told(await self._drift.get(request.model_name, request.report_id))

    async def ListDriftReports(
        self, request: monitor_service_pb2.ListDriftReportsRequest, _context: Context
    ) -> monitor_service_pb2.ListDriftReportsResponse:
        """Reports, newest first, without bins."""
        size = check_page_size(request.page_size)
        start = moment_from_proto(request.start_time, given=request.HasField("start_time"), field="start_time")
        end = moment_from_proto(request.end_time, given=request.HasField("end_time"), field="end_time")
        query = f"{request.model_name}\n{request.version}\n{request.min_severity}\n{start}\n{end}"
        found = await self._drift.find(
            request.model_name,
            request.version,
            min_severity=request.min_severity,
            start=start,
            end=end,
            after=_after(request.page_token, query),
            limit=size + 1,
        )
        page = found[:size]
        more = ""
        if len(found) > size:
            more = encode_page_token(page[-1].created_at.isoformat(), page[-1].report_id, query=query)
        return monitor_service_pb2.ListDriftReportsResponse(
            drift_reports=[self._told(one) for one in page], next_page_token=more
        )

    async def CreateDriftReport(
        self, request: monitor_service_pb2.CreateDriftReportRequest, _context: Context
    ) -> drift_pb2.DriftReport:
        """Compares a window now."""
        start, end = _window(request.window, "window")
        made = await self._drift.create(
            request.model_name, request.version, start=start, end=end, request_id=request.request_id
        )
        return self._told(made)

    def _told(self, report: Report) -> drift_pb2.DriftReport:
        return report_to_proto(report, self._drift.limits)


def _window(sent: drift_pb2.ReferenceWindow, field: str) -> tuple[datetime | None, datetime | None]:
    return (
        moment_from_proto(sent.start_time, given=sent.HasField("start_time"), field=f"{field}.start_time"),
        moment_from_proto(sent.end_time, given=sent.HasField("end_time"), field=f"{field}.end_time"),
    )


def _after(page_token: str, query: str) -> tuple[datetime, str] | None:
    token = decode_page_token(page_token, query=query)
    return (datetime.fromisoformat(token[0]), token[1]) if token else None
