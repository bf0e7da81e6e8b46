"""What is known of keys, in PostgreSQL; never the keys themselves."""
# ruff: noqa: S608 - made of this module's own text

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_keys_ending import KEY, key_of, note_key
from services.registry.adapters.queries import SEEN
from services.registry.domain.access import Author, no_team
from services.registry.domain.keys import KEYS_MAX, ApiKey, Kind, NewKey, too_many_keys
from services.registry.domain.teams import request_reused
from services.registry.engines.reading import no_model

_ONE_OPERATOR_AT_A_TIME = text("SELECT pg_advisory_xact_lock(hashtext('registry.operator_keys'))")
_HAD_OPERATOR = text("SELECT EXISTS (SELECT FROM api_keys WHERE kind = 'operator' AND expires_at IS NULL)")
_TEAM = text("SELECT id FROM teams WHERE name = :team FOR SHARE")
_MEMBER = text("""
    SELECT role FROM team_members WHERE team_id = :team_id AND user_name = :user FOR SHARE
""")
_VISIBLE = text(f"""
    SELECT m.name FROM models m WHERE m.name = ANY(:models) AND {SEEN}
""")
_ALIKE = text("""
    SELECT count(*) FROM (SELECT FROM api_keys WHERE team_id = :team_id AND kind = :kind AND user_name = :user
        AND (expires_at IS NULL OR expires_at > :now) LIMIT :most) alike
""")
_TRUSTED = text("SELECT distrusted_at IS NULL FROM signing_keys WHERE kid = :kid FOR SHARE")
_INSERT = text(f"""
    INSERT INTO api_keys AS k (key_id, kind, team_id, team, name, role, scopes, models, rate_limit, user_name,
        expires_at, created_by, created_at, signed_by, request_id)
    VALUES (:key_id, :kind, CAST(:team_id AS uuid), :team, :name, :role, :scopes, :models,
        CAST(:rate_limit AS jsonb), :user, :expires_at, :created_by, :created_at, :signed_by, :request_id)
    ON CONFLICT ON CONSTRAINT api_keys_request DO NOTHING
    RETURNING {KEY}
""")
# Tokens come by the hour and are of no interest when they are long over; the audit keeps that they were made.
_CLEAR = text("""
    DELETE FROM api_keys WHERE key_id IN
        (SELECT key_id FROM api_keys WHERE kind = 'token' AND expires_at < :over LIMIT 100 FOR UPDATE SKIP LOCKED)
""")
_OF_TEAM = f"SELECT {KEY} FROM api_keys k JOIN teams t ON t.id = k.team_id WHERE t.name = :team"
_OF_OPERATORS = f"SELECT {KEY} FROM api_keys k WHERE k.kind = 'operator' AND CAST(:team AS text) = ''"


def _either(condition: str) -> dict[bool, TextClause]:
    """The query for keys of a team (True) and for operators' (False)."""
    return {True: text(f"{_OF_TEAM} AND {condition}"), False: text(f"{_OF_OPERATORS} AND {condition}")}


_ONE = _either("k.key_id = :key_id")
_LOCKED = _either("k.key_id = :key_id FOR UPDATE OF k")
_PAGE = _either("(:before = 0 OR k.number < :before) ORDER BY k.number DESC LIMIT :limit")
_REVOKE = text(f"UPDATE api_keys k SET revoked_at = :now WHERE k.key_id = :key_id RETURNING {KEY}")
# In one order, so that two reports at once don't lock each other out.
_USED = text("""
    WITH used AS (SELECT * FROM unnest(CAST(:ids AS text[]), CAST(:moments AS timestamptz[])) AS u (key_id, moment)),
        locked AS (SELECT k.key_id FROM api_keys k JOIN used USING (key_id) ORDER BY k.key_id FOR UPDATE OF k)
    UPDATE api_keys k SET last_used_at = used.moment FROM used JOIN locked USING (key_id)
    WHERE k.key_id = used.key_id AND (k.last_used_at IS NULL OR k.last_used_at < used.moment)
""")
_TOKENS_KEPT = timedelta(days=1)


