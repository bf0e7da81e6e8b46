"""Keys: made, shown once, listed, ended. The registry signs them and keeps what is known of them, never the keys."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.common.page import check_page_size, encode_page_token
from services.common.telemetry.logging import get_logger
from services.registry.domain.access import author_of, check_inside, check_platform_admin, check_team_admin, no_team
from services.registry.domain.keys import (
    TOKEN_LIFE,
    ApiKey,
    KeyWish,
    Kind,
    NewKey,
    check_expiry,
    check_key_name,
    check_not_above,
    check_scopes,
    check_wish,
    claims_of,
    no_key,
    operator_wish,
    whole_seconds,
)
from services.registry.domain.members import Member
from services.registry.domain.pages import number_in, position_of
from services.registry.domain.service_tokens import SERVICE_TOKEN_LIFE, ServiceWish, check_service_wish, service_claims
from services.registry.domain.teams import check_team_name
from services.registry.domain.violations import Violations
from services.registry.engines.changing import check_reason
from services.registry.engines.teams import not_known
from services.registry.ports_teams import KeyBook, Signer, TeamBook

log = get_logger(__name__)

_USES_MAX = 10_000
_TRIES = 3
"""Changes of a member's role that an exchange outlasts."""


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key, and its secret, which is nowhere else."""

    key: ApiKey
    secret: str

    def __repr__(self) -> str:
        return f"MadeKey({self.key!r}, …)"


@dataclass(frozen=True, slots=True)
class KeyPage:
    """A page of keys."""

    keys: Sequence[ApiKey]
    next_page_token: str


class Keys:
    """The calls about keys."""

    def __init__(
        self, *, keys: KeyBook, teams: TeamBook, signer: Signer, clock: Clock, new_id: Callable[[], str]
    ) -> None:
        self._keys = keys
        self._teams = teams
        self._signer = signer
        self._clock = clock
        self._new_id = new_id

    async def create(self, wish: KeyWish, *, caller: Identity) -> MadeKey:
        """Makes a key of a team.

        Raises INVALID_FIELD, TEAM_NOT_FOUND, MODEL_NOT_FOUND where the team does not see a model, PERMISSION_DENIED
        where the key could do more than its maker, REQUEST_ID_REUSED for a call that is repeated.
        """
        check_team_name(wish.team)
        check_team_admin(caller, wish.team)
        check_wish(wish, now=self._clock.now())
        check_not_above(caller, wish)
        return await self._make(Kind.KEY, wish, caller=caller)

    async def create_operator(
        self, name: str, *, expires_at: datetime | None, first_only: bool, caller: Identity
    ) -> MadeKey:
        """Makes an operator's key. Raises INVALID_FIELD, RESOURCE_IN_USE where it is not the first as it should be."""
        check_inside(caller)
        found = Violations()
        check_key_name(name, found)
        check_expiry(expires_at, found, now=self._clock.now())
        found.raise_if_any()
        wish = replace(operator_wish(name), expires_at=expires_at)
        return await self._make(Kind.OPERATOR, wish, caller=caller, first_only=first_only)

    async def exchange(self, team: str, *, scopes: tuple[str, ...], caller: Identity) -> MadeKey:
        """Makes a token of a team for a member of it, by the member's own token.

        Raises UNAUTHENTICATED where the caller is no user or shows a key: a key that gets keys would never end.
        """
        if not caller.user or caller.key_id:
            raise not_known()
        check_team_name(team)
        found = Violations()
        check_scopes(scopes, found)
        found.raise_if_any()
        for _ in range(_TRIES):
            member = await self._teams.member(team, caller.user)
            if member is None:
                break
            made = await self._exchanged(member, scopes, caller)
            if made is not None:
                return made
        raise no_team(team)

    async def create_service_token(self, wish: ServiceWish, *, caller: Identity) -> tuple[str, datetime]:
        """A token by which a service acts for a while, and when it ends. Raises INVALID_FIELD, TEAM_NOT_FOUND."""
        check_inside(caller)
        check_service_wish(wish)
        if wish.team and await self._teams.team(wish.team) is None:
            raise no_team(wish.team)
        now = self._clock.now()
        ends = (now + SERVICE_TOKEN_LIFE).replace(microsecond=0)
        key_id = self._new_id()
        log.info("service token", purpose=wish.purpose, team=wish.team, user=wish.user, key_id=key_id)
        return self._signer.sign(service_claims(wish, key_id=key_id, now=now, ends=ends)), ends

    async def get(self, team: str, key_id: str, *, caller: Identity) -> ApiKey:
        """One key. Raises KEY_NOT_FOUND."""
        _check_manages(caller, team)
        found = await self._keys.key(team, _checked(key_id))
        if found is None:
            raise await self._absent(team, key_id)
        return found

    async def page(self, team: str, *, page_size: int, page_token: str, caller: Identity) -> KeyPage:
        """A page of a team's keys, newest first. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        _check_manages(caller, team)
        size, query = check_page_size(page_size), f"keys\0{team}"
        before = number_in(position_of(page_token, query=query, parts=1))
        found = await self._keys.keys(team, before=before, limit=size + 1)
        if not found and team and await self._teams.team(team) is None:
            raise no_team(team)
        shown = found[:size]
        return KeyPage(shown, encode_page_token(str(shown[-1].number), query=query) if len(found) > size else "")

    async def revoke(self, team: str, key_id: str, *, reason: str, caller: Identity) -> ApiKey:
        """Ends a key; of one that has ended already it returns the same. Raises KEY_NOT_FOUND."""
        _check_manages(caller, team)
        check_reason(reason)
        ended = await self._keys.revoke(
            team, _checked(key_id), reason=reason, author=author_of(caller), now=self._clock.now()
        )
        if ended is None:
            raise await self._absent(team, key_id)
        return ended

    async def note_use(self, used_at: Mapping[str, datetime], *, caller: Identity) -> None:
        """Notes when keys were used last, to the minute; never later than now."""
        check_inside(caller)
        found = Violations()
        found.unless(len(used_at) <= _USES_MAX, "uses", len(used_at), f"at most {_USES_MAX} keys in a call")
        found.raise_if_any()
        now = self._clock.now()
        minutes = {
            key_id: min(moment, now).replace(second=0, microsecond=0)
            for key_id, moment in used_at.items()
            if key_id and "\0" not in key_id
        }
        await self._keys.note_use(minutes)

    async def _exchanged(self, member: Member, scopes: tuple[str, ...], caller: Identity) -> MadeKey | None:
        wish = KeyWish(
            team=member.team,
            name=f"token of {member.user}"[:128],
            role=member.role,
            scopes=scopes,
            expires_at=self._clock.now() + TOKEN_LIFE,
        )
        try:
            return await self._make(Kind.TOKEN, wish, caller=caller, user=member.user)
        except MeshError as error:
            if error.reason is Reason.TEAM_NOT_FOUND:
                return None  # The role changed since it was read.
            raise

    async def _make(
        self, kind: Kind, wish: KeyWish, *, caller: Identity, user: str = "", first_only: bool = False
    ) -> MadeKey:
        new = NewKey(
            key_id=self._new_id(),
            kind=kind,
            team=wish.team,
            name=wish.name,
            role=wish.role,
            scopes=tuple(sorted(set(wish.scopes))),
            models=tuple(sorted(set(wish.models))),
            rate_limit=wish.rate_limit,
            user=user,
            expires_at=whole_seconds(wish.expires_at),
            created_by=caller.actor,
            created_at=self._clock.now(),
            signed_by=self._signer.public_key.kid,
            request_id=wish.request_id,
        )
        # Signed first: what is noted can be shown.
        secret = self._signer.sign(claims_of(new))
        return MadeKey(await self._keys.create(new, author=author_of(caller), first_only=first_only), secret)

    async def _absent(self, team: str, key_id: str) -> MeshError:
        return no_key(team, key_id) if not team or await self._teams.team(team) is not None else no_team(team)


def _check_manages(caller: Identity, team: str) -> None:
    """Raises as `check_team_admin` does; operators' keys, of no team, are the operators' to manage."""
    if not team:
        check_platform_admin(caller)
        return
    check_team_name(team)
    check_team_admin(caller, team)


def _checked(key_id: str) -> str:
    found = Violations()
    found.at_most("key_id", key_id, 128)
    found.raise_if_any()
    return key_id
