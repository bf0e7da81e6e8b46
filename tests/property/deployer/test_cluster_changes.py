"""What an object in a cluster asks for beside the rest of the wish: restarts, other shares, and a forecast's floor."""

from collections.abc import Coroutine, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.common.body import at, text
from services.common.errors import MeshError, Reason
from services.deployer.convert import scale_change
from services.deployer.domain.cluster.floor import LIFE_S, Floor
from services.deployer.domain.cluster.objects import manifest_of, object_name
from services.deployer.domain.deployment import Autoscaling, Deployment, NewDeployment, ObjectWish, Status, Wish
from services.deployer.domain.history import BUCKET_S, DAY, Bucket, bucket_start
from services.deployer.domain.scaling import Load
from tests.property.deployer.test_clusters import CLUSTER, ClusterMachine
from tests.support.deployer_clusters import NAMESPACE

FIRST, SECOND = "2026-01-15T10:00:00.000001Z", "2026-01-15T11:00:00Z"
SCALED = Autoscaling(enabled=True, min_replicas=1, max_replicas=6, target_requests_per_sec=10, predictive=True)


@pytest.fixture
def machine() -> Iterator[ClusterMachine]:
    made = ClusterMachine()
    yield made
    made.teardown()


def row(machine: ClusterMachine) -> Deployment:
    return machine.run(machine.deployments.get("m", "a"))


def now(machine: ClusterMachine) -> datetime:
    async def told() -> datetime:
        return machine.clock.now()

    return machine.run(told())


def events(machine: ClusterMachine) -> list[str]:
    found, _ = machine.run(machine.deployments.events("m", "a", page_size=100, page_token=""))
    return [one.event.type for one in found][::-1]


def kubectl(machine: ClusterMachine, version: str = "v1.0.0", **asked: object) -> None:
    machine.cluster.kubectl("a", version, Wish(of_object=ObjectWish(**asked)))  # type: ignore[arg-type]
    machine.time_passes(5.0)


def test_a_restart_by_the_api_is_written_into_the_object_and_done_once(machine: ClusterMachine) -> None:
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)
    restarted = machine.run(machine.deployments.restart("m", "a", actor="ann"))
    [body] = machine.cluster.truth.values()
    assert text(body, "spec", "restartedAt") == restarted.wish.of_object.restarted_at != ""
    assert (restarted.generation, restarted.settled) == (2, False)
    machine.time_passes(5.0)
    assert (row(machine).progress.status, row(machine).settled, row(machine).generation) == (Status.ACTIVE, True, 2)
    assert events(machine).count("Restarted") == 1
    # What the API changes later restarts nothing anew.
    machine.run(machine.deployments.update("m", "a", etag="", change=scale_change(2)))
    [body] = machine.cluster.truth.values()
    assert text(body, "spec", "restartedAt") == restarted.wish.of_object.restarted_at
    again = machine.run(machine.deployments.restart("m", "a"))
    assert again.wish.of_object.restarted_at > restarted.wish.of_object.restarted_at


def test_a_restart_by_kubectl_is_one_of_the_row_too(machine: ClusterMachine) -> None:
    kubectl(machine)
    kubectl(machine, restarted_at=FIRST)
    machine.the_deployer_is_killed()
    machine.time_passes(5.0)
    assert (row(machine).generation, row(machine).wish.of_object.restarted_at) == (2, FIRST)
    assert events(machine).count("Restarted") == 1


def test_a_restart_that_broke_off_between_object_and_row_is_finished_by_the_mirror(machine: ClusterMachine) -> None:
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)

    async def lost(*_: object, **__: object) -> None:
        raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the store does not answer")

    kept, machine.store.change = machine.store.change, lost  # type: ignore[method-assign]
    with pytest.raises(MeshError):
        machine.run(machine.deployments.restart("m", "a"))
    machine.store.change = kept  # type: ignore[method-assign]
    machine.the_deployer_is_killed()
    machine.time_passes(20.0)
    [body] = machine.cluster.truth.values()
    assert row(machine).wish.of_object.restarted_at == text(body, "spec", "restartedAt") != ""
    assert events(machine).count("Restarted") == 1


