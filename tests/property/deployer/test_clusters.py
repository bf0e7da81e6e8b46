"""Deployments in a cluster against whatever may happen to object and row, in virtual time.

The mesh's API and kubectl change the same deployments; the watch breaks, the API server goes away, the deployer is
killed, the store is lost, pods come and go and answer nonsense. At all times what is published was proven. In the end,
with everything mended, every row says what its object says, nothing else is there, and what answers is published.
"""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import looptime
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.access.book import AccessBook, AccessUpdate, TeamTerms
from services.common.access.decide import Standing
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal
from services.deployer.convert import scale_change
from services.deployer.domain.cluster.objects import manifest_of, object_name
from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    Deployment,
    Health,
    NewDeployment,
    ObjectWish,
    Resources,
    Status,
    Wish,
)
from services.deployer.engines.activations import Activations
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.cluster_wishes import ClusterWishes
from services.deployer.engines.clusters import Clusters
from services.deployer.engines.demand import Demand
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.mirror import Mirror
from services.deployer.engines.reconciler import Reconciler, ReconcilerOptions
from tests.support.deployer_clusters import NAMESPACE, FakeCluster, FakePods, KnownNamespaces, names_of
from tests.support.deployer_fakes import (
    CountingBoard,
    FakeEnvironments,
    FakePackages,
    FakeTraffic,
    FakeVersions,
    admission,
    nobody_outside,
    recipe,
)
from tests.support.deployer_store import MemoryStore
from tests.support.scaling_fakes import ScalingParts

pytestmark = pytest.mark.timeout(300)
T = TypeVar("T")
VERSIONS = ("v1.0.0", "v1.1.0", "v2.0.0")
NAMES = ("a", "b")
CLUSTER = "prod"
versions, names = st.sampled_from(VERSIONS), st.sampled_from(NAMES)
EXPECTED = {
    Reason.DEPLOYMENT_EXISTS,
    Reason.DEPLOYMENT_NOT_FOUND,
    Reason.DEPLOYMENT_TERMINATING,
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.ETAG_MISMATCH,
}


