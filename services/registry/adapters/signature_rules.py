"""What teams demand of artifacts, out of their rows."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.registry.adapters.database import transaction
from services.registry.domain.team_rules import TeamRules

_RULES = text("SELECT allow_unsafe_artifacts, trusted_signers FROM teams WHERE name = :team")


class PostgresTeamRules:
    """A `TeamRulesBook`."""

    def __init__(self, engine: AsyncEngine, *, allow_unsafe_without_team: bool) -> None:
        self._engine = engine
        self._without_team = TeamRules(allow_unsafe=allow_unsafe_without_team)

    async def rules(self, team: str) -> TeamRules:
        """The rules of a team."""
        if not team:
            return self._without_team
        async with transaction(self._engine) as connection:
            row = (await connection.execute(_RULES, {"team": team})).one_or_none()
        return TeamRules(team, row[0], tuple(row[1])) if row is not None else TeamRules(team)
