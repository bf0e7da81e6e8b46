"""What every `DeploymentStore` promises, shown for the real one and for the one that other tests use."""

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    Condition,
    Failure,
    Health,
    NewDeployment,
    Padding,
    Progress,
    Resources,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.quota import Quota
from services.deployer.ports import DeploymentStore
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe

RECIPE = recipe(team="vision")
FULL = Wish(
    Resources(3, "4", "16Gi", 0, ""),
    Autoscaling(True, 2, 10, target_cpu_percent=70, target_latency_ms=100),
    Batching(True, 16, 12.5, 80, Padding(-100, {"mask": 0}, "lengths", ("logits",), 0.25)),
    ServingOptions(instances=2, threads=3, deterministic=True),
)
OUTSIDE = Wish(external=ExternalBackend("tensorflow-rest", ("a:1", "b:1"), "m", "3", "s", RECIPE.schema))


def new(name: str = "main", version: str = "v1.0.0", model: str = "digits", **more: object) -> NewDeployment:
    return NewDeployment(model, version, name, **{"wish": Wish(), **more})  # type: ignore[arg-type]


async def refusal(store: DeploymentStore, asked: NewDeployment) -> Reason:
    with pytest.raises(MeshError) as caught:
        await store.create(asked, RECIPE)
    return caught.value.reason


async def test_what_is_made_is_found_as_it_was_wished(store: DeploymentStore) -> None:
    asked = new(wish=FULL, environment="staging", traffic_split={"v1.0.0": 100}, created_by="ann", team="vision")
    made = await store.create(asked, RECIPE)
    assert (made.new, made.wish, made.recipe) == (asked, FULL, RECIPE)
    assert (made.generation, made.deleting, made.progress) == (1, False, Progress())
    assert await store.find("digits", "main") == made
    assert await store.find("digits", "other") is None
    assert list(await store.every()) == [made]


async def test_external_servers_are_kept_changed_and_rolled_over_like_any_wish(store: DeploymentStore) -> None:
    made = await store.create(new(wish=OUTSIDE), RECIPE)
    moved = replace(OUTSIDE, external=ExternalBackend("oip-grpc", ("c:1",)))
    changed = await store.change(made.deployment_id, moved, generation=1)
    assert made.wish == OUTSIDE
    assert changed is not None
    assert changed.wish == moved
    inside = await store.roll(made.deployment_id, "v2.0.0", RECIPE, FULL, generation=2)
    outside = await store.roll(made.deployment_id, "v3.0.0", RECIPE, OUTSIDE, generation=3)
    assert inside is not None
    assert outside is not None
    assert (inside.wish, outside.wish) == (FULL, OUTSIDE)
    back = await store.roll(made.deployment_id, "v1.0.0", RECIPE, OUTSIDE, generation=4)
    assert back is not None
    assert back.wish == OUTSIDE
    kept = {one.new.version: one.wish for one in await store.every()}
    assert kept == {"v1.0.0": OUTSIDE, "v2.0.0": FULL, "v3.0.0": OUTSIDE}


async def test_names_and_versions_are_taken_once(store: DeploymentStore) -> None:
    await store.create(new(), RECIPE)
    assert await refusal(store, new(version="v2.0.0")) is Reason.DEPLOYMENT_EXISTS
    assert await refusal(store, new("other")) is Reason.DEPLOYMENT_EXISTS
    await store.create(new("other", "v2.0.0"), RECIPE)
    await store.create(new(model="letters"), RECIPE)


