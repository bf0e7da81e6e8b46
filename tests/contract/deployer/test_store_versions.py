"""What every `DeploymentStore` promises of deployments that change their version, and of what happened to them."""

from dataclasses import replace
from datetime import timedelta

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import (
    Deployment,
    Failure,
    Health,
    NewDeployment,
    ObjectWish,
    Progress,
    Resources,
    Status,
    Wish,
    with_condition,
)
from services.deployer.domain.quota import Quota
from services.deployer.ports import DeploymentStore
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe

OLD, NEW = recipe(digest="1" * 64), recipe(digest="2" * 64)
ANSWERS = Progress(
    status=Status.ACTIVE,
    health=Health.HEALTHY,
    observed_generation=1,
    loaded={"triton-0": "f"},
    ready_replicas=1,
    traffic_routed=True,
    load_time_ms=180.0,
)


def asked(version: str = "v1.0.0", name: str = "prod", **more: object) -> NewDeployment:
    return NewDeployment("digits", version, name, **{"wish": Wish(), **more})  # type: ignore[arg-type]


async def answering(store: DeploymentStore, new: NewDeployment | None = None) -> Deployment:
    """A deployment whose version answers and has its traffic."""
    made = await store.create(new or asked(), OLD)
    await store.record(made, ANSWERS)
    found = await store.find(made.new.model_name, made.new.deployment_name)
    assert found is not None
    return found


async def roll(store: DeploymentStore, row: Deployment, version: str, **more: object) -> Deployment:
    rolled = await store.roll(row.deployment_id, version, NEW, row.wish, generation=row.generation, **more)  # type: ignore[arg-type]
    assert rolled is not None
    return rolled


async def test_the_version_before_goes_on_as_it_was_under_an_id_of_its_own(store: DeploymentStore) -> None:
    before = await answering(store, asked(request_id="r-1", created_by="ann", team="vision"))
    after = await roll(store, before, "v2.0.0")
    assert (after.deployment_id, after.generation, after.previous_version) == (before.deployment_id, 2, "v1.0.0")
    assert (after.new.version, after.recipe, after.progress, after.created_at) == (
        "v2.0.0",
        NEW,
        Progress(),
        before.created_at,
    )
    assert await store.find("digits", "prod") == after
    (older,) = [row for row in await store.every() if row.successor]
    assert (older.successor, older.new.version, older.recipe) == (after.deployment_id, "v1.0.0", OLD)
    assert older.progress == before.progress
    assert older.deployment_id != before.deployment_id
    assert await store.holder("digits", "v1.0.0") == older
    assert await store.holder("digits", "v2.0.0") == after
    assert await store.holder("digits", "v3.0.0") is None
    page = await store.page(model_name="digits", status="", environment="", after=(), limit=10)
    assert list(page) == [after]
    # The same call as the first one still finds what it made, by its id.
    assert await store.create(replace(after.new, request_id="r-1"), NEW) == after


async def test_back_to_an_older_version_it_goes_on_from_there(store: DeploymentStore) -> None:
    before = await answering(store)
    newer = await roll(store, before, "v2.0.0")
    await store.record(newer, replace(ANSWERS, observed_generation=2, loaded={"triton-0": "g"}))
    found = await store.find("digits", "prod")
    assert found is not None
    back = await roll(store, found, "v1.0.0")
    assert (back.new.version, back.generation, back.previous_version) == ("v1.0.0", 3, "v2.0.0")
    assert (back.progress.loaded, back.progress.status) == ({"triton-0": "f"}, Status.ACTIVE)
    assert (back.progress.traffic_routed, back.progress.warm_until) == (False, None)
    older = await store.holder("digits", "v2.0.0")
    assert older is not None
    assert (older.successor, older.progress.loaded) == (back.deployment_id, {"triton-0": "g"})
    assert len(await store.every()) == 2


async def test_what_a_version_came_to_that_it_has_no_more_is_not_recorded(store: DeploymentStore) -> None:
    before = await answering(store)
    await roll(store, before, "v2.0.0")
    await store.record(before, replace(before.progress, loaded={"triton-0": "late"}))
    current = await store.find("digits", "prod")
    assert current is not None
    assert current.progress == Progress()


async def test_a_version_of_another_deployment_is_not_taken(store: DeploymentStore) -> None:
    before = await answering(store)
    await store.create(asked("v2.0.0", "other"), NEW)
    with pytest.raises(MeshError, match="deployed already, as 'other'") as refused:
        await roll(store, before, "v2.0.0")
    assert refused.value.reason is Reason.DEPLOYMENT_EXISTS
    assert await store.find("digits", "prod") == before
    # Nor is one that an older version still holds.
    await roll(store, before, "v3.0.0")
    with pytest.raises(MeshError, match="deployed already, as 'prod'"):
        await store.create(asked("v1.0.0", "again"), OLD)


