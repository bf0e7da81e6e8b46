"""MonitorService: alerts; RolloutEventService: the events that raise them."""

import contextlib
from collections.abc import AsyncIterator
from datetime import datetime

from infermesh.monitor.v1 import (
    alert_pb2,
    monitor_service_pb2,
    monitor_service_pb2_grpc,
    rollout_event_pb2,
    rollout_event_service_pb2_grpc,
)

from services.common.access.book import AccessBook, Sight
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.monitor.convert.alert_rules import seen_alert_to_proto
from services.monitor.convert.alerts import event_from_proto
from services.monitor.domain.alerts import Alert
from services.monitor.engines.alert_views import AlertView, AlertViews
from services.monitor.engines.alerts import Alerts

_UNNAMED = "unknown"


class AlertMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `Alerts`."""

    def __init__(self, alerts: Alerts, views: AlertViews, book: AccessBook) -> None:
        self._alerts = alerts
        self._views = views
        self._alert_book = book

    async def GetAlert(self, request: monitor_service_pb2.GetAlertRequest, _context: Context) -> alert_pb2.Alert:
        """One alert."""
        return await self._shown(await self._alerts.get(request.alert_id, self._alert_sight()))

    async def ListAlerts(
        self, request: monitor_service_pb2.ListAlertsRequest, _context: Context
    ) -> monitor_service_pb2.ListAlertsResponse:
        """Alerts, newest first."""
        size = check_page_size(request.page_size)
        query = f"{request.model_name}\n{request.status}\n{request.min_severity}"
        token = decode_page_token(request.page_token, query=query)
        found = await self._alerts.find(
            request.model_name,
            status=request.status,
            min_severity=request.min_severity,
            after=(datetime.fromisoformat(token[0]), token[1]) if token else None,
            limit=size + 1,
            sight=self._alert_sight(),
        )
        page = found[:size]
        more = ""
        if len(found) > size:
            more = encode_page_token(page[-1].fired_at.isoformat(), page[-1].alert_id, query=query)
        return monitor_service_pb2.ListAlertsResponse(
            alerts=[_to_proto(view) for view in await self._views.of(page)], next_page_token=more
        )

    async def AcknowledgeAlert(
        self, request: monitor_service_pb2.AcknowledgeAlertRequest, _context: Context
    ) -> alert_pb2.Alert:
        """Says that someone looks after an alert."""
        by = current_identity().actor or _UNNAMED
        acknowledged = await self._alerts.acknowledge(
            request.alert_id, by=by, note=request.note, sight=self._alert_sight()
        )
        return await self._shown(acknowledged)

    async def WatchAlerts(
        self, request: monitor_service_pb2.WatchAlertsRequest, _context: Context
    ) -> AsyncIterator[alert_pb2.Alert]:
        """Alerts that fire, and then all that change."""
        identity = current_identity()
        watching = self._alerts.watch(request.model_name, lambda: self._alert_book.sight(identity))
        async with contextlib.aclosing(watching) as watched:
            async for alert in watched:
                yield await self._shown(alert)

    async def _shown(self, alert: Alert) -> alert_pb2.Alert:
        (view,) = await self._views.of([alert])
        return _to_proto(view)

    def _alert_sight(self) -> Sight:
        return self._alert_book.sight(current_identity())


def _to_proto(view: AlertView) -> alert_pb2.Alert:
    return seen_alert_to_proto(view.alert, silenced=view.silenced, told=view.told)


class RolloutEventServicer(rollout_event_service_pb2_grpc.RolloutEventServiceServicer):
    """Hands events of rollouts to `Alerts`."""

    def __init__(self, alerts: Alerts) -> None:
        self._alerts = alerts

    async def ReportEvents(
        self, request: rollout_event_pb2.ReportEventsRequest, _context: Context
    ) -> rollout_event_pb2.ReportEventsResponse:
        """Takes events, all or none, each once."""
        now = self._alerts.now()
        events = [
            event_from_proto(event, field=f"events[{place}]", now=now) for place, event in enumerate(request.events)
        ]
        await self._alerts.report(events)
        return rollout_event_pb2.ReportEventsResponse()
