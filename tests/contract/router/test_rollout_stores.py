"""What every `RolloutStore`, `Leases` and `EventStore` promises, shown for the real ones and for those in memory."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.router.adapters.event_store import PostgresEventStore
from services.router.adapters.leases import PostgresLeases
from services.router.adapters.postgres import SCHEMA
from services.router.adapters.rollout_store import PostgresRolloutStore
from services.router.adapters.rule_store import PostgresRuleStore
from services.router.domain.rollouts import (
    ROLLOUTS_LEASE,
    Mismatch,
    Rollout,
    RolloutEvent,
    RolloutKind,
    Saved,
    Severity,
)
from services.router.domain.rules import NewChange, Split
from services.router.ports import EventStore, Leases, RolloutStore, RuleStore
from tests.support.clock import NOON
from tests.support.rollout_fakes import MemoryEventStore, MemoryLeases, MemoryRolloutStore
from tests.support.router_fakes import MemoryRuleStore

ALL, TENTH = Split({"v1.0.0": 100}), Split({"v1.1.0": 10, "v1.0.0": 90})


@dataclass
class Stores:
    """All that keep rollouts."""

    rollouts: RolloutStore
    rules: RuleStore
    leases: Leases
    events: EventStore


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Where the stores are; "" for memory."""
    return str(request.getfixturevalue("database_url")) if request.param == "postgres" else ""


@pytest.fixture
async def stores(url: str) -> AsyncIterator[Stores]:
    if not url:
        leases, events = MemoryLeases(SystemClock()), MemoryEventStore()
        rules = MemoryRuleStore(SystemClock())
        yield Stores(MemoryRolloutStore(rules, leases, events), rules, leases, events)
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    yield Stores(
        PostgresRolloutStore(engine), PostgresRuleStore(engine), PostgresLeases(engine), PostgresEventStore(engine)
    )
    await engine.dispose()


def rollout(name: str = "canary-1", **more: Any) -> Rollout:
    new = Rollout(
        rollout_id=str(uuid.uuid4()),
        model_name="digits",
        name=name,
        kind=RolloutKind.CANARY,
        status="running",
        document={"stage": 0, "success_criteria": {"error_rate_max": 0.01}, "shares": [["v1.0.0", 100]]},
        created_at=NOON,
        updated_at=NOON,
        created_by="ada",
        results={"seen": 1.5},
    )
    return replace(new, **more)


def change(after: Split = TENTH, *, governing: str = "canary-1", request_id: str = "") -> NewChange:
    return NewChange("digits", "new", "canary", "ada", "try it", ALL, after, request_id, governing=governing)


def event(kind: str = "canary_held", subject: str = "c") -> RolloutEvent:
    return RolloutEvent(
        event_id=str(uuid.uuid4()),
        kind=kind,
        model_name="digits",
        version="v1.1.0",
        subject=subject,
        severity=Severity.WARNING,
        summary="it is held",
        time=NOON,
        probable_cause="few callers",
        undo_command="infermesh canary abort digits",
        value=0.25,
    )


async def started(stores: Stores, **more: Any) -> Saved:
    saved = await stores.rollouts.save(rollout(**more), generation=0, change=change(), rule_generation=0)
    assert isinstance(saved, Saved)
    return saved


async def test_a_rollout_comes_back_as_it_was_stored(stores: Stores) -> None:
    assert await stores.rollouts.running() == []
    assert await stores.rollouts.find("digits", "canary-1") is None
    new = rollout(request_id="r1", request_digest="d1")
    saved = await stores.rollouts.save(new, generation=0, change=change(), rule_generation=0)
    assert isinstance(saved, Saved)
    assert saved.rollout == replace(new, generation=1, number=saved.rollout.number)
    assert saved.rule is not None
    assert saved.rule == await stores.rules.find("digits")
    assert (saved.rule.governing, saved.rule.split.positive) == ("canary-1", {"v1.1.0": 10, "v1.0.0": 90})
    assert await stores.rollouts.running() == [saved.rollout]
    assert await stores.rollouts.find("digits", "canary-1") == saved.rollout


