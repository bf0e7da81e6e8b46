"""Members of teams in PostgreSQL."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.registry.adapters.change_rows import NewChange, note
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_keys_ending import revoke_tokens_of_member
from services.registry.adapters.postgres_teams_rows import member_of
from services.registry.domain.access import Author, no_team
from services.registry.domain.members import Member, is_demotion, member_json

_MEMBERS = """
    SELECT t.name AS team, m.user_name, m.role, m.created_at FROM team_members m JOIN teams t ON t.id = m.team_id
    WHERE t.name = :team
"""
_ONE = text(f"{_MEMBERS} AND m.user_name = :user")
# The row is locked, so a token that is being made for its user is seen by the revocation that follows.
_LOCKED = text(f"{_MEMBERS} AND m.user_name = :user FOR UPDATE OF m")
_PAGE = text(f"{_MEMBERS} AND m.user_name > :after ORDER BY m.user_name LIMIT :limit")
_TEAM = text("SELECT id FROM teams WHERE name = :team FOR SHARE")
_SET = text("""
    INSERT INTO team_members (team_id, user_name, role) VALUES (:team_id, :user, :role)
    ON CONFLICT (team_id, user_name) DO UPDATE SET role = EXCLUDED.role, updated_at = now()
""")
_DELETE = text("DELETE FROM team_members WHERE team_id = :team_id AND user_name = :user")
_TEAMS_OF = text("""
    SELECT t.name FROM team_members m JOIN teams t ON t.id = m.team_id
    WHERE m.user_name = :user ORDER BY t.name LIMIT 1000
""")


class PostgresMembers:
    """The half of a `TeamBook` that knows members."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def teams_of(self, user: str) -> Sequence[str]:
        """The teams of a user."""
        async with transaction(self._engine) as connection:
            return (await connection.execute(_TEAMS_OF, {"user": user})).scalars().all()

    async def set_member(self, team: str, user: str, role: str, *, author: Author, now: datetime) -> Member:
        """Gives a user a role."""
        asked: dict[str, object] = {"team": team, "user": user, "role": role}
        async with transaction(self._engine) as connection:
            team_id = (await connection.execute(_TEAM, asked)).scalar_one_or_none()
            if team_id is None:
                raise no_team(team)
            row = (await connection.execute(_LOCKED, asked)).mappings().one_or_none()
            before = member_of(row) if row is not None else None
            if before is not None and before.role == role:
                return before
            await connection.execute(_SET, asked | {"team_id": team_id})
            after = member_of((await connection.execute(_ONE, asked)).mappings().one())
            if before is not None and is_demotion(before.role, role):
                await revoke_tokens_of_member(connection, team_id, user, author=author, now=now)
            await _note(connection, author, before=before, after=after)
            return after

    async def member(self, team: str, user: str) -> Member | None:
        """A member of a team."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_ONE, {"team": team, "user": user})).mappings().one_or_none()
        return member_of(row) if row is not None else None

    async def members(self, team: str, *, after: str, limit: int) -> Sequence[Member]:
        """At most `limit` members from behind `after`."""
        asked = {"team": team, "after": after, "limit": limit}
        async with transaction(self._engine) as connection:
            return [member_of(row) for row in (await connection.execute(_PAGE, asked)).mappings()]

    async def delete_member(self, team: str, user: str, *, author: Author, now: datetime) -> bool:
        """Takes a user out of a team."""
        asked: dict[str, object] = {"team": team, "user": user}
        async with transaction(self._engine) as connection:
            team_id = (await connection.execute(_TEAM, asked)).scalar_one_or_none()
            row = (await connection.execute(_LOCKED, asked)).mappings().one_or_none()
            if row is None:
                return False
            await connection.execute(_DELETE, asked | {"team_id": team_id})
            await revoke_tokens_of_member(connection, team_id, user, author=author, now=now)
            await _note(connection, author, before=member_of(row), after=None)
            return True


async def _note(connection: AsyncConnection, author: Author, *, before: Member | None, after: Member | None) -> None:
    one = after or before
    assert one is not None
    action = "created" if before is None else "deleted" if after is None else "updated"
    await note(
        connection,
        NewChange(
            resource_type="member",
            resource_name=f"{one.team}/{one.user}",
            action=action,
            actor=author.actor,
            team=author.team,
            request_id=author.request_id,
            before=member_json(before) if before is not None else None,
            after=member_json(after) if after is not None else None,
        ),
    )