async def test_a_name_that_is_about_to_go_says_so(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    gone = await store.request_deletion(made.deployment_id, generation=1)
    assert gone is not None
    assert (gone.deleting, gone.progress.status) == (True, Status.TERMINATING)
    assert gone.etag != made.etag
    assert await refusal(store, new()) is Reason.DEPLOYMENT_TERMINATING
    await store.forget(made.deployment_id)
    assert (await store.create(new(), RECIPE)).deployment_id != made.deployment_id


async def test_a_repeated_request_makes_nothing_twice(store: DeploymentStore) -> None:
    made = await store.create(new(request_id="r1"), RECIPE)
    assert await store.create(new(request_id="r1"), RECIPE) == made
    assert await refusal(store, new("other", "v2.0.0", request_id="r1")) is Reason.REQUEST_ID_REUSED
    assert len(await store.every()) == 1


async def test_of_two_changes_of_one_generation_one_is_taken(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    wishes = (FULL, replace(FULL, batching=Batching(False)))
    first, second = await asyncio.gather(*(store.change(made.deployment_id, wish, generation=1) for wish in wishes))
    assert (first is None) != (second is None)
    taken = first or second
    assert taken is not None
    assert taken.generation == 2
    assert taken.wish in wishes
    assert (await store.find("digits", "main")) == taken
    assert await store.request_deletion(made.deployment_id, generation=1) is None


async def test_progress_is_kept_to_the_letter_and_leaves_the_wish_alone(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    progress = Progress(
        status=Status.FAILED,
        health=Health.DEGRADED,
        observed_generation=1,
        loaded={"triton-0": "abc"},
        ready_replicas=2,
        failure=Failure("LOAD_FAILED", "it is broken; mend it"),
        conditions=(Condition("Loaded", False, "LOAD_FAILED", "it is broken", NOON),),
        attempts=2,
        next_attempt_at=NOON + timedelta(seconds=2),
        load_time_ms=12.5,
        memory_bytes=1e9,
        deployed_at=NOON,
        withdrawn_at=NOON,
        traffic_routed=True,
        asleep_since=NOON,
        replicas=3,
    )
    await store.record(made, progress)
    found = await store.find("digits", "main")
    assert found is not None
    assert found.progress == progress
    assert (found.wish, found.generation) == (made.wish, 1)


async def test_a_failure_of_an_old_wish_does_not_delay_the_new_one(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    failed = Progress(status=Status.FAILED, attempts=3, next_attempt_at=NOON, observed_generation=1)
    await store.record(made, failed)
    changed = await store.change(made.deployment_id, FULL, generation=1)
    assert changed is not None
    assert (changed.progress.attempts, changed.progress.next_attempt_at) == (0, None)
    await store.record(made, failed)
    found = await store.find("digits", "main")
    assert found is not None
    assert (found.progress.attempts, found.progress.next_attempt_at) == (0, None)


async def test_what_autoscaling_made_of_an_old_wish_is_nothing_to_the_new_one(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    await store.record(made, replace(made.progress, replicas=4))
    found = await store.find("digits", made.new.deployment_name)
    assert found is not None
    assert found.replicas == 4
    changed = await store.change(made.deployment_id, Wish(resources=Resources(replicas=2)), generation=made.generation)
    assert changed is not None
    assert changed.replicas == 2
    await store.record(made, replace(made.progress, replicas=5))
    found = await store.find("digits", made.new.deployment_name)
    assert found is not None
    assert found.replicas == 2


async def test_what_is_being_removed_stays_so_whatever_is_recorded(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    await store.request_deletion(made.deployment_id, generation=1)
    await store.record(made, Progress(status=Status.ACTIVE, loaded={"triton-0": "abc"}))
    found = await store.find("digits", "main")
    assert found is not None
    assert (found.progress.status, found.progress.loaded) == (Status.TERMINATING, {"triton-0": "abc"})
    assert await store.change(made.deployment_id, FULL, generation=1) is None


async def test_a_reload_keeps_where_it_is_loaded_and_forgets_what(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    await store.record(made, Progress(loaded={"triton-0": "abc", "triton-1": "abc"}))
    changed = await store.change(made.deployment_id, made.wish, generation=1, reload=True)
    assert changed is not None
    assert changed.progress.loaded == {"triton-0": "", "triton-1": ""}
    assert changed.generation == 2


async def test_what_was_asked_for_during_a_step_is_not_undone_by_what_is_recorded_of_it(store: DeploymentStore) -> None:
    made = await store.create(new(), RECIPE)
    loaded = Progress(loaded={"triton-0": "abc", "triton-1": "abc"}, traffic_routed=True)
    await store.record(made, loaded)
    assert await store.change(made.deployment_id, made.wish, generation=1, reload=True) is not None
    # A step that began before has loaded it on another server and left one.
    await store.record(made, replace(loaded, loaded={"triton-0": "abc", "triton-2": "abc"}, attempts=3))
    found = await store.find("digits", "main")
    assert found is not None
    assert found.progress.loaded == {"triton-0": "", "triton-2": "abc"}
    assert (found.progress.attempts, found.progress.traffic_routed) == (0, True)
    await store.record(found, loaded)
    found = await store.find("digits", "main")
    assert found is not None
    assert found.progress.loaded == loaded.loaded


async def test_pages_are_in_order_and_filtered(store: DeploymentStore) -> None:
    for model, name, version in (("b", "y", "v1.0.0"), ("a", "z", "v1.0.0"), ("a", "x", "v2.0.0")):
        made = await store.create(new(name, version, model), RECIPE)
        if name == "z":
            await store.record(made, Progress(status=Status.ACTIVE))

    async def names(after: tuple[str, ...] = (), limit: int = 10, **only: str) -> list[tuple[str, str]]:
        asked = {"model_name": "", "status": "", "environment": "", **only}
        page = await store.page(after=after, limit=limit, **asked)
        return [(one.new.model_name, one.new.deployment_name) for one in page]

    assert await names() == [("a", "x"), ("a", "z"), ("b", "y")]
    assert await names(limit=2) == [("a", "x"), ("a", "z")]
    assert await names(after=("a", "x")) == [("a", "z"), ("b", "y")]
    assert await names(model_name="b") == [("b", "y")]
    assert await names(status="active") == [("a", "z")]
    assert await names(environment="dev") == []


async def test_revisions_grow(store: DeploymentStore) -> None:
    revisions = [await store.next_revision() for _ in range(3)]
    assert revisions == sorted(set(revisions))


def taking(cpu: str, replicas: int = 1, memory: str = "") -> Wish:
    return Wish(Resources(replicas, cpu, memory))


async def test_pages_show_only_the_models_that_are_asked_for_and_are_full(store: DeploymentStore) -> None:
    for model in ("a", "b", "c", "d"):
        await store.create(new(model=model), RECIPE)

    async def models(of: set[str] | None, limit: int = 10, after: tuple[str, ...] = ()) -> list[str]:
        page = await store.page(model_name="", status="", environment="", after=after, limit=limit, models=of)
        return [one.new.model_name for one in page]

    assert await models(None) == ["a", "b", "c", "d"]
    assert await models({"b", "d", "z"}, limit=2) == ["b", "d"]
    assert await models({"b", "d"}, after=("b", "main")) == ["d"]
    assert await models(set()) == []


async def test_one_teams_request_ids_are_nothing_to_anothers(store: DeploymentStore) -> None:
    made = await store.create(new(model="a", team="red", request_id="r1"), RECIPE)
    other = await store.create(new(model="b", team="blue", request_id="r1"), RECIPE)
    assert other.deployment_id != made.deployment_id
    assert await store.create(new(model="a", team="red", request_id="r1"), RECIPE) == made


async def test_a_teams_deployments_stay_within_its_quota(store: DeploymentStore) -> None:
    quota = Quota("red", cpu="4")
    made = await store.create(new(model="a", team="red", wish=taking("1", 2)), RECIPE, quota)
    await store.create(new(model="b", team="blue", wish=taking("64")), RECIPE, Quota("blue"))
    with pytest.raises(MeshError) as caught:
        await store.create(new(model="c", team="red", wish=taking("2500m")), RECIPE, quota)
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    assert caught.value.metadata == {"limit": "cpu", "team": "red", "asked": "2.5", "used": "2", "allowed": "4"}
    await store.create(new(model="c", team="red", wish=taking("2")), RECIPE, quota)
    with pytest.raises(MeshError, match="may use 4 cpu"):
        await store.change(made.deployment_id, taking("1", 3), generation=1, quota=quota)
    smaller = await store.change(made.deployment_id, taking("1", 1), generation=1, quota=quota)
    assert smaller is not None
    await store.request_deletion(made.deployment_id, generation=2)
    await store.create(new(model="d", team="red", wish=taking("2")), RECIPE, quota)


async def test_a_repeated_request_is_answered_also_where_the_quota_is_full(store: DeploymentStore) -> None:
    asked, quota = new(team="red", wish=taking("4"), request_id="r1"), Quota("red", cpu="4")
    assert await store.create(asked, RECIPE, quota) == await store.create(asked, RECIPE, quota)


async def test_what_fits_one_by_one_and_not_together_is_not_made_together(store: DeploymentStore) -> None:
    quota = Quota("red", cpu="3")
    asked = [new(model=f"m{place}", team="red", wish=taking("1")) for place in range(8)]
    made = await asyncio.gather(*(store.create(one, RECIPE, quota) for one in asked), return_exceptions=True)
    refused = [one for one in made if isinstance(one, MeshError)]
    assert len(made) - len(refused) == 3
    assert {one.reason for one in refused} == {Reason.QUOTA_EXCEEDED}


async def test_deployments_go_with_their_model_to_another_team(store: DeploymentStore) -> None:
    await store.create(new(team="red", request_id="r1"), RECIPE)
    await store.create(new(model="other", team="blue", request_id="r1"), RECIPE)
    await store.hand_over("digits", "blue")
    found = await store.find("digits", "main")
    assert found is not None
    assert found.new.team == "blue"


async def test_all_are_as_they_are_now_however_often_they_are_read(store: DeploymentStore) -> None:
    made = [await store.create(new(model=f"m{number}"), RECIPE) for number in range(3)]
    first = list(await store.every())
    assert first == made
    assert all(again is before for again, before in zip(await store.every(), first, strict=True))
    await store.record(made[1], replace(made[1].progress, load_time_ms=7))
    await store.change(made[2].deployment_id, FULL, generation=1)
    await store.forget(made[0].deployment_id)
    last = await store.create(new(model="m9"), RECIPE)
    found = list(await store.every())
    assert [one.new.model_name for one in found] == ["m1", "m2", "m9"]
    assert (found[0].progress.load_time_ms, found[1].wish, found[2]) == (7, FULL, last)
