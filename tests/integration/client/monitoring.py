"""A scripted monitor: takes outcomes, tells of alerts and shadow reports."""

from collections.abc import Iterator

import grpc
from google.rpc import code_pb2
from infermesh.monitor.v1 import (
    alert_pb2,
    monitor_service_pb2,
    outcome_pb2,
    shadow_report_pb2,
)

from tests.integration.client.refusing import refuse
from tests.integration.client.telling import Telling

AlertStep = alert_pb2.Alert | grpc.StatusCode
"""What a watching tells next: an alert, or a status to break off with."""


class Monitor(Telling):
    """Keeps outcomes by request; each watching of alerts plays the next script. Pages hold two."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, list[outcome_pb2.Outcome]] = {}
        self.batches: list[int] = []
        self.fails_after: int | None = None
        """So many batches are taken, then none."""
        self.alerts: dict[str, alert_pb2.Alert] = {}
        self.scripts: list[list[AlertStep]] = []
        self.watched = 0
        self.asked_for: list[monitor_service_pb2.ListAlertsRequest] = []
        self.reports: list[shadow_report_pb2.ShadowReport] = []
        self.report_requests: list[monitor_service_pb2.ListShadowReportsRequest] = []
        self.log_health = monitor_service_pb2.LogHealth(stored=True, window_minutes=60)

    def GetLogHealth(
        self, request: monitor_service_pb2.GetLogHealthRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.LogHealth:
        return self.log_health

    def ReportOutcome(
        self, request: monitor_service_pb2.ReportOutcomeRequest, context: grpc.ServicerContext
    ) -> outcome_pb2.Outcome:
        taken = request.outcome
        if taken.request_id.startswith("req_known"):
            taken.model_name, taken.version = "digits", "v1.1.0"
        self.outcomes.setdefault(taken.request_id, []).append(taken)
        return taken

    def ReportOutcomes(
        self, request: monitor_service_pb2.ReportOutcomesRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ReportOutcomesResponse:
        if self.fails_after is not None and len(self.batches) >= self.fails_after:
            refuse(context, code_pb2.UNAVAILABLE, "DEPENDENCY_UNAVAILABLE", "the database does not answer")
        self.batches.append(len(request.outcomes))
        for one in request.outcomes:
            self.outcomes.setdefault(one.request_id, []).append(one)
        return monitor_service_pb2.ReportOutcomesResponse(accepted_count=len(request.outcomes), unmatched_count=1)

    def ListOutcomes(
        self, request: monitor_service_pb2.ListOutcomesRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListOutcomesResponse:
        found = self.outcomes.get(request.request_id, [])
        begin = int(request.page_token or 0)
        token = str(begin + 2) if len(found) > begin + 2 else ""
        return monitor_service_pb2.ListOutcomesResponse(outcomes=found[begin : begin + 2], next_page_token=token)

    def ListShadowReports(
        self, request: monitor_service_pb2.ListShadowReportsRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListShadowReportsResponse:
        self.report_requests.append(request)
        return monitor_service_pb2.ListShadowReportsResponse(shadow_reports=self.reports)

    def ListAlerts(
        self, request: monitor_service_pb2.ListAlertsRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListAlertsResponse:
        self.asked_for.append(request)
        return monitor_service_pb2.ListAlertsResponse(
            alerts=[one for one in self.alerts.values() if request.status in {"", one.status}]
        )

    def GetAlert(self, request: monitor_service_pb2.GetAlertRequest, context: grpc.ServicerContext) -> alert_pb2.Alert:
        found = self.alerts.get(request.alert_id)
        if found is None:
            refuse(context, code_pb2.NOT_FOUND, "ALERT_NOT_FOUND", f"there is no alert {request.alert_id}")
            raise AssertionError
        return found

    def AcknowledgeAlert(
        self, request: monitor_service_pb2.AcknowledgeAlertRequest, context: grpc.ServicerContext
    ) -> alert_pb2.Alert:
        found = self.GetAlert(monitor_service_pb2.GetAlertRequest(alert_id=request.alert_id), context)
        found.status, found.acknowledged_by, found.acknowledgement_note = "acknowledged", "ada", request.note
        return found

    def WatchAlerts(
        self, request: monitor_service_pb2.WatchAlertsRequest, context: grpc.ServicerContext
    ) -> Iterator[alert_pb2.Alert]:
        self.watched += 1
        for step in self.scripts.pop(0) if self.scripts else ():
            if isinstance(step, grpc.StatusCode):
                context.abort(step, "broken off")
            else:
                yield step