async def test_of_a_generation_that_is_over_nothing_changes(store: DeploymentStore) -> None:
    before = await answering(store)
    assert await store.roll(before.deployment_id, "v2.0.0", NEW, before.wish, generation=7) is None
    assert list(await store.every()) == [before]


async def test_older_versions_go_with_the_deployment_and_alone_they_leave_it_be(store: DeploymentStore) -> None:
    before = await answering(store)
    after = await roll(store, before, "v2.0.0")
    again = await roll(store, after, "v3.0.0")
    first = await store.holder("digits", "v1.0.0")
    assert first is not None
    marked = await store.request_deletion(first.deployment_id, generation=first.generation, why="old")
    assert marked is not None
    assert {row.new.version for row in await store.every() if row.deleting} == {"v1.0.0"}
    with pytest.raises(MeshError) as refused:
        await roll(store, again, "v1.0.0")
    assert refused.value.reason is Reason.DEPLOYMENT_TERMINATING
    await store.request_deletion(again.deployment_id, generation=again.generation)
    assert all(row.deleting and row.progress.status is Status.TERMINATING for row in await store.every())


async def test_a_split_that_was_not_handed_on_is_the_new_versions(store: DeploymentStore) -> None:
    made = await store.create(asked(traffic_split={"v0.9.0": 90, "v1.0.0": 10}), OLD)
    after = await roll(store, made, "v2.0.0")
    assert (dict(after.new.traffic_split), after.previous_version) == ({"v0.9.0": 90, "v2.0.0": 10}, "")
    await store.record(after, replace(ANSWERS, observed_generation=2))
    found = await store.find("digits", "prod")
    assert found is not None
    last = await roll(store, found, "v3.0.0")
    assert (dict(last.new.traffic_split), last.previous_version) == ({"v0.9.0": 90, "v2.0.0": 10}, "v2.0.0")


def shares(wish: Wish, **said: int) -> Wish:
    """The wish of an object that states these shares of v1.0.0 and v2.0.0."""
    named = {f"v{number[1:]}.0.0": share for number, share in said.items()}
    return replace(wish, of_object=ObjectWish("2026-01-15T12:00:00Z", named))


async def test_other_shares_of_an_object_are_to_be_handed_on_and_the_same_are_not(store: DeploymentStore) -> None:
    row = await answering(store, asked(wish=shares(Wish(), v1=100), traffic_split={"v1.0.0": 100}))
    assert (row.progress.traffic_routed, row.split_generation) == (True, 0)
    for said, routed, handed, generation in (
        ({"v1": 100}, True, {"v1.0.0": 100}, 0),
        ({"v1": 60, "v2": 40}, False, {"v1.0.0": 60, "v2.0.0": 40}, 3),
        ({}, False, {"v1.0.0": 60, "v2.0.0": 40}, 3),
        ({"v1": 60, "v2": 40}, False, {"v1.0.0": 60, "v2.0.0": 40}, 5),
    ):
        wish = shares(row.wish, **said)
        changed = await store.change(row.deployment_id, wish, generation=row.generation)
        assert changed is not None
        assert changed == await store.find("digits", "prod")
        row = changed
        assert (row.progress.traffic_routed, dict(row.new.traffic_split)) == (routed, handed), said
        assert (row.split_generation, row.wish) == (generation, wish)
    assert await store.change(row.deployment_id, shares(row.wish, v1=100), generation=1) is None


async def test_shares_that_are_asked_for_during_a_step_are_handed_on_after_it(store: DeploymentStore) -> None:
    row = await answering(store, asked(wish=shares(Wish(), v1=100), traffic_split={"v1.0.0": 100}))
    changed = await store.change(row.deployment_id, shares(row.wish, v1=60, v2=40), generation=1)
    assert changed is not None
    await store.record(row, row.progress)
    found = await store.find("digits", "prod")
    assert found is not None
    assert not found.progress.traffic_routed
    await store.record(changed, row.progress)
    found = await store.find("digits", "prod")
    assert found is not None
    assert found.progress.traffic_routed