class PostgresKeyBook:
    """A `KeyBook`."""

    def __init__(self, engine: AsyncEngine, *, keys_max: int = KEYS_MAX) -> None:
        """`keys_max`: see there. Calls at one time may make a few more."""
        self._engine = engine
        self._keys_max = keys_max

    async def create(self, new: NewKey, *, author: Author, first_only: bool = False) -> ApiKey:
        """Notes a key, if nothing stands in its way."""
        async with transaction(self._engine) as connection:
            team_id = None
            if new.kind is Kind.OPERATOR:
                await _check_operator(connection, first_only=first_only)
            else:
                team_id = await _team_for(connection, new)
                await _check_room(connection, new, team_id, self._keys_max)
            if not (await connection.execute(_TRUSTED, {"kid": new.signed_by})).scalar_one_or_none():
                raise distrusted(new.signed_by)
            row = (await connection.execute(_INSERT, _parameters(new, team_id))).mappings().one_or_none()
            if row is None:
                raise request_reused(new.request_id)
            if new.kind is Kind.TOKEN:
                await connection.execute(_CLEAR, {"over": new.created_at - _TOKENS_KEPT})
            key = key_of(row)
            await note_key(connection, key, "created", author=author)
            return key

    async def key(self, team: str, key_id: str) -> ApiKey | None:
        """A key of a team, or of operators."""
        async with transaction(self._engine) as connection:
            row = (
                (await connection.execute(_ONE[bool(team)], {"team": team, "key_id": key_id})).mappings().one_or_none()
            )
        return key_of(row) if row is not None else None

    async def keys(self, team: str, *, before: int, limit: int) -> Sequence[ApiKey]:
        """At most `limit` keys, newest first."""
        asked = {"team": team, "before": before, "limit": limit}
        async with transaction(self._engine) as connection:
            return [key_of(row) for row in (await connection.execute(_PAGE[bool(team)], asked)).mappings()]

    async def revoke(self, team: str, key_id: str, *, reason: str, author: Author, now: datetime) -> ApiKey | None:
        """Ends a key."""
        asked = {"team": team, "key_id": key_id}
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_LOCKED[bool(team)], asked)).mappings().one_or_none()
            if row is None:
                return None
            if row["revoked_at"] is not None:
                return key_of(row)
            key = key_of((await connection.execute(_REVOKE, asked | {"now": now})).mappings().one())
            await note_key(connection, key, "revoked", author=author, reason=reason)
            return key

    async def note_use(self, used_at: Mapping[str, datetime]) -> None:
        """Notes when keys were used last."""
        if not used_at:
            return
        async with transaction(self._engine) as connection:
            await connection.execute(_USED, {"ids": list(used_at), "moments": list(used_at.values())})


def distrusted(kid: str) -> MeshError:
    """What a registry says that signs with a key that operators have withdrawn."""
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE,
        f"the registry's signing key {kid!r} is trusted no more; an operator must give it a new one and start it again",
        metadata={"kid": kid},
    )


async def _check_operator(connection: AsyncConnection, *, first_only: bool) -> None:
    await connection.execute(_ONE_OPERATOR_AT_A_TIME)
    if first_only and (await connection.execute(_HAD_OPERATOR)).scalar_one():
        raise MeshError(
            Reason.RESOURCE_IN_USE,
            "there has been an operator's key already; ask for another one without first_only "
            "(python -m services.registry.operator_key NAME)",
        )


async def _team_for(connection: AsyncConnection, new: NewKey) -> object:
    team_id = (await connection.execute(_TEAM, {"team": new.team})).scalar_one_or_none()
    if team_id is None:
        raise no_team(new.team)
    if new.kind is Kind.TOKEN:
        asked = {"team_id": team_id, "user": new.user}
        if (await connection.execute(_MEMBER, asked)).scalar_one_or_none() != new.role:
            raise no_team(new.team)
    if new.models:
        found = await connection.execute(_VISIBLE, {"models": list(new.models), "viewer": new.team})
        for name in sorted(set(new.models) - set(found.scalars())):
            raise no_model(name)
    return team_id


async def _check_room(connection: AsyncConnection, new: NewKey, team_id: object, most: int) -> None:
    asked = {"team_id": team_id, "kind": str(new.kind), "user": new.user, "now": new.created_at, "most": most}
    if (await connection.execute(_ALIKE, asked)).scalar_one() >= most:
        raise too_many_keys(new, most)


def _parameters(new: NewKey, team_id: object) -> dict[str, object]:
    return {
        "key_id": new.key_id,
        "kind": str(new.kind),
        "team_id": str(team_id) if team_id is not None else None,
        "team": new.team,
        "name": new.name,
        "role": new.role,
        "scopes": list(new.scopes),
        "models": list(new.models),
        "rate_limit": json.dumps(asdict(new.rate_limit)) if new.rate_limit is not None else None,
        "user": new.user,
        "expires_at": new.expires_at,
        "created_by": new.created_by,
        "created_at": new.created_at,
        "signed_by": new.signed_by,
        "request_id": new.request_id or None,
    }