def test_what_failed_is_tried_again_at_once_by_a_restart(machine: ClusterMachine) -> None:
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)
    [pod] = row(machine).progress.loaded
    machine.pods.sick.add(pod)
    machine.run(machine.deployments.restart("m", "a"))
    machine.time_passes(40.0)
    before = row(machine).progress
    assert before.next_attempt_at is not None
    assert before.next_attempt_at - now(machine) > timedelta(seconds=2)
    machine.pods.sick.clear()
    machine.run(machine.deployments.restart("m", "a"))
    machine.time_passes(1.0)
    assert row(machine).progress.status is Status.ACTIVE


def test_a_restart_of_what_the_mesh_has_not_taken_up_has_it_tried_again(machine: ClusterMachine) -> None:
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)
    missing = machine.recipes.pop(("m", "v2.0.0"))
    machine.the_deployer_is_killed()
    machine.time_passes(1.0)
    machine.kubectl_apply("a", "v2.0.0", 1, 8)
    machine.time_passes(5.0)
    assert row(machine).new.version == "v1.0.0", "refused, and not looked at again for a while"
    machine.run(machine.deployments.restart("m", "a"))
    assert row(machine).wish.batching.max_batch_size == 32, "what was not checked is not taken up by a restart"
    machine.time_passes(5.0)
    machine.versions.recipes["m", "v2.0.0"] = missing
    machine.run(machine.deployments.restart("m", "a"))
    machine.time_passes(5.0)
    assert (row(machine).new.version, row(machine).progress.status) == ("v2.0.0", Status.ACTIVE)


def test_other_shares_are_handed_to_the_router_once_each_time_that_they_change(machine: ClusterMachine) -> None:
    new = NewDeployment("m", "v1.0.0", "a", Wish(), cluster=CLUSTER, namespace=NAMESPACE, traffic_split={"v1.0.0": 100})
    machine.run(machine.deployments.create(new))
    machine.time_passes(5.0)
    name = object_name("m", "a")
    for asked, handed in (
        ({"v1.0.0": 60, "v9.0.0": 40}, 2),
        ({"v1.0.0": 60, "v9.0.0": 40}, 2),
        ({}, 2),
        ({"v1.0.0": 100}, 3),
        ({"v1.0.0": 60, "v9.0.0": 40}, 4),
    ):
        machine.cluster.kubectl(name, "v1.0.0", Wish(of_object=ObjectWish(traffic_split=asked)), "a")
        machine.time_passes(5.0)
        machine.the_deployer_is_killed()
        machine.time_passes(5.0)
        assert len(machine.traffic.splits) == handed, asked
        if asked:
            assert machine.traffic.splits[-1] == ("m", "a", asked)
    # A change of anything else leaves what the router has.
    machine.run(machine.deployments.update("m", "a", etag="", change=scale_change(2)))
    machine.time_passes(5.0)
    assert len(machine.traffic.splits) == 4
    assert events(machine).count("Routed") == 4


def test_shares_that_the_router_refuses_are_given_up_and_said(machine: ClusterMachine) -> None:
    kubectl(machine)
    machine.traffic.refusal = MeshError(Reason.VERSION_NOT_DEPLOYED, "v9.0.0 is not deployed")
    kubectl(machine, traffic_split={"v9.0.0": 100})
    machine.time_passes(40.0)
    machine.time_passes(40.0)
    [said] = [one for one in machine.cluster.objects()[0].said if one.type == "Routed"]
    assert said.message == "v9.0.0 is not deployed; set the traffic of the deployment yourself"
    machine.traffic.refusal = None
    kubectl(machine, traffic_split={"v1.0.0": 100})
    assert machine.traffic.splits == [("m", "a", {"v1.0.0": 100})]


