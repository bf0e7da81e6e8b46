"""Teams in PostgreSQL."""
# ruff: noqa: S608 - made of this module's own text

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from services.common.errors import MeshError, Reason
from services.registry.adapters.change_rows import NewChange, note
from services.registry.adapters.database import transaction
from services.registry.adapters.postgres_keys_ending import note_key, revoke_keys_of_team
from services.registry.adapters.postgres_teams_members import PostgresMembers
from services.registry.adapters.postgres_teams_rows import TEAM, team_of, terms_parameters
from services.registry.domain.access import Author
from services.registry.domain.teams import NewTeam, Team, request_reused, team_exists, team_in_use, team_json

_INSERT = text(f"""
    INSERT INTO teams AS t (name, namespace, description, resource_quota, rate_limit, allow_unsafe_artifacts,
        require_signature, trusted_signers, request_id, request_digest)
    VALUES (:name, :namespace, :description, CAST(:resource_quota AS jsonb), CAST(:rate_limit AS jsonb),
        :allow_unsafe_artifacts, :require_signature, :trusted_signers, :request_id, :request_digest)
    ON CONFLICT DO NOTHING
    RETURNING {TEAM}
""")
_RIVALS = text(f"""
    SELECT {TEAM}, t.request_id, t.request_digest FROM teams t
    WHERE t.request_id = :request_id OR t.name = :name OR t.namespace = :namespace
    ORDER BY t.request_id = :request_id DESC NULLS LAST, t.name = :name DESC LIMIT 1
""")
_ONE = text(f"SELECT {TEAM} FROM teams t WHERE t.name = :name")
_PAGE = text(f"""
    SELECT {TEAM} FROM teams t
    WHERE t.name > :after AND (CAST(:among AS text[]) IS NULL OR t.name = ANY(:among)) ORDER BY t.name LIMIT :limit
""")
_CHANGE = text(f"""
    UPDATE teams t SET description = :description, resource_quota = CAST(:resource_quota AS jsonb),
        rate_limit = CAST(:rate_limit AS jsonb), allow_unsafe_artifacts = :allow_unsafe_artifacts,
        require_signature = :require_signature, trusted_signers = :trusted_signers, revision = revision + 1,
        updated_at = now()
    WHERE id = CAST(:id AS uuid) AND revision = :revision
    RETURNING {TEAM}
""")
_BEFORE = text(f"SELECT {TEAM} FROM teams t WHERE id = CAST(:id AS uuid) AND revision = :revision FOR UPDATE")
_OWNED = text("SELECT count(*) FROM models WHERE team_id = CAST(:id AS uuid)")
_SHARED = text("""
    SELECT m.name FROM model_shares s JOIN models m ON m.id = s.model_id
    WHERE s.team_id = CAST(:id AS uuid) ORDER BY m.name
""")
_DELETE = text("DELETE FROM teams WHERE id = CAST(:id AS uuid)")


class PostgresTeamBook(PostgresMembers):
    """A `TeamBook`."""

    def __init__(self, engine: AsyncEngine) -> None:
        super().__init__(engine)
        self._engine = engine

    async def create(self, new: NewTeam, *, author: Author) -> Team:
        """Makes a team, or says what stands in its way."""
        asked = {
            "name": new.name,
            "namespace": new.namespace,
            "request_id": new.request_id or None,
            "request_digest": new.digest,
            **terms_parameters(new.terms),
        }
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_INSERT, asked)).mappings().one_or_none()
            if row is not None:
                team = team_of(row)
                await _note(connection, author, "created", team, after=team)
                return team
            rival = (await connection.execute(_RIVALS, asked)).mappings().one_or_none()
            if rival is None:
                raise MeshError(
                    Reason.DEPENDENCY_UNAVAILABLE,
                    f"a team like {new.name!r} was removed just now; try again",
                    retry_after_s=1.0,
                )
            if new.request_id and rival["request_id"] == new.request_id:
                if rival["request_digest"] != new.digest:
                    raise request_reused(new.request_id)
                return team_of(rival)
            raise team_exists(new, "name" if rival["name"] == new.name else "namespace")

    async def team(self, name: str) -> Team | None:
        """The team of that name."""
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_ONE, {"name": name})).mappings().one_or_none()
        return team_of(row) if row is not None else None

    async def teams(self, *, among: Sequence[str] | None, after: str, limit: int) -> Sequence[Team]:
        """At most `limit` teams from behind `after`."""
        asked = {"among": list(among) if among is not None else None, "after": after, "limit": limit}
        async with transaction(self._engine) as connection:
            return [team_of(row) for row in (await connection.execute(_PAGE, asked)).mappings()]

    async def change(self, team: Team, *, author: Author) -> Team | None:
        """Keeps the terms if the revision is still the current one."""
        asked = {"id": team.team_id, "revision": team.revision, **terms_parameters(team.terms)}
        async with transaction(self._engine) as connection:
            before = (await connection.execute(_BEFORE, asked)).mappings().one_or_none()
            if before is None:
                return None
            changed = team_of((await connection.execute(_CHANGE, asked)).mappings().one())
            await _note(connection, author, "updated", changed, before=team_of(before), after=changed)
            return changed

    async def delete(self, team: Team, *, author: Author, now: datetime) -> bool:
        """Removes a team with all that belongs to it, if the revision is still the current one."""
        asked = {"id": team.team_id, "revision": team.revision}
        async with transaction(self._engine) as connection:
            # The lock keeps out models that are being registered for the team: they refer to this row.
            before = (await connection.execute(_BEFORE, asked)).mappings().one_or_none()
            if before is None:
                return False
            owned = (await connection.execute(_OWNED, asked)).scalar_one()
            if owned:
                raise team_in_use(team.name, owned)
            shared = (await connection.execute(_SHARED, asked)).scalars().all()
            ended = await revoke_keys_of_team(connection, team.team_id, now=now)
            await connection.execute(_DELETE, asked)
            for key in ended:
                await note_key(connection, key, "revoked", author=author, reason="its team was deleted")
            for model in shared:
                await note(
                    connection,
                    NewChange(
                        resource_type="model",
                        resource_name=model,
                        model_name=model,
                        action="unshared",
                        actor=author.actor,
                        team=author.team,
                        request_id=author.request_id,
                        before={"team": team.name},
                        reason=f"team {team.name} was deleted",
                    ),
                )
            await _note(connection, author, "deleted", team, before=team_of(before))
            return True


async def _note(
    connection: AsyncConnection,
    author: Author,
    action: str,
    team: Team,
    *,
    before: Team | None = None,
    after: Team | None = None,
) -> None:
    await note(
        connection,
        NewChange(
            resource_type="team",
            resource_name=team.name,
            action=action,
            actor=author.actor,
            team=author.team,
            request_id=author.request_id,
            before=team_json(before) if before is not None else None,
            after=team_json(after) if after is not None else None,
        ),
    )