async def test_a_model_has_one_that_runs(stores: Stores) -> None:
    first = await started(stores)
    other = rollout("other")
    assert await stores.rollouts.save(other, generation=0) is Mismatch.RUNNING
    ended = replace(first.rollout, status="promoted", ended_at=NOON)
    done = await stores.rollouts.save(
        ended, generation=1, change=change(ALL, governing=""), rule_generation=1, events=[event()]
    )
    assert isinstance(done, Saved)
    assert done.rollout == replace(ended, generation=2)
    assert await stores.rollouts.running() == []
    assert isinstance(await stores.rollouts.save(other, generation=0), Saved)


async def test_a_name_and_a_request_id_count_once(stores: Stores) -> None:
    first = await started(stores, request_id="r1")
    assert isinstance(await stores.rollouts.save(replace(first.rollout, status="aborted"), generation=1), Saved)
    assert await stores.rollouts.save(rollout(), generation=0) is Mismatch.NAME
    assert await stores.rollouts.save(rollout("split"), generation=0) is Mismatch.NAME
    assert await stores.rollouts.save(rollout("x", request_id="r1"), generation=0) is Mismatch.REQUEST


async def test_all_or_nothing(stores: Stores) -> None:
    first = await started(stores)
    moved = replace(first.rollout, document={"stage": 1})
    wrong_rule = await stores.rollouts.save(
        moved, generation=1, change=change(ALL), rule_generation=7, events=[event()]
    )
    assert wrong_rule is Mismatch.RULE
    wrong_rollout = await stores.rollouts.save(
        moved, generation=2, change=change(ALL), rule_generation=1, events=[event()]
    )
    assert wrong_rollout is Mismatch.ROLLOUT
    assert await stores.rollouts.find("digits", "canary-1") == first.rollout
    assert await stores.rules.find("digits") == first.rule
    assert await stores.events.pending(limit=10) == []
    new = await stores.rollouts.save(rollout("late"), generation=0, change=change(), rule_generation=0)
    assert new in (Mismatch.RUNNING, Mismatch.RULE)


async def test_of_two_at_once_one_wins(stores: Stores) -> None:
    first = await started(stores)
    results = await asyncio.gather(
        *(
            stores.rollouts.save(
                replace(first.rollout, document={"by": number}), generation=1, change=change(ALL), rule_generation=1
            )
            for number in range(4)
        )
    )
    assert [isinstance(result, Saved) for result in results].count(True) == 1


async def test_only_the_newest_leader_writes(stores: Stores) -> None:
    first = await started(stores)
    old = await stores.leases.acquire(ROLLOUTS_LEASE, "a", ttl_s=0.0)
    new = await stores.leases.acquire(ROLLOUTS_LEASE, "b", ttl_s=60.0)
    assert old is not None
    assert new is not None
    moved = replace(first.rollout, document={"stage": 1})
    late = await stores.rollouts.save(
        moved, generation=1, change=change(ALL), rule_generation=1, fence=old, events=[event()]
    )
    assert late is Mismatch.FENCE
    assert not await stores.rollouts.note(first.rollout, {"n": 1}, fence=old)
    assert await stores.rules.find("digits") == first.rule
    assert await stores.events.pending(limit=10) == []
    assert isinstance(await stores.rollouts.save(moved, generation=1, fence=new), Saved)


async def test_what_it_shows_is_kept_without_a_new_generation(stores: Stores) -> None:
    first = await started(stores)
    token = await stores.leases.acquire(ROLLOUTS_LEASE, "a", ttl_s=60.0)
    assert token is not None
    assert await stores.rollouts.note(first.rollout, {"n": [1, 2]}, fence=token)
    assert await stores.rollouts.find("digits", "canary-1") == replace(first.rollout, results={"n": [1, 2]})
    assert not await stores.rollouts.note(replace(first.rollout, generation=2), {}, fence=token)