class ClusterMachine(RuleBasedStateMachine):
    """One deployer, one cluster, one model."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.store = MemoryStore(self.clock)
        self.cluster = FakeCluster(CLUSTER, self.clock)
        self.pods = FakePods()
        self.traffic = FakeTraffic()
        self.namespaces = KnownNamespaces()
        self.recipes = {("m", version): recipe() for version in VERSIONS}
        self.operating = self.loop.create_task(self.operate(), name="operator")
        self.start()

    async def operate(self) -> None:
        while True:
            await asyncio.sleep(0.7)
            if not self.cluster.away:
                self.cluster.operate()

    def start(self) -> None:
        changed = Signal()
        versions = self.versions = FakeVersions(self.recipes)
        packages, environments = FakePackages(), FakeEnvironments()
        demand = Demand(clock=self.clock, changed=changed)
        self.demand, self.parts = demand, ScalingParts(demand, self.clock)
        self.catalog = Catalog(store=self.store)
        self.cluster.restart()
        clusters = Clusters({CLUSTER: self.cluster})
        fleet = Fleet({}, nobody_outside, clusters={CLUSTER: self.cluster}, open_pod=self.pods)
        bringer = Bringer(
            store=self.store,
            versions=versions,
            fleet=fleet,
            packages=packages,
            environments=environments,
            clock=self.clock,
            threads_default=1,
            loads_max=2,
            board=CountingBoard(),
        )
        reconciler = Reconciler(
            store=self.store,
            fleet=fleet,
            packages=packages,
            bringer=bringer,
            router=self.traffic,
            catalog=self.catalog,
            demand=demand,
            scaling=self.parts.scaling,
            changed=changed,
            clock=self.clock,
            options=ReconcilerOptions(period_s=0.5, drain_s=3, routing_patience_s=60),
            clusters=clusters,
        )
        book = AccessBook()
        teams, owners = {"vision": TeamTerms("vision")}, {"m": Standing("vision")}
        book.apply(AccessUpdate("1", frozenset(), teams, owners, models_reset=True))
        checks = admission(self.store, versions, book, clusters=clusters, namespaces=self.namespaces)
        self.deployments = Deployments(
            store=self.store,
            admission=checks,
            clock=self.clock,
            changed=changed,
            drain_wait_s=0,
            cluster_wishes=ClusterWishes(store=self.store, clusters=clusters),
        )
        self.activations = Activations(
            store=self.store, catalog=self.catalog, demand=demand, changed=changed, clock=self.clock
        )
        mirror = Mirror(
            scaling=self.parts.scaling,
            cluster=self.cluster,
            clusters=clusters,
            store=self.store,
            admission=checks,
            demand=demand,
            changed=changed,
            clock=self.clock,
        )
        self.tasks = [
            self.loop.create_task(work, name=name)
            for name, work in (
                ("reconciler", reconciler.run()),
                ("cluster", self.cluster.run()),
                ("mirror", mirror.run()),
            )
        ]

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    def attempt(self, work: Coroutine[None, None, Deployment]) -> None:
        try:
            self.run(work)
        except MeshError as error:
            if error.reason not in EXPECTED:
                raise

    @rule(name=names, version=versions, replicas=st.integers(0, 3))
    def create(self, name: str, version: str, replicas: int) -> None:
        wish = Wish(resources=Resources(replicas=replicas))
        new = NewDeployment("m", version, name, wish, cluster=CLUSTER, namespace=NAMESPACE, created_by="ann")
        self.attempt(self.deployments.create(new))

    @rule(name=names, replicas=st.integers(0, 3))
    def scale(self, name: str, replicas: int) -> None:
        self.attempt(self.deployments.update("m", name, etag="", change=scale_change(replicas)))

    @rule(name=names, version=versions)
    def roll(self, name: str, version: str) -> None:
        self.attempt(self.deployments.update("m", name, etag="", change=lambda current: current.wish, version=version))

    @rule(name=names)
    def restart(self, name: str) -> None:
        self.attempt(self.deployments.restart("m", name, actor="ann"))

    @rule(name=names, shares=st.sampled_from(({}, {"v1.0.0": 100}, {"v1.0.0": 40, "v1.1.0": 60})))
    def kubectl_restarts_and_shares(self, name: str, shares: dict[str, int]) -> None:
        """What else the object asks for stays."""
        for body in list(self.cluster.truth.values()):
            found = self.cluster._read(body)
            if names_of(found) == ("m", name) and not found.terminating:
                asked = ObjectWish(f"2026-01-15T{len(self.cluster.truth):02}:00:00Z", shares)
                self.cluster.kubectl(found.name, found.new.version, replace(found.wish, of_object=asked))

    @rule(name=names)
    def delete(self, name: str) -> None:
        self.attempt(self.deployments.delete("m", name, etag=""))

    @rule(name=names, version=versions, replicas=st.integers(0, 3), batch=st.integers(1, 8))
    def kubectl_apply(self, name: str, version: str, replicas: int, batch: int) -> None:
        """Also over what the API made, whose object has a name of its own."""
        objects = [self.cluster._read(body) for body in self.cluster.truth.values()]
        there = next((one.name for one in objects if names_of(one) == ("m", name)), name)
        wish = Wish(resources=Resources(replicas=replicas), batching=Batching(max_batch_size=batch))
        self.cluster.kubectl(there, version, wish)

    @rule(name=names)
    def kubectl_delete(self, name: str) -> None:
        for (_, named), body in list(self.cluster.truth.items()):
            if names_of(self.cluster._read(body)) == ("m", name):
                self.cluster.kubectl_delete(named)

    @rule(name=names)
    def kubectl_makes_a_second_one(self, name: str) -> None:
        self.cluster.kubectl(f"{name}-again", "v2.0.0", Wish(), deployment_name=name)

    @rule()
    def the_watch_breaks_or_is_mended(self) -> None:
        self.cluster.watching = not self.cluster.watching

    @rule()
    def the_api_server_goes_or_comes(self) -> None:
        self.cluster.away = not self.cluster.away

    @rule(away=st.booleans())
    def the_store_goes_or_comes(self, away: bool) -> None:
        self.store.away = away

    @rule(name=names, version=versions, sick=st.booleans())
    def a_pod_answers_nonsense_or_not(self, name: str, version: str, sick: bool) -> None:
        for (named, of), pods in self.cluster.replicas.items():
            if (named[:1], of) == (name, version) and pods:
                first = next(iter(self.cluster.pods(self.cluster._read({"metadata": {"name": named}}), of)), "")
                (self.pods.sick.add if sick else self.pods.sick.discard)(first)

    @rule()
    def the_deployer_is_killed(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.run(asyncio.wait(self.tasks))
        self.start()

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 5.0, 40.0)))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @invariant()
    def what_is_published_was_proven(self) -> None:
        for model in self.catalog.models.values():
            for version in model.versions:
                for place in version.places:
                    assert (place.server_id, version.server_model_name) in self.pods.proven

    @invariant()
    def everything_lives(self) -> None:
        for task in self.tasks:
            assert not task.done(), task

    def teardown(self) -> None:
        """Everything is mended; then object and row say the same."""
        self.store.away, self.cluster.away, self.cluster.watching = False, False, True
        self.pods.sick.clear()
        self.run(asyncio.sleep(120))
        objects = [self.cluster._read(body) for body in self.cluster.truth.values()]
        every = self.run(self.store.every())
        rows = {row.new.deployment_name: row for row in every if not row.successor}
        mirrored = [one for one in objects if _said(one, "Mirrored")]
        named = [one.new.deployment_name for one in mirrored]
        assert len(set(named)) == len(named)
        assert set(named) <= set(rows) <= {one.new.deployment_name for one in objects}, (objects, rows)
        for one in objects:
            if one not in mirrored:
                # Another one has its name, or its version.
                others = [other.new for other in objects if other is not one]
                assert one.new.deployment_name in {other.deployment_name for other in others} or any(
                    row.new.version == one.new.version and row.new.deployment_name != one.new.deployment_name
                    for row in every
                ), (one, every)
                assert not _said(one, "Routed")
        expected: dict[str, int] = {}
        for one in mirrored:
            row = rows[one.new.deployment_name]
            assert (row.new.version, row.wish) == (one.new.version, one.wish), (row, one)
            assert row.progress.status is Status.ACTIVE, row
            assert row.settled, row
            assert row.progress.ready_replicas == one.wish.resources.replicas, row
            assert one.said_of_now, one
            if one.wish.resources.replicas:
                assert _said(one, "Routed"), one
                expected[row.new.version] = one.wish.resources.replicas
        published = {
            version.version: len(version.places)
            for model in self.catalog.models.values()
            for version in model.versions
            if version.deployment_name in named
        }
        assert published == expected
        older = {row.successor for row in every if row.successor}
        assert not older & {rows[name].deployment_id for name in named}, "old versions went with their pods"
        before = self.store.records
        self.run(asyncio.sleep(30))
        assert self.store.records == before, "it records without end"
        for task in (*self.tasks, self.operating):
            task.cancel()
        self.run(asyncio.wait([*self.tasks, self.operating]))
        self.loop.close()


def _said(one: object, kind: str) -> bool:
    return any(said.type == kind and said.status for said in getattr(one, "said", ()))


def test_an_update_right_after_kubectl_is_made_on_what_kubectl_said() -> None:
    machine = ClusterMachine()
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)
    machine.kubectl_apply("a", "v1.0.0", 1, 8)
    machine.run(machine.deployments.update("m", "a", etag="", change=scale_change(3)))
    row = machine.run(machine.deployments.get("m", "a"))
    assert (row.wish.resources.replicas, row.wish.batching.max_batch_size) == (3, 8)
    machine.teardown()


def test_one_without_replicas_is_cold_until_somebody_waits_for_it() -> None:
    machine = ClusterMachine()
    wish = Wish(autoscaling=Autoscaling(enabled=True, min_replicas=0, max_replicas=2))
    machine.cluster.kubectl("a", "v1.0.0", wish)
    machine.time_passes(5.0)
    assert machine.catalog.lists("m", "v1.0.0")
    machine.cluster.idle.add("a")
    machine.time_passes(5.0)
    assert machine.catalog.sleeps("m", "v1.0.0")
    row = machine.run(machine.deployments.get("m", "a"))
    assert (row.progress.status, row.progress.health) == (Status.ACTIVE, Health.HEALTHY)
    assert machine.cluster.wakes == 0, "nobody waits"
    woken = machine.run(machine.activations.activate("m", "v1.0.0", timeout_s=30))
    assert machine.catalog.lists("m", "v1.0.0")
    assert (woken.revision, machine.cluster.wakes) == (machine.catalog.revision, 1)
    machine.cluster.idle.clear()
    machine.teardown()


def test_an_object_in_the_namespace_of_another_team_is_not_taken_up() -> None:
    machine = ClusterMachine()
    machine.namespaces.known["vision"] = "vision-ns"
    machine.recipes["m", "v1.0.0"] = recipe(team="vision")
    machine.the_deployer_is_killed()
    machine.cluster.kubectl("a", "v1.0.0", Wish())
    machine.time_passes(5.0)
    [found] = machine.cluster.objects()
    [mirrored] = [one for one in found.said if one.type == "Mirrored"]
    assert (mirrored.status, mirrored.reason) == (False, "PermissionDenied")
    assert "'vision-ns'" in mirrored.message
    assert machine.run(machine.store.every()) == []
    new = NewDeployment("m", "v1.0.0", "b", Wish(), cluster=CLUSTER, namespace=NAMESPACE)
    with pytest.raises(MeshError, match="go to its namespace 'vision-ns'") as refused:
        machine.run(machine.deployments.create(new, any_host=False))
    assert refused.value.reason is Reason.PERMISSION_DENIED
    machine.cluster.kubectl_delete("a")
    machine.teardown()


def test_an_object_made_anew_by_the_same_name_is_taken_up_once_the_old_deployment_is_gone() -> None:
    machine = ClusterMachine()
    machine.create("a", "v1.0.0", 1)
    machine.time_passes(5.0)
    machine.kubectl_delete("a")
    machine.time_passes(1.0)
    assert machine.run(machine.deployments.get("m", "a")).deleting
    machine.kubectl_makes_a_second_one("a")
    machine.time_passes(10.0)
    row = machine.run(machine.deployments.get("m", "a"))
    assert (row.new.version, row.deleting, row.new.created_by) == ("v2.0.0", False, "kubectl")
    machine.teardown()


def test_a_restart_with_the_api_server_away_publishes_by_the_rows_alone() -> None:
    machine = ClusterMachine()
    machine.create("a", "v1.0.0", 2)
    machine.time_passes(5.0)
    before = machine.catalog.models
    machine.cluster.away = True
    machine.the_deployer_is_killed()
    machine.time_passes(0.3)
    assert {one.version: len(one.places) for one in machine.catalog.models["m"].versions} == {"v1.0.0": 2}
    assert before.keys() == machine.catalog.models.keys()
    machine.teardown()


def test_a_call_that_broke_off_between_object_and_row_is_finished_by_the_mirror_and_by_itself() -> None:
    machine = ClusterMachine()
    new = NewDeployment(
        "m", "v1.0.0", "a", Wish(), cluster=CLUSTER, namespace=NAMESPACE, created_by="ann", request_id="r-1"
    )
    machine.run(machine.cluster.apply(manifest_of(new, name=object_name("m", "a"))))
    machine.time_passes(5.0)
    mirrored = machine.run(machine.deployments.get("m", "a"))
    assert (mirrored.new.created_by, mirrored.new.request_id) == ("ann", "r-1")
    assert machine.run(machine.deployments.create(new)).deployment_id == mirrored.deployment_id
    machine.teardown()


TestClusters = ClusterMachine.TestCase
TestClusters.settings = settings(
    max_examples=20, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
