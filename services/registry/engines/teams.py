"""Teams and their members: made, found, changed, removed, by those who may."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.grpc.identity import ANONYMOUS, PLATFORM_ADMIN, Identity
from services.common.page import check_page_size, encode_page_token
from services.registry.domain.access import (
    author_of,
    check_platform_admin,
    check_sees_team,
    check_team_admin,
    no_team,
)
from services.registry.domain.members import Member, check_role, check_user, no_member
from services.registry.domain.pages import position_of
from services.registry.domain.teams import (
    NewTeam,
    Team,
    TeamTerms,
    check_may_change,
    check_new_team,
    check_team_name,
    check_terms,
)
from services.registry.domain.violations import Violations
from services.registry.engines.changing import mismatch
from services.registry.ports_teams import TeamBook

_TRIES = 5
"""Concurrent changes of one team that a change without an etag outlasts."""


@dataclass(frozen=True, slots=True)
class TeamPage:
    """A page of teams."""

    teams: Sequence[Team]
    next_page_token: str


@dataclass(frozen=True, slots=True)
class MemberPage:
    """A page of members."""

    members: Sequence[Member]
    next_page_token: str


class Teams:
    """The calls about teams. Each raises TEAM_NOT_FOUND for a team that the caller is not in, and PERMISSION_DENIED."""

    def __init__(self, book: TeamBook, *, clock: Clock) -> None:
        self._book = book
        self._clock = clock

    async def create(self, new: NewTeam, *, caller: Identity) -> Team:
        """Makes a team. Raises INVALID_FIELD, TEAM_EXISTS, REQUEST_ID_REUSED."""
        check_platform_admin(caller)
        check_new_team(new)
        return await self._book.create(new, author=author_of(caller))

    async def get(self, name: str, *, caller: Identity) -> Team:
        """One team."""
        check_team_name(name)
        check_sees_team(caller, name)
        return await self._found(name)

    async def page(self, *, page_size: int, page_token: str, caller: Identity) -> TeamPage:
        """A page of the teams that the caller sees. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        size = check_page_size(page_size)
        among = await self._seen(caller)
        query = "\0".join(("teams", *(among if among is not None else ("*",))))
        position = position_of(page_token, query=query, parts=1)
        found = await self._book.teams(among=among, after=position[0] if position else "", limit=size + 1)
        shown = found[:size]
        return TeamPage(shown, encode_page_token(shown[-1].name, query=query) if len(found) > size else "")

    async def update(self, name: str, *, etag: str, change: Callable[[TeamTerms], TeamTerms], caller: Identity) -> Team:
        """The team after `change`. Raises INVALID_FIELD, ETAG_MISMATCH."""
        check_team_name(name, "team.name")
        check_team_admin(caller, name)
        for _ in range(_TRIES):
            current = await self._found(name)
            if etag and etag != current.etag:
                break
            wanted = change(current.terms)
            found = Violations()
            check_terms(wanted, found)
            found.raise_if_any()
            check_may_change(caller, current, wanted)
            if wanted == current.terms:
                return current
            changed = await self._book.change(replace(current, terms=wanted), author=author_of(caller))
            if changed is not None:
                return changed
        raise mismatch(f"team {name!r}")

    async def delete(self, name: str, *, etag: str, caller: Identity) -> None:
        """Removes a team and revokes its keys. Raises RESOURCE_IN_USE while it owns models, ETAG_MISMATCH."""
        check_platform_admin(caller)
        check_team_name(name)
        for _ in range(_TRIES):
            current = await self._found(name)
            if etag and etag != current.etag:
                break
            if await self._book.delete(current, author=author_of(caller), now=self._clock.now()):
                return
        raise mismatch(f"team {name!r}")

    async def set_member(self, team: str, user: str, role: str, *, caller: Identity) -> Member:
        """Gives a user a role. Raises INVALID_FIELD."""
        check_team_name(team)
        check_team_admin(caller, team)
        found = Violations()
        check_user(user, found)
        check_role(role, found)
        found.raise_if_any()
        return await self._book.set_member(team, user, role, author=author_of(caller), now=self._clock.now())

    async def members(self, team: str, *, page_size: int, page_token: str, caller: Identity) -> MemberPage:
        """A page of members, in alphabetical order. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_team_name(team)
        check_sees_team(caller, team)
        size, query = check_page_size(page_size), f"members\0{team}"
        position = position_of(page_token, query=query, parts=1)
        found = await self._book.members(team, after=position[0] if position else "", limit=size + 1)
        if not found:
            await self._found(team)
        shown = found[:size]
        return MemberPage(shown, encode_page_token(shown[-1].user, query=query) if len(found) > size else "")

    async def delete_member(self, team: str, user: str, *, caller: Identity) -> None:
        """Takes a user out of a team. Raises MEMBER_NOT_FOUND."""
        check_team_name(team)
        check_team_admin(caller, team)
        await self._found(team)
        if "\0" in user:
            raise invalid("user", user, "text without the character U+0000")
        if not await self._book.delete_member(team, user, author=author_of(caller), now=self._clock.now()):
            raise no_member(team, user)

    async def _found(self, name: str) -> Team:
        found = await self._book.team(name)
        if found is None:
            raise no_team(name)
        return found

    async def _seen(self, caller: Identity) -> Sequence[str] | None:
        """The names of the teams that a caller sees; None: all there are."""
        if not caller.role or caller.role == PLATFORM_ADMIN:
            return None
        if caller.role != ANONYMOUS:
            return [caller.team] if caller.team else []
        if not caller.user:
            raise not_known()
        return await self._book.teams_of(caller.user)


def not_known() -> MeshError:
    """UNAUTHENTICATED, the same words whoever it is."""
    return MeshError(
        Reason.UNAUTHENTICATED, "no valid API key or token came with the call; send it as authorization: Bearer KEY"
    )
