"""Teams, members, keys and shares in memory: each passes the contract tests that its real twin passes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count
from uuid import uuid4

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.registry.adapters.postgres_keys import distrusted
from services.registry.domain.access import Author, ModelAccess, is_seen, no_team
from services.registry.domain.access_history import Head, KeyLimit, Look
from services.registry.domain.jwk import PublicKey, key_set
from services.registry.domain.keys import KEYS_MAX, ApiKey, Kind, NewKey, too_many_keys
from services.registry.domain.members import Member, is_demotion
from services.registry.domain.quotas import Use, check_room
from services.registry.domain.storage import StorageUse
from services.registry.domain.teams import NewTeam, Team, request_reused, team_exists, team_in_use
from services.registry.engines.reading import no_model

_DAY = timedelta(days=1)


@dataclass
class _Model:
    team: str
    shared_with: set[str] = field(default_factory=set)


@dataclass
class MemoryTeams:
    """A `TeamBook`, `KeyBook`, `SigningKeys`, `AccessSource`, `SharingBook` and `StorageMeter` over one memory.

    `noted` are the changes, as what and of whom; `down` makes every call fail as if the database were away.
    """

    clock: Clock
    down: bool = False
    noted: list[tuple[str, str, str]] = field(default_factory=list)
    models: dict[str, _Model] = field(default_factory=dict)
    artifacts: dict[str, dict[str, int]] = field(default_factory=dict)
    """By model, each artifact's digest and size."""
    keys_max: int = KEYS_MAX

    def __post_init__(self) -> None:
        self._teams: dict[str, Team] = {}
        self._requests: dict[str, tuple[str, str]] = {}
        self._members: dict[tuple[str, str], Member] = {}
        self._keys: dict[str, ApiKey] = {}
        self._key_teams: dict[str, str] = {}
        self._key_requests: set[tuple[str, str]] = set()
        self._signed_by: dict[str, str] = {}
        self._signing: dict[str, tuple[PublicKey, datetime]] = {}
        self._distrusted: set[str] = set()
        self._numbers = count(1)

    # Teams.

    async def create(self, new: NewTeam, *, author: Author) -> Team:
        self._answer()
        known = self._requests.get(new.request_id) if new.request_id else None
        if known is not None:
            name, digest = known
            if digest != new.digest:
                raise request_reused(new.request_id)
            return self._teams[name]
        if new.name in self._teams:
            raise team_exists(new, "name")
        if any(team.namespace == new.namespace for team in self._teams.values()):
            raise team_exists(new, "namespace")
        now = self.clock.now()
        team = Team(str(uuid4()), new.name, new.namespace, new.terms, now, now)
        self._teams[new.name] = team
        if new.request_id:
            self._requests[new.request_id] = (new.name, new.digest)
        self._note("team", new.name, "created")
        return team

    async def team(self, name: str) -> Team | None:
        self._answer()
        return self._teams.get(name)

    async def teams(self, *, among: Sequence[str] | None, after: str, limit: int) -> Sequence[Team]:
        self._answer()
        names = sorted(self._teams if among is None else set(among) & set(self._teams))
        return [self._teams[name] for name in names if name > after][:limit]

    async def teams_of(self, user: str) -> Sequence[str]:
        self._answer()
        return sorted(team for team, member in self._members if member == user)

    async def change(self, team: Team, *, author: Author) -> Team | None:
        self._answer()
        if not self._current(team):
            return None
        changed = replace(team, revision=team.revision + 1, updated_at=self.clock.now())
        self._teams[team.name] = changed
        self._note("team", team.name, "updated")
        return changed

    async def delete(self, team: Team, *, author: Author, now: datetime) -> bool:
        self._answer()
        if not self._current(team):
            return False
        owned = sum(model.team == team.name for model in self.models.values())
        if owned:
            raise team_in_use(team.name, owned)
        self._end([key for key in self._keys if self._key_teams.get(key) == team.team_id], now)
        del self._teams[team.name]
        self._members = {key: member for key, member in self._members.items() if member.team != team.name}
        self._requests = {key: known for key, known in self._requests.items() if known[0] != team.name}
        for name, model in self.models.items():
            if team.name in model.shared_with:
                model.shared_with.discard(team.name)
                self._note("model", name, "unshared")
        self._note("team", team.name, "deleted")
        return True

    async def set_member(self, team: str, user: str, role: str, *, author: Author, now: datetime) -> Member:
        self._answer()
        if team not in self._teams:
            raise no_team(team)
        before = self._members.get((team, user))
        if before is not None and before.role == role:
            return before
        member = Member(team, user, role, before.created_at if before is not None else self.clock.now())
        self._members[team, user] = member
        if before is not None and is_demotion(before.role, role):
            self._end_tokens(team, user, now)
        self._note("member", f"{team}/{user}", "created" if before is None else "updated")
        return member

    async def member(self, team: str, user: str) -> Member | None:
        self._answer()
        return self._members.get((team, user))

    async def members(self, team: str, *, after: str, limit: int) -> Sequence[Member]:
        self._answer()
        every = [member for (of, _), member in sorted(self._members.items()) if of == team]
        return [member for member in every if member.user > after][:limit]

    async def delete_member(self, team: str, user: str, *, author: Author, now: datetime) -> bool:
        self._answer()
        if self._members.pop((team, user), None) is None:
            return False
        self._end_tokens(team, user, now)
        self._note("member", f"{team}/{user}", "deleted")
        return True

    def _current(self, team: Team) -> bool:
        known = self._teams.get(team.name)
        return known is not None and (known.team_id, known.revision) == (team.team_id, team.revision)

    def _answer(self) -> None:
        if self.down:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the database does not answer; try again", retry_after_s=2.0)

    def _note(self, kind: str, name: str, action: str) -> None:
        self.noted.append((kind, name, action))

    # Keys.

    async def create_key(self, new: NewKey, *, first_only: bool) -> ApiKey:
        self._answer()
        if first_only and any(key.kind is Kind.OPERATOR and key.expires_at is None for key in self._keys.values()):
            raise MeshError(Reason.RESOURCE_IN_USE, "there has been an operator's key already")
        if new.kind is not Kind.OPERATOR:
            self._check_key(new)
            alike = [
                one
                for key_id, one in self._keys.items()
                if self._is_of(key_id, new.team)
                and (one.kind, one.user) == (new.kind, new.user)
                and _lives(one, new.created_at)
            ]
            if len(alike) >= self.keys_max:
                raise too_many_keys(new, self.keys_max)
        if new.signed_by not in self._signing or new.signed_by in self._distrusted:
            raise distrusted(new.signed_by)
        if new.request_id and (new.team, new.request_id) in self._key_requests:
            raise request_reused(new.request_id)
        values = {name: getattr(new, name) for name in ApiKey.__dataclass_fields__ if hasattr(new, name)}
        key = ApiKey(**values, last_used_at=None, revoked_at=None, number=next(self._numbers))
        self._keys[new.key_id] = key
        self._signed_by[new.key_id] = new.signed_by
        if new.team:
            self._key_teams[new.key_id] = self._teams[new.team].team_id
        if new.request_id:
            self._key_requests.add((new.team, new.request_id))
        self._note("api_key", new.key_id, "created")
        return key

    async def key(self, team: str, key_id: str) -> ApiKey | None:
        self._answer()
        found = self._keys.get(key_id)
        return found if found is not None and self._is_of(key_id, team) else None

    async def keys(self, team: str, *, before: int, limit: int) -> Sequence[ApiKey]:
        self._answer()
        every = [key for key_id, key in reversed(self._keys.items()) if self._is_of(key_id, team)]
        return [key for key in every if not before or key.number < before][:limit]

    async def revoke(self, team: str, key_id: str, *, reason: str, author: Author, now: datetime) -> ApiKey | None:
        found = await self.key(team, key_id)
        if found is None or found.revoked_at is not None:
            return found
        self._end([key_id], now, expired_too=True)
        return self._keys[key_id]

    async def note_use(self, used_at: Mapping[str, datetime]) -> None:
        self._answer()
        for key_id, moment in used_at.items():
            key = self._keys.get(key_id)
            if key is not None and (key.last_used_at is None or key.last_used_at < moment):
                self._keys[key_id] = replace(key, last_used_at=moment)

    def _check_key(self, new: NewKey) -> None:
        if new.team not in self._teams:
            raise no_team(new.team)
        if new.kind is Kind.TOKEN:
            member = self._members.get((new.team, new.user))
            if member is None or member.role != new.role:
                raise no_team(new.team)
        for name in sorted(new.models):
            model = self.models.get(name)
            if model is None or not is_seen(new.team, name, model.team, model.shared_with):
                raise no_model(name)

    def _is_of(self, key_id: str, team: str) -> bool:
        if not team:
            return self._keys[key_id].kind is Kind.OPERATOR
        return team in self._teams and self._key_teams.get(key_id) == self._teams[team].team_id

    def _end_tokens(self, team: str, user: str, now: datetime) -> None:
        tokens = (key for key in self._keys.values() if key.kind is Kind.TOKEN and key.user == user)
        self._end([key.key_id for key in tokens if self._is_of(key.key_id, team)], now)

    def _end(self, key_ids: Sequence[str], now: datetime, *, expired_too: bool = False) -> None:
        for key_id in key_ids:
            key = self._keys[key_id]
            if key.revoked_at is None and (expired_too or _lives(key, now)):
                self._keys[key_id] = replace(key, revoked_at=now)
                self._note("api_key", key_id, "revoked")

    # Signing keys.

    async def publish(self, key: PublicKey, *, now: datetime) -> None:
        self._answer()
        if key.kid in self._distrusted:
            raise distrusted(key.kid)
        if key.kid not in self._signing:
            self._note("api_key", f"signing-key/{key.kid}", "created")
        self._signing[key.kid] = (key, now)

    async def key_set(self, *, now: datetime) -> str:
        self._answer()
        lives = {self._signed_by[one] for one, key in self._keys.items() if key.revoked_at is None and _lives(key, now)}
        return key_set(
            key
            for kid, (key, in_use_at) in self._signing.items()
            if kid not in self._distrusted and (kid in lives or in_use_at > now - _DAY)
        )

    def distrust(self, kid: str) -> None:
        """What an operator does by hand."""
        self._distrusted.add(kid)
        self._note("api_key", f"signing-key/{kid}", "revoked")

    # Sharing and storage.

    async def access(self, model_name: str) -> ModelAccess | None:
        self._answer()
        model = self.models.get(model_name)
        return ModelAccess(model.team, tuple(sorted(model.shared_with))) if model is not None else None

    async def share(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        model = self._owned(model_name, owner)
        if team not in self._teams:
            raise no_team(team)
        if team not in model.shared_with:
            model.shared_with.add(team)
            self._note("model", model_name, "shared")

    async def unshare(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        model = self._owned(model_name, owner)
        if team in model.shared_with:
            model.shared_with.discard(team)
            self._note("model", model_name, "unshared")

    async def transfer(self, model_name: str, team: str, *, owner: str, author: Author) -> None:
        model = self._owned(model_name, owner)
        if team == owner:
            return
        if team not in self._teams:
            raise no_team(team)
        used, has = self._use(team), self._digests(team)
        more = sum(size for digest, size in self.artifacts.get(model_name, {}).items() if digest not in has)
        check_room(team, self._teams[team].terms.resource_quota, used=used, more=Use(1, more))
        model.team = team
        model.shared_with.discard(team)
        self._note("model", model_name, "transferred")

    async def storage(self) -> Sequence[StorageUse]:
        self._answer()
        uses = [
            StorageUse(model.team, name, sum(self.artifacts[name].values()))
            for name, model in self.models.items()
            if self.artifacts.get(name)
        ]
        return sorted(uses, key=lambda use: (use.team, use.model_name))

    def add_model(self, name: str, team: str) -> None:
        """What a registration does."""
        self.models[name] = _Model(team)
        self._note("model", name, "created")

    def remove_model(self, name: str) -> None:
        """What a deletion does."""
        del self.models[name]
        self._note("model", name, "deleted")

    def _owned(self, model_name: str, owner: str) -> _Model:
        self._answer()
        model = self.models.get(model_name)
        if model is None or model.team != owner:
            raise no_model(model_name)
        return model

    def _digests(self, team: str) -> dict[str, int]:
        return {
            digest: size
            for name, model in self.models.items()
            if model.team == team
            for digest, size in self.artifacts.get(name, {}).items()
        }

    def _use(self, team: str) -> Use:
        return Use(sum(model.team == team for model in self.models.values()), sum(self._digests(team).values()))

    # Looks.

    async def whole(self, *, now: datetime) -> Look:
        models = {name: await self._seen(name) for name in self.models}
        return Look(len(self.noted), await self._head(now), models, whole=True)

    async def since(self, revision: int, *, now: datetime) -> Look:
        self._answer()
        changed = self.noted[revision:]
        models = {name: await self._seen(name) for kind, name, _ in changed if kind == "model"}
        head = await self._head(now) if any(kind != "model" for kind, *_ in changed) else None
        return Look(len(self.noted), head, models, whole=False)

    async def _seen(self, name: str) -> ModelAccess | None:
        return await self.access(name)

    async def _head(self, now: datetime) -> Head:
        living = [key for key in self._keys.values() if _lives(key, now)]
        return Head(
            revoked=tuple(sorted(key.key_id for key in living if key.revoked_at is not None)),
            teams=tuple(team for _, team in sorted(self._teams.items())),
            limits=tuple(
                KeyLimit(key.key_id, key.rate_limit)
                for key in sorted(living, key=lambda key: key.key_id)
                if key.rate_limit is not None and key.revoked_at is None
            ),
            key_set=await self.key_set(now=now),
        )


class MemoryKeyBook:
    """A `KeyBook`."""

    def __init__(self, memory: MemoryTeams) -> None:
        self._memory = memory
        self.key = memory.key
        self.keys = memory.keys
        self.revoke = memory.revoke
        self.note_use = memory.note_use

    async def create(self, new: NewKey, *, author: Author, first_only: bool = False) -> ApiKey:
        return await self._memory.create_key(new, first_only=first_only)


@dataclass
class FakeSigner:
    """A `Signer` whose secrets can be read."""

    public_key: PublicKey = field(default_factory=lambda: PublicKey("x", "y"))

    def sign(self, claims: Mapping[str, object]) -> str:
        return repr(dict(claims))


def _lives(key: ApiKey, now: datetime) -> bool:
    return key.expires_at is None or key.expires_at > now