async def test_another_version_brings_its_objects_shares_or_takes_over(store: DeploymentStore) -> None:
    row = await answering(store, asked(wish=shares(Wish(), v1=100), traffic_split={"v1.0.0": 100}))
    with_its_own = shares(row.wish, v1=60, v2=40)
    rolled = await store.roll(row.deployment_id, "v2.0.0", NEW, with_its_own, generation=1)
    assert rolled is not None
    assert rolled == await store.find("digits", "prod")
    assert (rolled.split_generation, dict(rolled.new.traffic_split)) == (2, {"v1.0.0": 60, "v2.0.0": 40})
    assert rolled.previous_version == "v1.0.0"
    # Before the router has them they are the next version's; once it has, that takes over like any other.
    next_one = await store.roll(row.deployment_id, "v3.0.0", NEW, with_its_own, generation=2)
    assert next_one is not None
    assert (next_one.split_generation, dict(next_one.new.traffic_split)) == (2, {"v1.0.0": 60, "v3.0.0": 40})
    await store.record(next_one, ANSWERS)
    last = await store.roll(row.deployment_id, "v4.0.0", NEW, with_its_own, generation=3)
    assert last is not None
    assert (last.split_generation, last.previous_version) == (0, "v3.0.0")


async def test_older_versions_are_not_measured(store: DeploymentStore) -> None:
    wish, quota = Wish(Resources(1, "2", "1Gi")), Quota("vision", cpu="3")
    before = await answering(store, asked(wish=wish, team="vision"))
    after = await roll(store, before, "v2.0.0", quota=quota)
    larger = Wish(Resources(2, "2", "1Gi"))
    with pytest.raises(MeshError) as refused:
        await store.roll(after.deployment_id, "v3.0.0", NEW, larger, generation=after.generation, quota=quota)
    assert refused.value.reason is Reason.QUOTA_EXCEEDED
    assert await store.find("digits", "prod") == after


async def test_only_asked_nothing_stays(store: DeploymentStore) -> None:
    made = await store.create(asked(), OLD, dry_run=True)
    assert made.new == asked()
    assert list(await store.every()) == []
    await store.create(asked(), OLD)
    with pytest.raises(MeshError) as refused:
        await store.create(asked(), OLD, dry_run=True)
    assert refused.value.reason is Reason.DEPLOYMENT_EXISTS
    assert len(await store.events("digits", "prod", before=None, limit=9)) == 1


async def test_what_happened_is_told_once_with_who_and_why(store: DeploymentStore) -> None:
    made = await store.create(asked(created_by="ann"), OLD)
    failed = Progress(status=Status.FAILED, observed_generation=1, failure=Failure("LOAD_FAILED", "broken; mend it"))
    for progress in (Progress(status=Status.DEPLOYING), failed, failed, ANSWERS, ANSWERS):
        await store.record(made, progress)
    changed = await store.change(made.deployment_id, Wish(Resources(2)), generation=1, actor="bob")
    assert changed is not None
    slept = with_condition((), "Asleep", status=True, reason="Idle", message="nobody asked for it", now=NOON)
    await store.record(changed, replace(changed.progress, asleep_since=NOON, conditions=slept))
    await store.request_deletion(made.deployment_id, generation=2, actor="carl")
    told = [kept.event for kept in await store.events("digits", "prod", before=None, limit=99)]
    assert [(one.type, one.actor) for one in reversed(told)] == [
        ("Created", "ann"),
        ("Failed", ""),
        ("Active", ""),
        ("Routed", ""),
        ("Changed", "bob"),
        ("Asleep", ""),
        ("Removing", "carl"),
    ]
    by_type = {one.type: one for one in told}
    assert by_type["Failed"].message == "broken; mend it"
    assert by_type["Active"].message == "v1.0.0 answers after 0.18 s of loading"
    assert by_type["Asleep"].message == "v1.0.0: nobody asked for it"
    assert (by_type["Changed"].generation, by_type["Removing"].status) == (2, Status.TERMINATING)


async def test_events_come_in_pages_and_outlive_what_they_tell_of(store: DeploymentStore) -> None:
    made = await store.create(asked(), OLD)
    for number in range(4):
        changed = await store.change(
            made.deployment_id, Wish(Resources(number + 2)), generation=number + 1, reload=False
        )
        assert changed is not None
    await store.forget(made.deployment_id)
    first = await store.events("digits", "prod", before=None, limit=3)
    rest = await store.events("digits", "prod", before=first[-1].number, limit=3)
    assert [one.event.generation for one in (*first, *rest)] == [5, 4, 3, 2, 1]
    await store.forget_events()
    assert len(await store.events("digits", "prod", before=None, limit=9)) == 5
    assert await store.events("digits", "other", before=None, limit=9) == []
    assert abs(first[0].time - rest[0].time) < timedelta(minutes=5)