async def test_pages_newest_first_by_kind_and_status(stores: Stores) -> None:
    for number in range(3):
        await stores.rollouts.save(rollout(f"c{number}", status="promoted"), generation=0)
    await stores.rollouts.save(rollout("t", kind=RolloutKind.AB_TEST, status="completed"), generation=0)
    await stores.rollouts.save(rollout("now"), generation=0)
    found = await stores.rollouts.page("digits", RolloutKind.CANARY, limit=10)
    assert [one.name for one in found] == ["now", "c2", "c1", "c0"]
    older = await stores.rollouts.page("digits", RolloutKind.CANARY, before=found[1].number, limit=1)
    assert [one.name for one in older] == ["c1"]
    promoted = await stores.rollouts.page("digits", RolloutKind.CANARY, status="promoted", limit=2)
    assert [one.name for one in promoted] == ["c2", "c1"]
    assert [one.name for one in await stores.rollouts.page("digits", RolloutKind.AB_TEST, limit=5)] == ["t"]
    assert await stores.rollouts.page("other", RolloutKind.CANARY, limit=5) == []


async def test_a_lease_is_held_by_one_and_its_token_grows(stores: Stores) -> None:
    first = await stores.leases.acquire("x", "a", ttl_s=60.0)
    assert first is not None
    assert await stores.leases.acquire("x", "b", ttl_s=60.0) is None
    assert await stores.leases.acquire("x", "a", ttl_s=60.0) is None
    assert await stores.leases.acquire("y", "b", ttl_s=60.0) is not None
    assert await stores.leases.renew("x", first, ttl_s=60.0)
    await stores.leases.release("x", first)
    second = await stores.leases.acquire("x", "b", ttl_s=60.0)
    assert second is not None
    assert second > first
    assert not await stores.leases.renew("x", first, ttl_s=60.0)
    await stores.leases.release("x", first)
    assert await stores.leases.renew("x", second, ttl_s=0.0)
    # Its time is over, and still nobody else has it.
    assert await stores.leases.renew("x", second, ttl_s=0.0)
    results = await asyncio.gather(*(stores.leases.acquire("x", str(number), ttl_s=60.0) for number in range(4)))
    assert [token for token in results if token is not None] == [second + 1]


async def test_events_wait_in_their_order_until_they_are_taken(stores: Stores) -> None:
    first = await started(stores)
    one, two, three = event("canary_held"), event("canary_failed"), event("rolled_back")
    await stores.rollouts.save(first.rollout, generation=1, events=[one, two])
    await stores.rollouts.save(first.rollout, generation=2, events=[three])
    assert await stores.events.pending(limit=2) == [one, two]
    await stores.events.taken([one.event_id])
    await stores.events.refused(two.event_id, "never")
    assert await stores.events.pending(limit=2) == [three]
    await stores.events.taken([one.event_id, three.event_id])
    assert await stores.events.pending(limit=2) == []


async def test_operators_see_rollouts_in_the_table_of_rules(stores: Stores, url: str) -> None:
    first = await started(stores)
    if not url:
        return
    shown = "SELECT rule_type, version_weights, status, success_criteria, auto_promote, end_time FROM traffic_rules"
    with psycopg.connect(url.replace("+psycopg", ""), options="-c search_path=router", autocommit=True) as connection:
        row = connection.execute(f"{shown} WHERE rule_name = 'canary-1'").fetchone()
        criteria = {"error_rate_max": 0.01}
        assert row == ("canary", {"v1.1.0": 10, "v1.0.0": 90}, "active", criteria, False, None)
        paused = await stores.rollouts.save(replace(first.rollout, status="paused"), generation=1)
        assert isinstance(paused, Saved)
        row = connection.execute(f"{shown} WHERE rule_name = 'canary-1'").fetchone()
        assert row is not None
        assert row[2] == "paused"
        ended = replace(first.rollout, status="rolled_back", ended_at=NOON)
        await stores.rollouts.save(ended, generation=2, change=change(ALL, governing=""), rule_generation=1)
        row = connection.execute(f"{shown} WHERE rule_name = 'canary-1'").fetchone()
        # What it came to, not what was restored.
        assert row == ("canary", {"v1.1.0": 10, "v1.0.0": 90}, "completed", criteria, False, NOON)
