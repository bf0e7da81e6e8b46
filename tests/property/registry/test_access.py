"""However teams, members, keys and models change, and whatever is lost between, followers come to know the truth."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from services.registry.domain.access import ModelAccess, is_seen, viewer_of
from services.registry.domain.access_history import AccessHistory, AccessUpdate, Head
from services.registry.domain.keys import KeyWish
from services.registry.domain.quotas import RateLimit
from services.registry.domain.teams import NewTeam
from services.registry.engines.keys import Keys
from services.registry.engines.signing import Signing
from services.registry.engines.teams import Teams
from tests.support.clock import FakeClock
from tests.support.registry_team_fakes import FakeSigner, MemoryKeyBook, MemoryTeams

T = TypeVar("T")
OPERATOR = Identity(user="olga", role="platform-admin")
TEAMS, USERS, MODELS = ("fraud", "vision"), ("ann", "bob"), ("iris", "lily", "rose")
ROLES = ("viewer", "deployer", "admin")


class Follower:
    """Knows what it was told. `mark` None: it connects anew."""

    def __init__(self) -> None:
        self.mark: int | None = None
        self.models: dict[str, ModelAccess] = {}
        self.head = Head()
        self.revision = -1

    def take(self, update: AccessUpdate) -> None:
        assert update.reset or self.mark is not None
        if update.reset:
            self.models.clear()
        for name in update.removed:
            assert name not in update.models
            self.models.pop(name, None)
        self.models.update(update.models)
        assert update.revision >= self.revision
        self.head, self.mark, self.revision = update.head, update.mark, update.revision


class Access(RuleBasedStateMachine):
    """Admins who change things; a reader that now and then looks; followers that hear late, or break and come back."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.memory = MemoryTeams(self.clock)
        self.history = AccessHistory()
        self.followers = [Follower(), Follower()]
        ids = iter(range(10_000))
        signer = FakeSigner()
        self.teams = Teams(self.memory, clock=self.clock)
        self.keys = Keys(
            keys=MemoryKeyBook(self.memory),
            teams=self.memory,
            signer=signer,
            clock=self.clock,
            new_id=lambda: f"k{next(ids):04}",
        )
        self.signing = Signing(signer=signer, keys=self.memory, clock=self.clock)
        self.made: dict[str, str] = {}
        self.dead: set[str] = set()

    def run(self, call: Coroutine[Any, Any, T]) -> T | Reason:
        try:
            return asyncio.run(call)
        except MeshError as error:
            return error.reason

    @initialize()
    def begin(self) -> None:
        self.run(self.signing.publish())

    @rule(team=st.sampled_from(TEAMS))
    def create_team(self, team: str) -> None:
        self.run(self.teams.create(NewTeam(team, team), caller=OPERATOR))

    @rule(team=st.sampled_from(TEAMS))
    def delete_team(self, team: str) -> None:
        owns = any(model.team == team for model in self.memory.models.values())
        outcome = self.run(self.teams.delete(team, etag="", caller=OPERATOR))
        assert outcome is (Reason.RESOURCE_IN_USE if owns else None) or outcome is Reason.TEAM_NOT_FOUND
        if outcome is None:
            self.dead |= {key_id for key_id, of in self.made.items() if of.split("/")[0] == team}

    @rule(team=st.sampled_from(TEAMS), user=st.sampled_from(USERS), role=st.sampled_from(ROLES))
    def set_member(self, team: str, user: str, role: str) -> None:
        before = asyncio.run(self.memory.member(team, user))
        self.run(self.teams.set_member(team, user, role, caller=OPERATOR))
        if before is not None and ROLES.index(role) < ROLES.index(before.role):
            self.end_tokens(team, user)

    @rule(team=st.sampled_from(TEAMS), user=st.sampled_from(USERS))
    def delete_member(self, team: str, user: str) -> None:
        if self.run(self.teams.delete_member(team, user, caller=OPERATOR)) is None:
            self.end_tokens(team, user)

    @rule(team=st.sampled_from(TEAMS), limited=st.booleans())
    def create_key(self, team: str, limited: bool) -> None:
        limit = RateLimit(5.0) if limited else None
        made = self.run(self.keys.create(KeyWish(team, "a", "viewer", rate_limit=limit), caller=OPERATOR))
        if not isinstance(made, Reason):
            self.made[made.key.key_id] = f"{team}/"

    @rule(team=st.sampled_from(TEAMS), user=st.sampled_from(USERS))
    def exchange(self, team: str, user: str) -> None:
        member = asyncio.run(self.memory.member(team, user))
        made = self.run(self.keys.exchange(team, scopes=(), caller=Identity(user=user, role="anonymous")))
        if isinstance(made, Reason):
            assert (made, member) == (Reason.TEAM_NOT_FOUND, None)
        else:
            assert member is not None
            assert (made.key.role, made.key.user) == (member.role, user)
            self.made[made.key.key_id] = f"{team}/{user}"

    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        if self.made:
            key_id = data.draw(st.sampled_from(sorted(self.made)))
            team = self.made[key_id].split("/")[0]
            if not isinstance(self.run(self.keys.revoke(team, key_id, reason="", caller=OPERATOR)), Reason):
                self.dead.add(key_id)

    @rule(model=st.sampled_from(MODELS), team=st.sampled_from(("", *TEAMS)))
    def register(self, model: str, team: str) -> None:
        if model not in self.memory.models and (not team or asyncio.run(self.memory.team(team))):
            self.memory.add_model(model, team)

    @rule(model=st.sampled_from(MODELS))
    def remove(self, model: str) -> None:
        if model in self.memory.models:
            self.memory.remove_model(model)

    @rule(
        what=st.sampled_from(("share", "unshare", "transfer")),
        model=st.sampled_from(MODELS),
        team=st.sampled_from(TEAMS),
    )
    def hand_on(self, what: str, model: str, team: str) -> None:
        access = asyncio.run(self.memory.access(model))
        if access is not None and (what == "transfer" or access.team != team):
            self.run(getattr(self.memory, what)(model, team, owner=access.team, author=None))

    @rule(hours=st.sampled_from((0.1, 1.5)))
    def time_passes(self, hours: float) -> None:
        self.clock.advance(hours * 3600)

    @rule(whole=st.booleans())
    def look(self, whole: bool) -> None:
        now = self.clock.now()
        if whole or not self.history.known:
            self.history.apply(asyncio.run(self.memory.whole(now=now)))
        else:
            self.history.apply(asyncio.run(self.memory.since(self.history.revision, now=now)))

    @rule(number=st.integers(0, 1))
    def hear(self, number: int) -> None:
        follower = self.followers[number]
        if self.history.known:
            follower.take(self.history.since(follower.mark))
            self.agrees(follower)

    @rule(number=st.integers(0, 1))
    def break_off(self, number: int) -> None:
        self.followers[number].mark = None

    @rule()
    def restart_the_registry(self) -> None:
        self.history = AccessHistory()
        for follower in self.followers:
            follower.mark = None

    def end_tokens(self, team: str, user: str) -> None:
        self.dead |= {key_id for key_id, of in self.made.items() if of == f"{team}/{user}"}

    def agrees(self, follower: Follower) -> None:
        """Whoever has heard all that was read knows what the reader knows."""
        whole = self.history.since(None)
        assert follower.models == whole.models
        assert follower.head == whole.head

    @invariant()
    def what_is_read_and_heard_is_the_truth(self) -> None:
        # As if now came word of all changes; the machine itself goes on where it stood.
        now = self.clock.now()
        truth = asyncio.run(self.memory.whole(now=now))
        if not self.history.known:
            return
        news = asyncio.run(self.memory.since(self.history.revision, now=now))
        told = {name: access for name, access in self.history.since(None).models.items() if name not in news.models}
        told |= {name: access for name, access in news.models.items() if access is not None}
        assert told == truth.models

    @invariant()
    def ended_keys_are_refused_until_they_would_have_ended(self) -> None:
        now = self.clock.now()
        head = asyncio.run(self.memory.whole(now=now)).head
        assert head is not None
        living = {key.key_id for key in self.memory._keys.values() if key.expires_at is None or key.expires_at > now}
        assert set(head.revoked) == self.dead & living
        assert not {one.key_id for one in head.limits} & self.dead


Access.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAccess = Access.TestCase

NAMES = st.sampled_from(MODELS)


def identities() -> st.SearchStrategy[Identity]:
    return st.builds(
        Identity,
        user=st.sampled_from(("", "ann")),
        team=st.sampled_from(("", *TEAMS)),
        role=st.sampled_from(("", "anonymous", "viewer", "admin", "platform-admin")),
        models=st.frozensets(NAMES, max_size=2),
    )


@given(identities(), NAMES, st.sampled_from(("", *TEAMS)), st.frozensets(st.sampled_from(TEAMS)))
def test_viewers_see_what_their_identity_sees(caller: Identity, model: str, team: str, shared: frozenset[str]) -> None:
    # While authentication is off, no key limits anybody.
    assume(caller.role or not caller.models)
    seen = is_seen(viewer_of(caller), model, team, shared)
    if caller.role and caller.role != "platform-admin" and not caller.team:
        # A token that names no team sees nothing, whatever its role says.
        assert not seen
    else:
        assert seen == caller.sees(model, team, shared)
