"""What every `RuleStore` and `TableStore` promises, shown for the real ones and for those that other tests use."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from services.common.database import create_engine, migrate
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.adapters.table_store import PostgresTableStore
from services.router.domain.conditions import RouteCondition
from services.router.domain.merge import ServingModel
from services.router.domain.rules import NewChange, Split, Strategy, with_weights
from services.router.domain.shadows import Comparison, Shadow
from services.router.ports import RuleStore, TableStore
from tests.support.clock import FakeClock
from tests.support.router_fakes import MemoryRuleStore, MemoryTableStore, ready

STICKY = Split({"v1.10.0": 10, "v1.2.0": 90, "v0.1.0": 0}, Strategy.STICKY, "x-user-id")
ALL = Split({"v1.2.0": 100})
SPREAD = with_weights(Split({"v1.2.0": 60, "v1.1.0": 40}), {"v1.10.0": 10, "v1.2.0": 54, "v1.1.0": 36})


def change(after: Split = STICKY, *, model: str = "digits", request_id: str = "", digest: str = "") -> NewChange:
    return NewChange(model, "main", "update", "ada", "because", ALL, after, request_id, digest)


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the stores are; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def stores(url: str) -> AsyncIterator[tuple[RuleStore, TableStore]]:
    if not url:
        yield MemoryRuleStore(FakeClock()), MemoryTableStore()
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    yield PostgresRuleStore(engine), PostgresTableStore(engine)
    await engine.dispose()


@pytest.fixture
def rules(stores: tuple[RuleStore, TableStore]) -> RuleStore:
    return stores[0]


@pytest.fixture
def tables(stores: tuple[RuleStore, TableStore]) -> TableStore:
    return stores[1]


async def test_a_rule_comes_back_as_it_was_stored_its_order_included(rules: RuleStore) -> None:
    assert await rules.find("digits") is None
    stored = await rules.save(change(), generation=0)
    assert stored is not None
    assert stored == await rules.find("digits")
    assert [stored] == await rules.some(["digits", "nothing"])
    assert (stored.split, tuple(stored.split.weights)) == (STICKY, tuple(STICKY.weights))
    assert (stored.generation, stored.created_by, stored.updated_by, stored.reason) == (1, "ada", "ada", "because")
    assert stored.deployment_name == "main"


async def test_places_come_back_as_they_were_also_from_the_history(rules: RuleStore) -> None:
    stored = await rules.save(change(SPREAD), generation=0)
    assert stored is not None
    assert len(stored.split.runs) == 4
    assert stored.split.runs == SPREAD.runs
    assert [one.split.runs for one in await rules.some(["digits", "nothing"])] == [SPREAD.runs]
    assert [one.after.runs for one in await rules.changes("digits", before=None, limit=1)] == [SPREAD.runs]


async def test_conditions_shadows_and_who_governs_come_back_as_they_were(rules: RuleStore) -> None:
    full = replace(
        STICKY,
        conditions=(
            RouteCondition("header:x-tier", ("gold", "ünï"), "v1.10.0", prefix=True),
            RouteCondition("team", ("a",), "v1.2.0"),
        ),
        shadows=(Shadow("v0.1.0", 5, Comparison("top_k", 3, 0.5, 0.0)), Shadow("v1.10.0")),
    )
    stored = await rules.save(replace(change(full), governing="canary-7", log_labels=True), generation=0)
    assert stored is not None
    assert (stored.split, stored.governing, stored.log_labels) == (full, "canary-7", True)
    assert [(one.split, one.governing, one.log_labels) for one in await rules.some(["digits", "nothing"])] == [
        (full, "canary-7", True)
    ]
    (before,) = await rules.changes("digits", before=None, limit=1)
    assert before.after == full
    ended = await rules.save(change(ALL), generation=1)
    assert ended is not None
    assert (ended.split.conditions, ended.split.shadows, ended.governing, ended.log_labels) == ((), (), "", False)


async def test_shadows_are_shown_as_a_rule_of_their_own(rules: RuleStore) -> None:
    assert await rules.shown("digits", after="", limit=9) == []
    await rules.save(change(replace(STICKY, shadows=(Shadow("v0.1.0", 5), Shadow("v1.2.0")))), generation=0)
    shadow, split = await rules.shown("digits", after="", limit=9)
    assert (split.rule_name, split.rule_type, split.weights) == ("split", "split", {"v1.10.0": 10, "v1.2.0": 90})
    assert (split.strategy, split.sticky_header, split.status) == ("sticky", "x-user-id", "active")
    assert (shadow.rule_name, shadow.rule_type, shadow.status) == ("shadow", "shadow", "active")
    assert (shadow.weights, shadow.end_time, shadow.created_by) == ({"v0.1.0": 5, "v1.2.0": 100}, None, "ada")
    assert await rules.shown("digits", after="shadow", limit=9) == [split]
    assert await rules.shown("digits", after="", limit=1) == [shadow]
    assert await rules.shown_one("digits", "shadow") == shadow
    assert await rules.shown_one("digits", "other") is None
    # What does not change them leaves their row alone.
    await rules.save(change(replace(ALL, shadows=(Shadow("v0.1.0", 5), Shadow("v1.2.0")))), generation=1)
    assert await rules.shown_one("digits", "shadow") == shadow
    await rules.save(change(ALL), generation=2)
    ended = await rules.shown_one("digits", "shadow")
    assert ended is not None
    assert ended.end_time is not None
    assert (ended.status, ended.rule_id, ended.weights) == ("completed", shadow.rule_id, shadow.weights)
    await rules.save(change(replace(ALL, shadows=(Shadow("v1.2.0", 50),))), generation=3)
    again = await rules.shown_one("digits", "shadow")
    assert again is not None
    assert (again.status, again.end_time, again.weights, again.rule_id) == (
        "active",
        None,
        {"v1.2.0": 50},
        shadow.rule_id,
    )
    assert again.start_time >= ended.end_time


async def test_what_was_changed_is_seen_by_its_generation(rules: RuleStore) -> None:
    assert await rules.generations() == {}
    await rules.save(change(), generation=0)
    await rules.save(change(ALL), generation=1)
    other = await rules.save(change(model="other"), generation=0)
    assert await rules.generations() == {"digits": 2, "other": 1}
    assert await rules.some(["other"]) == [other]
    assert await rules.some([]) == []


async def test_what_was_changed_is_marked_newest_first(rules: RuleStore) -> None:
    assert await rules.marks(after=0, limit=10) == []
    await rules.save(change(), generation=0)
    await rules.save(change(ALL), generation=1)
    await rules.save(change(model="other"), generation=0)
    marks = await rules.marks(after=0, limit=10)
    assert [(one.model_name, one.generation) for one in marks] == [("other", 1), ("digits", 2), ("digits", 1)]
    assert await rules.marks(after=marks[1].change_id, limit=10) == marks[:1]
    assert await rules.marks(after=0, limit=2) == marks[:2]


async def test_only_who_has_read_the_newest_may_change_it(rules: RuleStore) -> None:
    first = await rules.save(change(), generation=0)
    assert await rules.save(change(ALL), generation=0) is None
    second = await rules.save(change(ALL), generation=1)
    assert first is not None
    assert second is not None
    assert (second.generation, second.rule_id, second.created_at) == (2, first.rule_id, first.created_at)
    assert second.split.same_as(ALL)
    assert await rules.save(change(), generation=1) is None
    assert await rules.find("digits") == second
    assert len(await rules.changes("digits", before=None, limit=10)) == 2


async def test_of_two_at_once_one_wins(rules: RuleStore) -> None:
    await rules.save(change(), generation=0)
    results = await asyncio.gather(*(rules.save(change(ALL), generation=1) for _ in range(4)))
    assert [result is not None for result in results].count(True) == 1


async def test_the_history_has_every_change_newest_first(rules: RuleStore) -> None:
    for number in range(3):
        await rules.save(change(ALL if number % 2 else STICKY), generation=number)
    await rules.save(change(model="other"), generation=0)
    found = await rules.changes("digits", before=None, limit=10)
    assert [one.etag for one in found] == ["g3", "g2", "g1"]
    assert [one.action for one in found] == ["update"] * 3
    assert all(one.before.same_as(ALL) for one in found)
    assert [one.after.same_as(STICKY) for one in found] == [True, False, True]
    assert (found[0].actor, found[0].reason, found[0].deployment_name) == ("ada", "because", "main")
    older = await rules.changes("digits", before=found[0].change_id, limit=1)
    assert older == [found[1]]


async def test_a_request_id_counts_once(rules: RuleStore) -> None:
    assert await rules.digest_of("r1") is None
    assert await rules.save(change(request_id="r1", digest="one"), generation=0) is not None
    assert await rules.digest_of("r1") == "one"
    assert await rules.save(change(ALL, request_id="r1", digest="two"), generation=1) is None
    kept = await rules.find("digits")
    assert kept is not None
    assert kept.split.same_as(STICKY)
    # Changes without an id do not stand in each other's way.
    assert await rules.save(change(ALL), generation=1) is not None
    assert await rules.save(change(), generation=2) is not None


async def test_the_last_table_comes_back(tables: TableStore) -> None:
    assert await tables.load() is None
    one = ServingModel(
        ready("a", "v1.0.0", "v1.10.0"),
        "v1.10.0",
        shadows=(Shadow("v1.0.0", 7, Comparison("tolerance", 5, 0.0, 0.25)),),
        aliases={"champion": "v1.10.0"},
        log_labels=True,
    )
    two = ServingModel(ready("b", "v1.0.0"), "v1.0.0")
    await tables.save([one, two], [])
    assert await tables.load() == {"a": one, "b": two}
    changed = ServingModel(ready("a", "v1.10.0", port=9), "v1.10.0")
    await tables.save([changed], ["b", "never-there"])
    assert await tables.load() == {"a": changed}
    await tables.save([], ["a"])
    assert await tables.load() is None


async def test_revisions_are_never_given_twice_and_only_grow(tables: TableStore) -> None:
    blocks = [await tables.reserve_revisions() for _ in range(3)]
    given = [revision for block in blocks for revision in block]
    assert given == sorted(set(given))
    assert given[0] > 0
    assert all(len(block) >= 100 for block in blocks)
