"""What the engines of teams, keys and access need of the world. Each protocol has a fake that passes the same tests.

Every call of a book may raise DEPENDENCY_UNAVAILABLE. Whatever changes is noted in the audit by the same transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.registry.domain.access import Author, ModelAccess
from services.registry.domain.access_history import Look
from services.registry.domain.jwk import PublicKey
from services.registry.domain.keys import ApiKey, NewKey
from services.registry.domain.members import Member
from services.registry.domain.storage import StorageUse
from services.registry.domain.teams import NewTeam, Team


class TeamBook(Protocol):
    """Where teams and their members are kept."""

    async def create(self, new: NewTeam, *, author: Author) -> Team:
        """Makes a team. The same wish with the same request id again returns the team that is there.

        Raises TEAM_EXISTS where name or namespace are taken, REQUEST_ID_REUSED where the id stands for another wish.
        """
        ...

    async def team(self, name: str) -> Team | None:
        """The team of that name."""
        ...

    async def teams(self, *, among: Sequence[str] | None, after: str, limit: int) -> Sequence[Team]:
        """At most `limit` teams in alphabetical order, from behind `after`; only those `among`, None for all."""
        ...

    async def teams_of(self, user: str) -> Sequence[str]:
        """The names of the teams that a user is a member of, in alphabetical order, at most 1000."""
        ...

    async def change(self, team: Team, *, author: Author) -> Team | None:
        """Keeps `team`'s terms if its revision is still the current one, which then rises; else None."""
        ...

    async def delete(self, team: Team, *, author: Author, now: datetime) -> bool:
        """Removes a team, its members and its shares, and revokes its keys, if its revision is still the current one.
        Whether it did. Raises RESOURCE_IN_USE while it owns models."""
        ...

    async def set_member(self, team: str, user: str, role: str, *, author: Author, now: datetime) -> Member:
        """Gives a user a role; where it was a higher one, their tokens are revoked. Raises TEAM_NOT_FOUND."""
        ...

    async def member(self, team: str, user: str) -> Member | None:
        """A member of a team."""
        ...

    async def members(self, team: str, *, after: str, limit: int) -> Sequence[Member]:
        """At most `limit` members in alphabetical order, from behind `after`."""
        ...

    async def delete_member(self, team: str, user: str, *, author: Author, now: datetime) -> bool:
        """Takes a user out of a team and revokes their tokens of it. Whether they were in it."""
        ...


class KeyBook(Protocol):
    """What is known of keys. The team "" is the operators of the mesh."""

    async def create(self, new: NewKey, *, author: Author, first_only: bool = False) -> ApiKey:
        """Notes a key. Raises TEAM_NOT_FOUND, MODEL_NOT_FOUND where the team does not see a model of the key,
        REQUEST_ID_REUSED, RESOURCE_IN_USE where it is to be `first_only` and there was an operator's key without an end
        before, QUOTA_EXCEEDED where the team or member has too many, and TEAM_NOT_FOUND for a token whose user is not
        (any more) a member with that role."""
        ...

    async def key(self, team: str, key_id: str) -> ApiKey | None:
        """A key of a team."""
        ...

    async def keys(self, team: str, *, before: int, limit: int) -> Sequence[ApiKey]:
        """At most `limit` keys of a team, newest first, with numbers below `before` (0: from the newest)."""
        ...

    async def revoke(self, team: str, key_id: str, *, reason: str, author: Author, now: datetime) -> ApiKey | None:
        """Ends a key; one that is revoked stays as it is. None: there is no such key of that team."""
        ...

    async def note_use(self, used_at: Mapping[str, datetime]) -> None:
        """Notes when keys were used last, never earlier than is known. Unknown keys are ignored."""
        ...


class SigningKeys(Protocol):
    """The public halves of what keys are and were signed with."""

    async def publish(self, key: PublicKey, *, now: datetime) -> None:
        """Notes that a registry signs with `key` now. Raises PERMISSION_DENIED where operators trust it no more."""
        ...

    async def key_set(self, *, now: datetime) -> str:
        """The JSON Web Key Set: keys in use within the last day, and those that signed a key that still lives."""
        ...


class AccessSource(Protocol):
    """Reads what tells callers apart, each time as of one moment."""

    async def whole(self, *, now: datetime) -> Look:
        """All of it."""
        ...

    async def since(self, revision: int, *, now: datetime) -> Look:
        """What was changed behind a revision."""
        ...


class SharingBook(Protocol):
    """Whose models are, and who else sees them."""

    async def access(self, model_name: str) -> ModelAccess | None:
        """Whose a model is."""
        ...

    async def share(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Lets a team see a model that is still `owner`'s. Raises MODEL_NOT_FOUND where it is not, TEAM_NOT_FOUND,
        QUOTA_EXCEEDED where too many see it."""
        ...

    async def unshare(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Takes that back; nothing where it was not so. Raises MODEL_NOT_FOUND."""
        ...

    async def transfer(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        """Makes a model that is still `owner`'s another team's. Raises MODEL_NOT_FOUND, TEAM_NOT_FOUND, QUOTA_EXCEEDED
        where the receiving team has no room."""
        ...


class StorageMeter(Protocol):
    """What is stored."""

    async def storage(self) -> Sequence[StorageUse]:
        """By team and model, in alphabetical order; models without bytes are left out."""
        ...


class Signer(Protocol):
    """Makes keys out of claims."""

    @property
    def public_key(self) -> PublicKey:
        """What verifies them."""
        ...

    def sign(self, claims: Mapping[str, object]) -> str:
        """A JWT of these claims, signed with ES256, that names the key by its `kid`."""
        ...
