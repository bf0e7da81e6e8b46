"""Alerts: raised by events of rollouts, looked after by people, followed by whoever watches."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Sequence
from datetime import datetime, timedelta

from services.common.access.book import EVERYTHING, Sight
from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name
from services.common.telemetry.logging import get_logger
from services.monitor.domain.alerts import FIRING, SEVERITIES, STATUSES, Alert, RolloutEvent, at_least
from services.monitor.ports import AlertQuery, AlertStore, Board

log = get_logger(__name__)

EVENTS_MAX = 100
NOTE_MAX = 1000
_ALERTS_A_READ = 100
_LOOK_PERIOD_S = 1.0


class Alerts:
    """Owns alerts. `run`, a background task, looks for changes, also those that other monitors make; `keep` ends and
    removes old ones.
    """

    def __init__(self, *, store: AlertStore, board: Board, clock: Clock, retention_days: int) -> None:
        self._store = store
        self._board = board
        self._clock = clock
        self._retention = timedelta(days=retention_days)
        self._last_change = 0
        self._changed = asyncio.Condition()

    def now(self) -> datetime:
        """When an event that does not say so happened."""
        return self._clock.now()

    async def report(self, events: Sequence[RolloutEvent]) -> None:
        """Takes events in the order in which they happened, all or none, each once."""
        if not 1 <= len(events) <= EVENTS_MAX:
            raise invalid("events", f"{len(events)} events", f"1 to {EVENTS_MAX} events")
        await self._store.report(events, now=self._clock.now())
        await self._look()

    async def get(self, alert_id: str, sight: Sight = EVERYTHING) -> Alert:
        """One alert. Raises ALERT_NOT_FOUND, also where it is of a model that the caller does not see."""
        return _found(await self._store.get(alert_id), alert_id, sight)

    async def find(
        self,
        model: str,
        *,
        status: str,
        min_severity: str,
        after: tuple[datetime, str] | None,
        limit: int,
        sight: Sight = EVERYTHING,
    ) -> Sequence[Alert]:
        """Alerts of models that the caller sees, the one that fired last first. Raises INVALID_FIELD for a status or
        severity that there is not."""
        if status and status not in STATUSES:
            raise invalid("status", status, f"{', '.join(STATUSES)}, or none for all")
        if min_severity and min_severity not in SEVERITIES:
            raise invalid("min_severity", min_severity, f"{', '.join(SEVERITIES)}, or none for all")
        name = check_model_name(model) if model else ""
        query = AlertQuery(name, status, at_least(min_severity), _models(sight))
        return await self._store.find(query, after=after, limit=limit)

    async def acknowledge(self, alert_id: str, *, by: str, note: str, sight: Sight = EVERYTHING) -> Alert:
        """Says that someone looks after it; whoever was first stays. Raises ALERT_NOT_FOUND, and PERMISSION_DENIED
        where its model is another team's."""
        if len(note) > NOTE_MAX or "\0" in note:
            raise invalid("note", note, f"at most {NOTE_MAX} characters")
        found = await self.get(alert_id, sight)
        if not sight.owns(found.model):
            raise MeshError(
                Reason.PERMISSION_DENIED,
                f"alert {alert_id!r} is of model {found.model!r}, which is not your team's; its owner looks after it",
                metadata={"alert_id": alert_id[:100], "model_name": found.model},
            )
        alert = await self._store.acknowledge(alert_id, by=by, note=note, now=self._clock.now())
        await self._look()
        return _found(alert, alert_id, sight)

    async def watch(self, model: str, sight: Callable[[], Sight] = lambda: EVERYTHING) -> AsyncGenerator[Alert, None]:
        """The alerts that fire, then each that changes, as it is then, of models that the caller sees at that time."""
        name = check_model_name(model) if model else ""
        seen = (await self._store.state()).last_change
        query, after = AlertQuery(name, FIRING, SEVERITIES, _models(sight())), None
        while page := await self._store.find(query, after=after, limit=_ALERTS_A_READ):
            for alert in page:
                yield alert
            after = page[-1].fired_at, page[-1].alert_id
        while True:
            looked = self._last_change
            found = await self._store.changed(after=seen, model=name, limit=_ALERTS_A_READ, models=_models(sight()))
            for seen, alert in found:  # noqa: B007 - also read when all are told
                yield alert
            if len(found) < _ALERTS_A_READ:
                # What else changed until then is of other models.
                seen = max(seen, looked)
                await self._wait_for_change(seen)

    async def run(self) -> None:
        """Looks every second whether something changed."""
        while True:
            await self._clock.sleep(_LOOK_PERIOD_S)
            try:
                await self._look()
            except MeshError as error:
                log.warning("alerts not read; tried again", reason=error.message)

    async def keep(self) -> None:
        """Ends the alerts of which no more is heard, and removes what is past retention."""
        now = self._clock.now()
        await self._store.expire(now=now)
        await self._store.forget(before=now - self._retention)

    async def _wait_for_change(self, seen: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._last_change > seen)

    async def _look(self) -> None:
        state = await self._store.state()
        self._board.alerts(state.firing)
        if state.last_change > self._last_change:
            self._last_change = state.last_change
            async with self._changed:
                self._changed.notify_all()


def _models(sight: Sight) -> Collection[str] | None:
    return None if sight.everything else sight.names


def _found(alert: Alert | None, alert_id: str, sight: Sight) -> Alert:
    if alert is None or not sight.shows(alert.model):
        raise MeshError(
            Reason.ALERT_NOT_FOUND,
            f"no alert has the id {alert_id!r}; ListAlerts shows those that there are",
            metadata={"alert_id": alert_id[:100]},
        )
    return alert
