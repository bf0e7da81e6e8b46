"""What looking into artifacts needs of the world beside the artifacts themselves."""

from typing import Protocol

from services.registry.domain.team_rules import TeamRules


class TeamRulesBook(Protocol):
    """What teams demand of artifacts. May raise DEPENDENCY_UNAVAILABLE."""

    async def rules(self, team: str) -> TeamRules:
        """The rules of a team; those of models without one for "", and the strictest for a team that is not known."""
        ...
