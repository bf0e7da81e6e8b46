"""Rows of alerts: read and written under one lock, with all that follows from a change.

Whoever changes an alert holds the lock and calls `settle` at the end: it writes what is to be told of the alerts as
they are then, in the same transaction.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import orjson
from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.monitor.domain.alerts import Alert, resolved
from services.monitor.domain.channels import ChannelSpec, Silence
from services.monitor.domain.rules import RuleSpec
from services.monitor.domain.telling import Message, due

SPEC: TypeAdapter[RuleSpec] = TypeAdapter(RuleSpec)
CHANNEL: TypeAdapter[ChannelSpec] = TypeAdapter(ChannelSpec)
ALERTS: TypeAdapter[tuple[Alert, ...]] = TypeAdapter(tuple[Alert, ...])

_ALERTS_LOCK = 0x1F3D
_LOCK = text("SELECT pg_advisory_xact_lock(:lock)")
COLUMNS = """alert_id, rule_name, subject, model_id, version_id, severity, status, summary, probable_cause,
             undo_command, value, started_at, fired_at, resolved_at, acknowledged_by, acknowledged_at,
             acknowledgement_note, kind, told, done"""
_FIELDS = 20
_PUT = text(f"""
    INSERT INTO alerts ({COLUMNS}, change)
    VALUES (:alert_id, :rule, :subject, :model, :version, :severity, :status, :summary, :probable_cause, :undo_command,
            :value, :started_at, :fired_at, :resolved_at, :acknowledged_by, :acknowledged_at, :note, :kind,
            CAST(:told AS jsonb), :done, nextval('alert_changes'))
    ON CONFLICT (alert_id) DO UPDATE SET
        severity = :severity, status = :status, summary = :summary, probable_cause = :probable_cause,
        undo_command = :undo_command, value = :value, fired_at = :fired_at, resolved_at = :resolved_at,
        acknowledged_by = :acknowledged_by, acknowledged_at = :acknowledged_at, acknowledgement_note = :note,
        version_id = :version, told = CAST(:told AS jsonb), done = :done, settled = false, change = excluded.change
""")  # noqa: S608 - names out of this file
_UNSETTLED = text(f"SELECT {COLUMNS} FROM alerts WHERE NOT settled ORDER BY fired_at, alert_id")  # noqa: S608
_OPEN_OF_RULE = text(f"""
    SELECT {COLUMNS} FROM alerts WHERE NOT settled AND status <> 'resolved' AND rule_name = :rule
""")  # noqa: S608 - names out of this file
_TOLD = text("UPDATE alerts SET told = CAST(:told AS jsonb) WHERE alert_id = :alert_id")
_SETTLED = text("UPDATE alerts SET settled = true WHERE alert_id = ANY(CAST(:ids AS text[]))")
_RULES = text("SELECT spec FROM alert_rules")
_CHANNELS = text("SELECT spec FROM notification_channels")
_SILENCES = text("""
    SELECT silence_id, rule_name, model_id, reason, start_time, end_time, created_by FROM silences
    WHERE end_time > :now ORDER BY end_time, silence_id
""")
_WRITE = text("""
    INSERT INTO alert_notices (channel, means, stage, alert_ids, alerts, created_at, due_at)
    VALUES (:channel, :means, :stage, CAST(:ids AS text[]), CAST(:alerts AS jsonb), :now, clock_timestamp())
""")


async def lock_alerts(connection: AsyncConnection) -> None:
    """Makes this transaction the only one that changes alerts, rules and what is told."""
    await connection.execute(_LOCK, {"lock": _ALERTS_LOCK})


def alert_of(row: Row[Any]) -> Alert:
    """The alert of a row that begins with the columns."""
    return Alert(*row[:_FIELDS])


async def put_alerts(connection: AsyncConnection, alerts: Collection[Alert]) -> None:
    """Stores alerts as they are now, each as a change of its own."""
    for alert in alerts:
        await connection.execute(_PUT, {**vars(alert), "told": orjson.dumps(dict(alert.told)).decode()})


async def end_alerts_of(connection: AsyncConnection, rule: str, now: datetime) -> None:
    """Ends what a rule found."""
    found = [alert_of(row) for row in await connection.execute(_OPEN_OF_RULE, {"rule": rule})]
    await put_alerts(connection, [resolved(alert, now) for alert in found])


async def specs_of_rules(connection: AsyncConnection) -> dict[str, RuleSpec]:
    """All rules by name."""
    specs = [SPEC.validate_python(row.spec) for row in await connection.execute(_RULES)]
    return {spec.name: spec for spec in specs}


async def silences_of(connection: AsyncConnection, now: datetime) -> list[Silence]:
    """The silences that are not over."""
    return [Silence(*row) for row in await connection.execute(_SILENCES, {"now": now})]


async def settle(connection: AsyncConnection, now: datetime) -> None:
    """Writes what is to be told of alerts as they are now. The caller holds the lock."""
    alerts = [alert_of(row) for row in await connection.execute(_UNSETTLED)]
    if not alerts:
        return
    channels = [CHANNEL.validate_python(row.spec) for row in await connection.execute(_CHANNELS)]
    messages, changed = due(
        alerts,
        rules=await specs_of_rules(connection),
        channels={channel.name: channel for channel in channels},
        silences=await silences_of(connection, now),
        now=now,
    )
    for alert in changed:
        told = orjson.dumps(dict(alert.told)).decode()
        await connection.execute(_TOLD, {"alert_id": alert.alert_id, "told": told})
    await _write(connection, messages, now)
    over = [alert.alert_id for alert in alerts if not alert.is_open]
    if over:
        await connection.execute(_SETTLED, {"ids": over})


async def _write(connection: AsyncConnection, messages: Sequence[Message], now: datetime) -> None:
    for message in messages:
        await connection.execute(
            _WRITE,
            {
                "channel": message.channel,
                "means": message.means,
                "stage": str(message.stage),
                "ids": [alert.alert_id for alert in message.alerts],
                "alerts": ALERTS.dump_json(message.alerts).decode(),
                "now": now,
            },
        )
