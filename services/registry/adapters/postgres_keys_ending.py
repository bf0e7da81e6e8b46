"""Keys and what ends them, as parts of others' transactions."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from services.registry.adapters.change_rows import NewChange, note
from services.registry.domain.access import Author
from services.registry.domain.keys import ApiKey, Kind, key_json
from services.registry.domain.quotas import RateLimit

KEY = """k.key_id, k.kind, k.team, k.name, k.role, k.scopes, k.models, k.rate_limit, k.user_name, k.expires_at,
    k.last_used_at, k.revoked_at, k.created_by, k.created_at, k.number"""
"""The columns that `key_of` reads."""
_ALIVE = "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > :now)"
_END = f"UPDATE api_keys k SET revoked_at = :now WHERE {_ALIVE} AND {{}} RETURNING {KEY}"
_OF_TEAM = text(_END.format("k.team_id = CAST(:team_id AS uuid)"))
_OF_MEMBER = text(_END.format("k.team_id = CAST(:team_id AS uuid) AND k.kind = 'token' AND k.user_name = :user"))


def key_of(row: RowMapping) -> ApiKey:
    """The key that a row holds."""
    values: dict[str, Any] = dict(row)
    limit = values["rate_limit"]
    return ApiKey(
        key_id=values["key_id"],
        kind=Kind(values["kind"]),
        team=values["team"],
        name=values["name"],
        role=values["role"],
        scopes=tuple(values["scopes"]),
        models=tuple(values["models"]),
        rate_limit=RateLimit(**limit) if limit is not None else None,
        user=values["user_name"],
        expires_at=values["expires_at"],
        last_used_at=values["last_used_at"],
        revoked_at=values["revoked_at"],
        created_by=values["created_by"],
        created_at=values["created_at"],
        number=values["number"],
    )


async def revoke_keys_of_team(connection: AsyncConnection, team_id: str, *, now: datetime) -> Sequence[ApiKey]:
    """Revokes all that a team has, for the caller to note: its rows outlive it, so that its keys stay on the list of
    those that are refused."""
    ended = await connection.execute(_OF_TEAM, {"team_id": team_id, "now": now})
    return [key_of(row) for row in ended.mappings()]


async def revoke_tokens_of_member(
    connection: AsyncConnection, team_id: object, user: str, *, author: Author, now: datetime
) -> None:
    """Revokes the tokens that a user got for a team."""
    ended = await connection.execute(_OF_MEMBER, {"team_id": str(team_id), "user": user, "now": now})
    for row in ended.mappings().all():
        await note_key(connection, key_of(row), "revoked", author=author, reason="its user's role was taken away")


async def note_key(connection: AsyncConnection, key: ApiKey, action: str, *, author: Author, reason: str = "") -> None:
    """Notes what became of a key."""
    await note(
        connection,
        NewChange(
            resource_type="api_key",
            resource_name=f"{key.team}/{key.key_id}" if key.team else key.key_id,
            action=action,
            actor=author.actor,
            team=author.team,
            request_id=author.request_id,
            reason=reason,
            after=key_json(key),
        ),
    )
