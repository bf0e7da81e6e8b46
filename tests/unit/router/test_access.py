"""What the registry's word means, and that it reaches gateways in the right order, whoever is dead."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.access import (
    Access,
    AccessUpdate,
    Callers,
    Owner,
    Owners,
    changed_owners,
    is_key_set,
    updated,
)
from services.router.engines.access import AccessKeeper
from tests.support.gateway_keys import Signer
from tests.support.waiting import eventually

pytestmark = pytest.mark.looptime
KEYS, OTHER_KEYS = Signer("key-1").key_set, Signer("key-2").key_set


class PlayedRegistry:
    """An `AccessSource` that says what tests put, and is away when told."""

    def __init__(self) -> None:
        self.says: asyncio.Queue[AccessUpdate | None] = asyncio.Queue()
        self.dialled = 0

    def say(self, *updates: AccessUpdate | None) -> None:
        """None: it goes away."""
        for update in updates:
            self.says.put_nowait(update)

    async def watch(self) -> AsyncIterator[AccessUpdate]:
        self.dialled += 1
        while (update := await self.says.get()) is not None:
            yield update
        raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry does not answer")


class MemoryStore:
    """An `AccessStore`."""

    def __init__(self, kept: Access | None = None) -> None:
        self.kept = kept
        self.away = False

    async def load(self) -> Access | None:
        return self.kept

    async def keep_callers(self, callers: Callers) -> None:
        self._reach()
        self.kept = replace(self.kept, callers=callers) if self.kept is not None else Access(callers)

    async def keep_owners(self, owners: Owners) -> None:
        self._reach()
        assert self.kept is not None
        self.kept = replace(self.kept, owners=owners)

    def _reach(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the database does not answer")


class NotedGateways:
    """An `Admission` that takes a while."""

    def __init__(self) -> None:
        self.admitted: list[Callers] = []
        self.busy = False

    async def admit(self, callers: Callers) -> None:
        assert not self.busy, "one at a time"
        self.busy = True
        await asyncio.sleep(0.05)
        self.busy = False
        self.admitted.append(callers)


class Setting:
    """A keeper among those."""

    def __init__(self, kept: Access | None = None) -> None:
        self.registry, self.store, self.gateways = PlayedRegistry(), MemoryStore(kept), NotedGateways()
        self.owners: list[Owners] = []
        self.revoked: list[tuple[str, ...]] = []
        self.keeper = AccessKeeper(
            source=self.registry,
            store=self.store,
            gateways=self.gateways,
            on_owners=self.owners.append,
            on_revoked=self.revoked.append,
            clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)),
            first_word_s=2.0,
        )
        self._tasks: Sequence[asyncio.Task[None]] = ()

    async def __aenter__(self) -> "Setting":
        await self.keeper.restore()
        works = (self.keeper.follow, self.keeper.go_by_what_was_kept, self.keeper.keep)
        self._tasks = [asyncio.create_task(work(), name=work.__name__) for work in works]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def word(*revoked: str, key_set: str = KEYS, full: bool = True, **owners: Owner) -> AccessUpdate:
    return AccessUpdate(Callers(f"r{len(revoked)}", key_set, revoked), full, owners)


async def test_nobody_is_told_anything_before_something_is_known() -> None:
    async with Setting() as setting:
        await asyncio.sleep(60)
        assert (setting.gateways.admitted, setting.keeper.known) == ([], False)
        setting.registry.say(word("k"))
        await eventually(lambda: setting.gateways.admitted, what="gateways know")
        assert setting.gateways.admitted[-1].revoked == ("k",)
        assert setting.keeper.known
        await eventually(lambda: setting.revoked == [("k",)], what="batchers are told of revoked keys")
        await eventually(lambda: setting.store.kept is not None, what="it is kept")


async def test_what_was_kept_holds_where_the_registry_is_dead_and_not_before() -> None:
    kept = Access(Callers("1", KEYS, ("leaver",)), {"m": Owner("vision", ("audio",))})
    async with Setting(kept) as setting:
        assert setting.owners == [kept.owners]
        setting.registry.say(None, None)
        await asyncio.sleep(1.9)
        assert setting.gateways.admitted == []
        await asyncio.sleep(1.0)
        assert setting.gateways.admitted == [kept.callers]
        setting.registry.say(word("leaver", "another"))
        await eventually(lambda: len(setting.gateways.admitted) == 2, what="its word is told once it is back")
        assert setting.gateways.admitted[-1].revoked == ("leaver", "another")
        assert setting.registry.dialled == 3


async def test_the_registrys_word_after_a_start_spares_gateways_what_was_kept() -> None:
    async with Setting(Access(Callers("1", KEYS, ()))) as setting:
        setting.registry.say(word("k"))
        await asyncio.sleep(10)
        assert [one.revoked for one in setting.gateways.admitted] == [("k",)]


async def test_gateways_are_told_while_the_database_is_away_and_it_is_kept_later() -> None:
    async with Setting() as setting:
        setting.store.away = True
        setting.registry.say(word("k"), word("k", "l", full=False, m=Owner("vision")))
        await asyncio.sleep(5)
        assert setting.gateways.admitted[-1].revoked == ("k", "l")
        assert setting.store.kept is None
        setting.store.away = False
        await asyncio.sleep(2)
        assert setting.store.kept == Access(setting.gateways.admitted[-1], {"m": Owner("vision")})


async def test_owners_are_told_when_they_change_and_gateways_are_not_for_that() -> None:
    async with Setting() as setting:
        setting.registry.say(word(a=Owner("vision"), b=Owner("vision")))
        setting.registry.say(replace(word(full=False, a=Owner("vision", ("audio",))), removed=("b",)))
        await eventually(lambda: len(setting.owners) == 2, what="both words are heard")
        assert setting.owners[-1] == {"a": Owner("vision", ("audio",))}
        await asyncio.sleep(1)
        assert len(setting.gateways.admitted) == 1


@pytest.mark.logs_errors
async def test_a_word_without_a_usable_key_set_revokes_all_the_same() -> None:
    async with Setting() as setting:
        setting.registry.say(word(key_set="{}"))
        await asyncio.sleep(1)
        assert (setting.keeper.known, setting.gateways.admitted) == (False, [])
        setting.registry.say(word(), word("k", key_set='{"keys": []}'))
        await eventually(lambda: len(setting.gateways.admitted) == 2, what="gateways know")
        assert [(one.key_set, one.revoked) for one in setting.gateways.admitted] == [(KEYS, ()), (KEYS, ("k",))]


JWK = json.loads(KEYS)["keys"][0]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "{}",
        '{"keys": {}}',
        '{"keys": []}',
        '{"keys": [1]}',
        '{"keys": [{"kty": "EC"}]}',
        json.dumps({"keys": [{**JWK, "x": JWK["y"]}]}),
        json.dumps({"keys": [{"kty": "oct", "k": "c2VjcmV0", "alg": "HS256"}]}),
    ],
)
def test_what_nothing_can_be_verified_by_is_no_key_set(text: str) -> None:
    assert not is_key_set(text)


def test_one_good_key_is_enough() -> None:
    assert is_key_set(KEYS)
    assert is_key_set(json.dumps({"keys": [{"kty": "new"}, JWK]}))


NAMES = st.sampled_from("abc")
OWNERS = st.dictionaries(NAMES, st.builds(Owner, st.sampled_from(["", "x", "y"])))
UPDATES = st.builds(
    AccessUpdate,
    st.builds(Callers, st.just("1"), st.sampled_from([KEYS, OTHER_KEYS])),
    st.booleans(),
    OWNERS,
    st.lists(NAMES, max_size=2).map(tuple),
)


@given(st.lists(UPDATES, min_size=1, max_size=8))
def test_owners_are_those_said_last_since_all_were_said(updates: list[AccessUpdate]) -> None:
    known: Access | None = None
    expected: dict[str, Owner] = {}
    for update in updates:
        before = dict(expected)
        expected = {} if update.full else {name: one for name, one in expected.items() if name not in update.removed}
        expected |= update.models
        known = updated(known, update)
        assert dict(known.owners) == expected
        assert known.callers == update.callers
        assert changed_owners(before, expected) == {name for name in "abc" if before.get(name) != expected.get(name)}
