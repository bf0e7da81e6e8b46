"""Alerts in PostgreSQL. Every change takes the next number of one sequence under one lock, so the order of numbers is
the order of commits and whoever follows them misses none.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.alerts import Alert, RolloutEvent, acknowledged, changed_by, resolved
from services.monitor.ports import AlertQuery, AlertState

_ALERTS_LOCK = 0x1F3D
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
_COLUMNS = """alert_id, rule_name, subject, model_id, version_id, severity, status, summary, probable_cause,
              undo_command, value, started_at, fired_at, resolved_at, acknowledged_by, acknowledged_at,
              acknowledgement_note"""
_FIELDS = 17
_TAKE = text("""
    INSERT INTO rollout_events (event_id, kind, model_id, version_id, subject, severity, summary, probable_cause,
                                undo_command, value, "timestamp", received_at)
    VALUES (:event_id, :kind, :model, :version, :subject, :severity, :summary, :probable_cause, :undo_command, :value,
            :time, :now)
    ON CONFLICT (event_id) DO NOTHING RETURNING event_id
""")
_OPEN = text(f"SELECT {_COLUMNS} FROM alerts WHERE status <> 'resolved' AND model_id = :model ORDER BY fired_at")  # noqa: S608
_ALL_OPEN = text(f"SELECT {_COLUMNS} FROM alerts WHERE status <> 'resolved'")  # noqa: S608 - names out of this file
_GET = text(f"SELECT {_COLUMNS} FROM alerts WHERE alert_id = :alert_id")  # noqa: S608 - names out of this file
_PUT = text(f"""
    INSERT INTO alerts ({_COLUMNS}, change)
    VALUES (:alert_id, :rule, :subject, :model, :version, :severity, :status, :summary, :probable_cause, :undo_command,
            :value, :started_at, :fired_at, :resolved_at, :acknowledged_by, :acknowledged_at, :note,
            nextval('alert_changes'))
    ON CONFLICT (alert_id) DO UPDATE SET
        severity = :severity, status = :status, summary = :summary, probable_cause = :probable_cause,
        undo_command = :undo_command, value = :value, fired_at = :fired_at, resolved_at = :resolved_at,
        acknowledged_by = :acknowledged_by, acknowledged_at = :acknowledged_at, acknowledgement_note = :note,
        version_id = :version, change = excluded.change
""")  # noqa: S608 - names out of this file
_FIND = text(f"""
    SELECT {_COLUMNS} FROM alerts
    WHERE (:model = '' OR model_id = :model) AND (:status = '' OR status = :status)
      AND (CAST(:models AS text[]) IS NULL OR model_id = ANY(CAST(:models AS text[])))
      AND severity = ANY(CAST(:severities AS text[]))
      AND (CAST(:fired_at AS timestamptz) IS NULL OR (fired_at, alert_id) < (:fired_at, :alert_id))
    ORDER BY fired_at DESC, alert_id DESC LIMIT :limit
""")  # noqa: S608 - names out of this file
_CHANGED = text(f"""
    SELECT {_COLUMNS}, change FROM alerts
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
            await _lock(connection)
            for event in events:
                if (await connection.execute(_TAKE, {**vars(event), "now": now})).first() is not None:
                    found = [_alert(row) for row in await connection.execute(_OPEN, {"model": event.model})]
                    await _put(connection, changed_by(event, found))

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
            return [_alert(row) for row in await connection.execute(_FIND, asked)]

    async def acknowledge(self, alert_id: str, *, by: str, note: str, now: datetime) -> Alert | None:
        """Notes who looks after it; whoever was first stays."""
        async with transaction(self._engine) as connection:
            await _lock(connection)
            alert = await _get(connection, alert_id)
            if alert is None:
                return None
            changed = acknowledged(alert, by=by, note=note, now=now)
            if changed != alert:
                await _put(connection, [changed])
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
            return [(int(row[-1]), _alert(row)) for row in rows]

    async def expire(self, *, now: datetime) -> None:
        """Ends alerts of which no more is heard."""
        async with transaction(self._engine) as connection:
            await _lock(connection)
            found = [_alert(row) for row in await connection.execute(_ALL_OPEN)]
            await _put(connection, [resolved(alert, now) for alert in found if alert.expires_at() <= now])

    async def forget(self, *, before: datetime) -> None:
        """Removes what ended before."""
        async with transaction(self._engine) as connection:
            for statement in _FORGET:
                await connection.execute(statement, {"before": before})


def _names(models: Collection[str] | None) -> list[str] | None:
    return None if models is None else sorted(models)


async def _lock(connection: AsyncConnection) -> None:
    await connection.execute(_LOCK, {"lock": _ALERTS_LOCK})


async def _get(connection: AsyncConnection, alert_id: str) -> Alert | None:
    row = (await connection.execute(_GET, {"alert_id": alert_id})).first()
    return None if row is None else _alert(row)


async def _put(connection: AsyncConnection, alerts: Sequence[Alert]) -> None:
    for alert in alerts:
        await connection.execute(_PUT, vars(alert))


def _alert(row: Row[Any]) -> Alert:
    return Alert(*row[:_FIELDS])
