"""Alerts: what is wrong now, what probably caused it, and who looks after it."""

import time
from collections.abc import Callable, Iterator

from infermesh.client.errors import GATEWAY_UNREACHABLE, InfermeshError
from infermesh.client.polling import OUTAGE_TIMEOUT_S
from infermesh.client.transport import Pacer, Transport, all_pages
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2, monitor_service_pb2_grpc

WATCH_TIMEOUT_S = 86_400.0
"""How long alerts are watched where nothing else is said."""
_PAGE_SIZE = 200
_LASTED_S = 5.0
"""A stream that was open for so long worked, though it told nothing: mostly nothing is wrong."""
_REMEMBERED_MAX = 10_000
"""How many alerts a watching remembers, so that it tells none twice."""


class Alerts:
    """What the mesh found to be wrong."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def list(
        self,
        *,
        model: str = "",
        status: str = "",
        min_severity: str = "",
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[alert_pb2.Alert]:
        """Alerts, newest first; `status` is "firing", "acknowledged" or "resolved", `min_severity` as an alert's."""
        size = _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))

        def fetch(token: str) -> monitor_service_pb2.ListAlertsResponse:
            request = monitor_service_pb2.ListAlertsRequest(
                model_name=model, status=status, min_severity=min_severity, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListAlerts, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.alerts, limit=limit)

    def get(self, alert_id: str, *, timeout_s: float | None = None) -> alert_pb2.Alert:
        """One alert. Raises ALERT_NOT_FOUND."""
        request = monitor_service_pb2.GetAlertRequest(alert_id=alert_id)
        return self._transport.call(self._stub.GetAlert, request, timeout_s=timeout_s)

    def acknowledge(self, alert_id: str, *, note: str = "", timeout_s: float | None = None) -> alert_pb2.Alert:
        """Says that someone looks after an alert; whoever was first stays. Raises ALERT_NOT_FOUND."""
        request = monitor_service_pb2.AcknowledgeAlertRequest(alert_id=alert_id, note=note)
        return self._transport.call(self._stub.AcknowledgeAlert, request, timeout_s=timeout_s)

    def watch(
        self,
        *,
        model: str = "",
        timeout_s: float = WATCH_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> Iterator[alert_pb2.Alert]:
        """The alerts that are firing, then each as it fires, changes or resolves, for `timeout_s` seconds.

        A stream that breaks is opened again, for up to `outage_timeout_s` seconds, and what was told is not told twice.
        Raises what the first call meets, at once, and what will not pass.
        """
        deadline = monotonic() + timeout_s
        seen: dict[str, alert_pb2.Alert] = {}
        pacer: Pacer | None = None
        heard = False
        request = monitor_service_pb2.WatchAlertsRequest(model_name=model)
        while (left_s := deadline - monotonic()) > 0:
            opened_s = monotonic()
            try:
                for alert in self._transport.stream(self._stub.WatchAlerts, request, timeout_s=left_s):
                    pacer, heard = None, True
                    if seen.pop(alert.alert_id, None) != alert:
                        yield alert
                    seen[alert.alert_id] = alert
                    if len(seen) > _REMEMBERED_MAX:
                        del seen[next(iter(seen))]
            except InfermeshError as error:
                if deadline - monotonic() <= 0:
                    return
                if monotonic() - opened_s >= _LASTED_S and error.reason != GATEWAY_UNREACHABLE:
                    pacer, heard = None, True
                # A refusal before anything was heard is the answer; a mesh that restarts is waited for.
                if not error.is_interruption or (not heard and not error.is_transient):
                    raise
                pacer = pacer or Pacer(timeout_s=outage_timeout_s, monotonic=monotonic, sleep=sleep)
                if not pacer.pause():
                    raise
            else:
                pacer = pacer or Pacer(timeout_s=outage_timeout_s, monotonic=monotonic, sleep=sleep)
                if not pacer.pause():
                    return
