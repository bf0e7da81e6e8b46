"""The outbox of rollout events in PostgreSQL: written with what they tell of, forgotten once the monitor has them."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.router.adapters.postgres import transaction
from services.router.domain.rollouts import RolloutEvent, Severity

_INSERT = text("""
    INSERT INTO rollout_events (event_id, event) VALUES (CAST(:id AS uuid), CAST(:event AS jsonb))
    ON CONFLICT (event_id) DO NOTHING
""")
_PENDING = text("SELECT event FROM rollout_events WHERE refused IS NULL ORDER BY number LIMIT :limit")
_TAKEN = text("DELETE FROM rollout_events WHERE event_id = ANY(CAST(:ids AS uuid[]))")
_REFUSED = text("UPDATE rollout_events SET refused = :why WHERE event_id = CAST(:id AS uuid)")


class PostgresEventStore:
    """An `EventStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def pending(self, *, limit: int) -> Sequence[RolloutEvent]:
        """The oldest."""
        async with transaction(self._engine) as connection:
            rows = (await connection.execute(_PENDING, {"limit": limit})).scalars().all()
        return [_from_json(row) for row in rows]

    async def taken(self, event_ids: Sequence[str]) -> None:
        """Forgets them."""
        async with transaction(self._engine) as connection:
            await connection.execute(_TAKEN, {"ids": list(event_ids)})

    async def refused(self, event_id: str, why: str) -> None:
        """Keeps it with the reason."""
        async with transaction(self._engine) as connection:
            await connection.execute(_REFUSED, {"id": event_id, "why": why})


async def write_events(connection: AsyncConnection, events: Sequence[RolloutEvent]) -> None:
    """Puts events into the outbox within the caller's transaction."""
    for event in events:
        await connection.execute(_INSERT, {"id": event.event_id, "event": json.dumps(_to_json(event))})


def _to_json(event: RolloutEvent) -> dict[str, object]:
    return {
        "event_id": event.event_id,
        "kind": event.kind,
        "model_name": event.model_name,
        "version": event.version,
        "subject": event.subject,
        "severity": event.severity.value,
        "summary": event.summary,
        "time": event.time.isoformat(),
        "probable_cause": event.probable_cause,
        "undo_command": event.undo_command,
        "value": event.value,
    }


def _from_json(value: Mapping[str, Any]) -> RolloutEvent:
    return RolloutEvent(
        **{**value, "severity": Severity(value["severity"]), "time": datetime.fromisoformat(value["time"])}
    )
