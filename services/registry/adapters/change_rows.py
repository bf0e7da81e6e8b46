"""Changes on their way into the audit log, each in the transaction of what it tells of."""

import json
from dataclasses import dataclass, replace

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.common.grpc.identity import current_identity
from services.registry.domain.version import JsonObject

# Whoever adds a change holds this until the commit, so ids grow in the order of commits: who follows the log by them
# misses nothing.
_ORDER = text("SELECT pg_advisory_xact_lock(hashtext('registry.changes'))")
_ADD = text("""
    INSERT INTO changes
        (resource_type, resource_name, model_name, action, actor, team, request_id, reason, before, after)
    VALUES (:resource_type, :resource_name, :model_name, :action, :actor, :team, :request_id, :reason,
        CAST(:before AS jsonb), CAST(:after AS jsonb))
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewChange:
    """A change about to be noted. Fields are those of the contract's `Change`; JSON holds no secrets."""

    resource_type: str
    """"model", "version", "alias", "team", "member", "api_key" or "artifact"."""
    resource_name: str
    action: str
    """"created", "updated", "deleted", "shared", "unshared", "transferred", "stage" or "revoked"."""
    model_name: str = ""
    """The model that it is about, where it is about one."""
    actor: str = ""
    team: str = ""
    request_id: str = ""
    reason: str = ""
    before: JsonObject | None = None
    after: JsonObject | None = None


def by_caller(change: NewChange) -> NewChange:
    """`change`, said to be made by the caller of the RPC that is being answered, unless it names somebody."""
    caller = current_identity()
    return replace(
        change,
        actor=change.actor or caller.actor,
        team=change.team or caller.team,
        request_id=change.request_id or caller.request_id,
    )


async def note(connection: AsyncConnection, change: NewChange) -> None:
    """Adds a change to the log; it is there when the transaction is committed. Call it last: it makes writers of the
    registry follow one another."""
    await connection.execute(_ORDER)
    await connection.execute(
        _ADD,
        {
            "resource_type": change.resource_type,
            "resource_name": change.resource_name,
            "model_name": change.model_name,
            "action": change.action,
            "actor": change.actor,
            "team": change.team,
            "request_id": change.request_id,
            "reason": change.reason,
            "before": json.dumps(change.before) if change.before is not None else None,
            "after": json.dumps(change.after) if change.after is not None else None,
        },
    )
