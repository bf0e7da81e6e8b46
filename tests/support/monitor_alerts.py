"""Stands in for the database where alerts are kept; contract tests hold it to what the real one does."""

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import datetime

from services.monitor.domain.alerts import FIRING, Alert, RolloutEvent, acknowledged, changed_by, resolved
from services.monitor.ports import AlertQuery, AlertState


class MemoryAlertStore:
    """An `AlertStore`."""

    def __init__(self) -> None:
        self._alerts: dict[str, tuple[int, Alert]] = {}
        self._events: dict[str, datetime] = {}
        self._change = 0

    async def report(self, events: Sequence[RolloutEvent], *, now: datetime) -> None:
        """Takes events, each once."""
        for event in events:
            if event.event_id not in self._events:
                self._events[event.event_id] = now
                found = [alert for alert in self._all() if alert.is_open and alert.model == event.model]
                self._put(changed_by(event, found))

    async def get(self, alert_id: str) -> Alert | None:
        """One alert."""
        return self._alerts[alert_id][1] if alert_id in self._alerts else None

    async def find(self, query: AlertQuery, *, after: tuple[datetime, str] | None, limit: int) -> Sequence[Alert]:
        """Alerts, newest first."""
        found = [
            alert
            for alert in sorted(self._all(), key=lambda alert: (alert.fired_at, alert.alert_id), reverse=True)
            if query.model in ("", alert.model)
            and query.status in ("", alert.status)
            and alert.severity in query.severities
            and (query.models is None or alert.model in query.models)
            and (after is None or (alert.fired_at, alert.alert_id) < after)
        ]
        return found[:limit]

    async def acknowledge(self, alert_id: str, *, by: str, note: str, now: datetime) -> Alert | None:
        """Notes who looks after it."""
        alert = await self.get(alert_id)
        if alert is None:
            return None
        changed = acknowledged(alert, by=by, note=note, now=now)
        if changed != alert:
            self._put([changed])
        return changed

    async def state(self) -> AlertState:
        """The last change, and what fires."""
        firing = Counter(alert.severity for alert in self._all() if alert.status == FIRING)
        return AlertState(max((change for change, _ in self._alerts.values()), default=0), dict(firing))

    async def changed(
        self, *, after: int, model: str, limit: int, models: Collection[str] | None = None
    ) -> Sequence[tuple[int, Alert]]:
        """What changed since."""
        found = [
            (change, alert)
            for change, alert in sorted(self._alerts.values(), key=lambda item: item[0])
            if change > after and model in ("", alert.model) and (models is None or alert.model in models)
        ]
        return found[:limit]

    async def expire(self, *, now: datetime) -> None:
        """Ends alerts of which no more is heard."""
        self._put([resolved(alert, now) for alert in self._all() if alert.is_open and alert.expires_at() <= now])

    async def forget(self, *, before: datetime) -> None:
        """Drops what ended before."""
        for alert in self._all():
            if alert.resolved_at is not None and alert.resolved_at < before:
                del self._alerts[alert.alert_id]
        self._events = {event: taken for event, taken in self._events.items() if taken >= before}

    def _all(self) -> list[Alert]:
        return [alert for _, alert in self._alerts.values()]

    def _put(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            self._change += 1
            self._alerts[alert.alert_id] = self._change, alert
