"""Alerts in PostgreSQL. Every change takes the next number of one sequence under one lock, so the order of numbers is
the order of commits and whoever follows them misses none.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.alert_rows import (
    COLUMNS,
    alert_of,
    lock_alerts,
    put_alerts,
    settle,
    specs_of_rules,
)
from services.monitor.adapters.database import transaction
from services.monitor.domain.alerts import Alert, RolloutEvent, acknowledged, changed_by, resolved
from services.monitor.domain.rules import raising
from services.monitor.ports import AlertQuery, AlertState

_TAKE = text("""
    INSERT INTO rollout_events (event_id, kind, model_id, version_id, subject, severity, summary, probable_cause,
                                undo_command, value, "timestamp", received_at)
    VALUES (:event_id, :kind, :model, :version, :subject, :severity, :summary, :probable_cause, :undo_command, :value,
            :time, :now)
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
""")
_OPEN = text(f"SELECT {COLUMNS} FROM alerts WHERE status <> 'resolved' AND model_id = :model ORDER BY fired_at")  # noqa: S608
_ALL_OPEN = text(f"SELECT {COLUMNS} FROM alerts WHERE status <> 'resolved' AND kind <> ''")  # noqa: S608 - names out of this file
_GET = text(f"SELECT {COLUMNS} FROM alerts WHERE alert_id = :alert_id")  # noqa: S608 - names out of this file
_FIND = text(f"""
    SELECT {COLUMNS} FROM alerts
    WHERE (:model = '' OR model_id = :model) AND (:status = '' OR status = :status)
      AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(CAST(:models AS text[])))
      AND severity = ANY(CAST(:severities AS text[]))
      AND (CAST(:fired_at AS timestamptz) IS NULL OR (fired_at, alert_id) < (:fired_at, :alert_id))
    ORDER BY fired_at DESC, alert_id DESC LIMIT :limit
""")  # noqa: S608 - names out of this file
_CHANGED = text(f"""
    SELECT {COLUMNS}, change FROM alerts
    WHERE change > :after AND (:model = '' OR model_id = :model)
      AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(CAST(:models AS text[])))
    ORDER BY change LIMIT :limit
""")  # noqa: S608 - names out of this file
_STATE = text("""
    SELECT (SELECT coalesce(max(change), 0) FROM alerts), severity, count(severity)
    FROM (VALUES (1)) AS one LEFT JOIN alerts ON status = 'firing' GROUP BY severity
""")
_FORGET = (
    text("DELETE FROM alerts WHERE resolved_at < :before"),
    text("DELETE FROM rollout_events WHERE received_at < :before"),
)


class PostgresAlertStore:
    """An `AlertStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def report(self, events: Sequence[RolloutEvent], *, now: datetime) -> None:
        """Takes events, each once."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            rules = raising((await specs_of_rules(connection)).values())
            for event in events:
                if (await connection.execute(_TAKE, {**vars(event), "now": now})).first() is not None:
                    found = [alert_of(row) for row in await connection.execute(_OPEN, {"model": event.model})]
                    await put_alerts(connection, changed_by(event, found, rules))
                    await settle(connection, now)

    async def get(self, alert_id: str) -> Alert | None:
        """One alert."""
        async with transaction(self._engine) as connection:
            return await _get(connection, alert_id)

    async def find(self, query: AlertQuery, *, after: tuple[datetime, str] | None, limit: int) -> Sequence[Alert]:
        """Alerts, newest first."""
        fired_at, alert_id = after or (None, "")
        asked = {
            "model": query.model,
            "status": query.status,
            "severities": list(query.severities),
            "fired_at": fired_at,
            "alert_id": alert_id,
            "limit": limit,
            "models": _names(query.models),
        }
        async with transaction(self._engine) as connection:
            return [alert_of(row) for row in await connection.execute(_FIND, asked)]

    async def acknowledge(self, alert_id: str, *, by: str, note: str, now: datetime) -> Alert | None:
        """Notes who looks after it; whoever was first stays."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            alert = await _get(connection, alert_id)
            if alert is None:
                return None
            changed = acknowledged(alert, by=by, note=note, now=now)
            if changed != alert:
                await put_alerts(connection, [changed])
                await settle(connection, now)
            return changed

    async def state(self) -> AlertState:
        """The last change, and what fires."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_STATE)).all()
        return AlertState(int(rows[0][0]), {severity: int(count) for _, severity, count in rows if severity})

    async def changed(
        self, *, after: int, model: str, limit: int, models: Collection[str] | None = None
    ) -> Sequence[tuple[int, Alert]]:
        """What changed since."""
        asked = {"after": after, "model": model, "limit": limit, "models": _names(models)}
        async with transaction(self._engine) as connection:
            rows = await connection.execute(_CHANGED, asked)
            return [(int(row[-1]), alert_of(row)) for row in rows]

    async def expire(self, *, now: datetime) -> None:
        """Ends alerts of which no more is heard."""
        async with transaction(self._engine) as connection:
            await lock_alerts(connection)
            found = [alert_of(row) for row in await connection.execute(_ALL_OPEN)]
            await put_alerts(connection, [resolved(alert, now) for alert in found if alert.expires_at() <= now])
            await settle(connection, now)

    async def forget(self, *, before: datetime) -> None:
        """Removes what ended before."""
        async with transaction(self._engine) as connection:
            for statement in _FORGET:
                await connection.execute(statement, {"before": before})


def _names(models: Collection[str] | None) -> list[str] | None:
    return None if models is None else sorted(models)


async def _get(connection: AsyncConnection, alert_id: str) -> Alert | None:
    row = (await connection.execute(_GET, {"alert_id": alert_id})).first()
    return None if row is None else alert_of(row)