def test_another_version_takes_over_unless_it_comes_with_shares_of_its_own(machine: ClusterMachine) -> None:
    kubectl(machine, traffic_split={"v1.0.0": 100})
    kubectl(machine, "v1.1.0", traffic_split={"v1.0.0": 100})
    assert machine.traffic.taken_over == [("v1.1.0", ("v1.0.0",))]
    assert machine.traffic.splits == [("m", "a", {"v1.0.0": 100})]
    kubectl(machine, "v2.0.0", traffic_split={"v1.1.0": 70, "v2.0.0": 30})
    machine.time_passes(40.0)
    assert machine.traffic.splits[-1] == ("m", "a", {"v1.1.0": 70, "v2.0.0": 30})
    assert len(machine.traffic.taken_over) == 1
    # The version before has a share, so it stays loaded until it has none.
    [said] = [one for one in machine.cluster.objects()[0].said if one.type == "Routed"]
    assert (said.status, said.reason) == (False, "OlderHasShare")
    assert machine.catalog.lists("m", "v1.1.0")
    kubectl(machine, "v2.0.0", traffic_split={"v2.0.0": 100})
    machine.time_passes(40.0)
    assert not machine.catalog.lists("m", "v1.1.0")


def busy(machine: ClusterMachine, rate: float, seconds: float) -> None:
    """Batchers tell of so many requests per second for so long."""

    async def tell() -> None:
        for _ in range(int(seconds / 2)):
            machine.demand.report("batcher-0", 2.0, {("m", "v1.0.0"): Load(requests_per_s=rate)})
            await machine.clock.sleep(2.0)

    machine.run(tell())


def forecasting(machine: ClusterMachine) -> None:
    """Two days and more with the same peak every day, about to come, and a deployer that makes forecasts of them."""
    start = bucket_start(now(machine))
    rows = machine.parts.store.rows.setdefault(("m", "a"), {})
    for age in range(1, 3 * DAY):
        began = start - timedelta(seconds=age * BUCKET_S)
        rows[began] = Bucket(began, known_s=BUCKET_S, requests=(45.0 if (age + 1) % DAY == 0 else 5.0) * BUCKET_S)
    works: tuple[Coroutine[None, None, None], ...] = (machine.parts.history.run(), machine.parts.forecasts.run())
    machine.tasks += [machine.loop.create_task(work, name="forecasts") for work in works]


def test_a_forecast_raises_a_floor_in_the_object_by_few_calls_and_lapses_with_the_deployer(
    machine: ClusterMachine,
) -> None:
    machine.cluster.kubectl("a", "v1.0.0", Wish(autoscaling=SCALED))
    machine.time_passes(5.0)
    forecasting(machine)
    busy(machine, 5.0, 60)
    until_peak_s = BUCKET_S - (now(machine) - bucket_start(now(machine))).total_seconds()
    busy(machine, 5.0, until_peak_s - 100)
    [found] = machine.cluster.objects()
    assert found.floor is not None
    assert (found.floor.replicas, found.floor.until > now(machine)) == (5, True), "45 requests/s, 10 a replica"
    [said] = [one for one in found.said if one.type == "Forecast"]
    assert (said.status, said.reason) == (True, "Used")
    assert "45 requests/s" in said.message
    assert any(one.type == "Forecast" for one in row(machine).progress.conditions)
    before = machine.cluster.tells
    busy(machine, 45.0, 1200)
    assert machine.cluster.tells - before <= 8, "renewals, and one lower floor"
    machine.the_deployer_is_killed()
    machine.cluster.kubectl("a", "v1.0.0", Wish(autoscaling=replace(SCALED, predictive=False)))
    machine.time_passes(5.0)
    assert all(one.type != "Forecast" for one in machine.cluster.objects()[0].said)


def test_what_is_not_known_yet_after_a_restart_leaves_the_floor_to_lapse(machine: ClusterMachine) -> None:
    machine.cluster.kubectl("a", "v1.0.0", Wish(autoscaling=SCALED))
    machine.time_passes(5.0)
    [found] = machine.cluster.objects()
    floor = Floor(4, (now(machine) + timedelta(seconds=LIFE_S)).replace(microsecond=0))
    machine.run(machine.cluster.tell(found, found.said, floor))
    machine.the_deployer_is_killed()
    machine.time_passes(40.0)
    assert machine.cluster.objects()[0].floor == floor


def test_an_object_made_by_the_api_states_its_shares() -> None:
    new = NewDeployment("m", "v1.0.0", "a", Wish(of_object=ObjectWish(SECOND, {"v1.0.0": 100})), namespace=NAMESPACE)
    spec = at(manifest_of(new, name="a"), "spec")
    assert (at(spec, "restartedAt"), at(spec, "trafficSplit")) == (SECOND, {"v1.0.0": 100})
