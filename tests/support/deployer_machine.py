"""A deployer against whatever may happen, in virtual time.

Wishes come and go, servers die and return, artifacts break and are mended, the store goes away, the deployer is killed.
At all times what is published was proven, and nothing is unloaded while it is published. In the end, with everything
mended, every wish is carried out.
"""

import asyncio
from collections.abc import Coroutine, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from math import inf
from typing import TypeVar

import looptime
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from infermesh.deployer.v1 import activation_service_pb2

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal
from services.deployer.domain.catalog import Site
from services.deployer.domain.deployment import Autoscaling, Deployment, Health, NewDeployment, Progress, Status, Wish
from services.deployer.engines.activations import Activated, Activations
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.memories import Memories
from services.deployer.engines.pool import Pool, PoolOptions
from services.deployer.engines.reconciler import Reconciler, ReconcilerOptions
from services.deployer.servicers.backends import ActivationServicer
from tests.support.deployer_checked import CheckedServer, CheckedTraffic
from tests.support.deployer_fakes import (
    CountingBoard,
    FakeEnvironments,
    FakeMeter,
    FakePackages,
    FakeServer,
    FakeVersions,
    admission,
    copies_in,
    nobody_outside,
    recipe,
)
from tests.support.deployer_store import MemoryStore
from tests.support.scaling_fakes import ScalingParts

T = TypeVar("T")
VERSIONS = ("v1.0.0", "v1.1.0", "v2.0.0")
SLEEPS = VERSIONS[1:]
"""Those that are unloaded while nobody asks for them."""
IDLE_S = 20
MB = 1e6
COPY_BYTES = 200 * MB
"""As much as a model of Python is guessed to take; others are guessed to take less than they do."""
versions = st.sampled_from(VERSIONS)
servers = st.sampled_from(("triton-0", "triton-1"))
EXPECTED_REFUSALS = {
    Reason.DEPLOYMENT_EXISTS,
    Reason.DEPLOYMENT_NOT_FOUND,
    Reason.DEPLOYMENT_TERMINATING,
    Reason.DEPENDENCY_UNAVAILABLE,
}


class DeployerMachine(RuleBasedStateMachine):
    """One deployer with two model servers."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        frameworks = zip(VERSIONS, ("onnx", "sklearn", "python"), strict=True)
        self.versions = FakeVersions({("m", version): recipe(framework=name) for version, name in frameworks})
        self.environments = FakeEnvironments()
        self.packages = FakePackages()
        self.servers = {name: CheckedServer(self.packages, name) for name in ("triton-0", "triton-1")}
        for server in self.servers.values():
            server.machine = self
            server.load_time_s = 0.4
        self.store = MemoryStore(self.clock)
        self.traffic = CheckedTraffic()
        self.traffic.machine = self
        self.revision = 0
        self.limit_bytes = inf
        self.proven: set[tuple[str, str]] = set()
        for name, server in self.servers.items():
            self._watch_answers(name, server)
        self._watch_records()
        self.start()

    def _watch_records(self) -> None:
        usual = self.store.record

        async def record(deployment: Deployment, progress: Progress) -> None:
            begins = progress.status is Status.ACTIVE and deployment.progress.status is not Status.ACTIVE
            if begins and progress.asleep_since is None and progress.ready_replicas:
                asked = (deployment.deployment_id, deployment.generation) in self.traffic.asked
                assert asked, "it is called active, and gateways may not know it"
            await usual(deployment, progress)

        self.store.record = record  # type: ignore[method-assign]

    def _watch_answers(self, server_name: str, server: FakeServer) -> None:
        usual = server.answers

        def answers(name: str, rows: int):  # type: ignore[no-untyped-def]
            self.proven.add((server_name, name))
            return usual(name, rows)

        server.answers = answers

    def start(self) -> None:
        self.unpublished: dict[tuple[str, str], datetime] = {}
        """Since when servers have not been published for what they were published for before."""
        self.changed = Signal()
        self.demand = Demand(clock=self.clock, changed=self.changed)
        self.catalog = Catalog(store=self.store)
        memories = Memories({name: FakeMeter(one, COPY_BYTES) for name, one in self.servers.items()}, clock=self.clock)
        options = PoolOptions(dict.fromkeys(self.servers, self.limit_bytes), drain_s=3)
        pool = Pool(self.servers, demand=self.demand, memories=memories, clock=self.clock, options=options)
        fleet = Fleet(self.servers, nobody_outside, pool)
        bringer = Bringer(
            store=self.store,
            versions=self.versions,
            fleet=fleet,
            packages=self.packages,
            environments=self.environments,
            clock=self.clock,
            threads_default=1,
            loads_max=2,
            board=CountingBoard(),
            memories=memories,
        )
        self.reconciler = Reconciler(
            store=self.store,
            fleet=fleet,
            packages=self.packages,
            bringer=bringer,
            router=self.traffic,
            catalog=self.catalog,
            demand=self.demand,
            scaling=ScalingParts(self.demand, self.clock).scaling,
            changed=self.changed,
            clock=self.clock,
            options=ReconcilerOptions(period_s=0.5, drain_s=3, routing_patience_s=60),
        )
        self.activations = Activations(
            store=self.store, catalog=self.catalog, demand=self.demand, changed=self.changed, clock=self.clock
        )
        self.deployments = Deployments(
            store=self.store,
            admission=admission(self.store, self.versions),
            clock=self.clock,
            changed=self.changed,
            drain_wait_s=0,
        )
        self.task = self.loop.create_task(self.reconciler.run(), name="reconciler")
        self._watch_places(self.catalog)

    def _watch_places(self, catalog: Catalog) -> None:
        usual = catalog.refresh

        async def refresh(sites: Iterable[Site]) -> None:
            before = self.places()
            await usual(sites)
            after = self.places()
            self.unpublished = {one: since for one, since in self.unpublished.items() if one not in after}
            self.unpublished |= dict.fromkeys(before - after, self.clock.now())

        catalog.refresh = refresh  # type: ignore[method-assign]

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    def attempt(self, work: Coroutine[None, None, Deployment]) -> None:
        try:
            self.run(work)
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS:
                raise

    def places(self) -> set[tuple[str, str]]:
        """Which servers callers are sent to, for what."""
        versions = [version for model in self.catalog.models.values() for version in model.versions]
        return {(place.server_id, version.server_model_name) for version in versions for place in version.places}

    def published(self) -> set[str]:
        """What callers are answered by, at once."""
        models = self.catalog.models.values()
        return {version.server_model_name for model in models for version in model.versions if not version.cold}

    def stopped(self, row: Deployment) -> bool:
        """Whether it has no replicas, or is an older version of one that has none."""
        rows = self.run(self.store.every())
        return row.halted or any(one.deployment_id == row.successor and one.halted for one in rows)

    def known(self) -> set[str]:
        """What callers are answered by, those included that have to wait for a load."""
        return {version.server_model_name for model in self.catalog.models.values() for version in model.versions}

    @rule(version=versions)
    def create(self, version: str) -> None:
        scaling = Autoscaling(enabled=True, min_replicas=0, idle_timeout_s=IDLE_S) if version in SLEEPS else None
        wish = Wish(autoscaling=scaling)
        self.attempt(self.deployments.create(NewDeployment("m", version, f"d{version[1]}{version[3]}", wish)))

    @rule(version=versions)
    def delete(self, version: str) -> None:
        self.attempt(self.deployments.delete("m", f"d{version[1]}{version[3]}", etag=""))

    @rule(version=versions, replicas=st.integers(0, 4))
    def scale(self, version: str, replicas: int) -> None:
        from services.deployer.convert import scale_change  # noqa: PLC0415 - only here

        name = f"d{version[1]}{version[3]}"
        self.attempt(self.deployments.update("m", name, etag="", change=scale_change(replicas)))

    @rule(version=versions, replicas=st.integers(1, 2), seconds=st.sampled_from((0.2, 1.0, 4.0)))
    def blink(self, version: str, replicas: int, seconds: float) -> None:
        """Scaled to nothing and back, before or after it was unloaded."""
        self.scale(version, replicas)
        self.run(asyncio.sleep(2))
        self.scale(version, 0)
        self.run(asyncio.sleep(seconds))
        self.scale(version, replicas)

    @rule(version=versions, to=versions, bake_s=st.sampled_from((0, 30)))
    def roll(self, version: str, to: str, bake_s: int) -> None:
        """The deployment goes over to another version, or back to one that it had."""

        def change(current: Deployment) -> Wish:
            return replace(current.wish, serving=replace(current.wish.serving, bake_time_s=bake_s))

        name = f"d{version[1]}{version[3]}"
        self.attempt(self.deployments.update("m", name, etag="", change=change, version=to))

    @rule(version=versions)
    def restart(self, version: str) -> None:
        self.attempt(self.deployments.restart("m", f"d{version[1]}{version[3]}"))

    @rule(version=versions, pinned=st.booleans())
    def pin(self, version: str, pinned: bool) -> None:
        def change(deployment: Deployment) -> Wish:
            return replace(deployment.wish, serving=replace(deployment.wish.serving, pinned=pinned))

        self.attempt(self.deployments.update("m", f"d{version[1]}{version[3]}", etag="", change=change))

    @initialize(limit_mb=st.sampled_from((210, 430, inf)))
    def begin_with(self, limit_mb: float) -> None:
        self.limit_memory(limit_mb)

    @precondition(lambda self: not self.store.away)
    @rule(limit_mb=st.sampled_from((210, 430, 650, inf)))
    def limit_memory(self, limit_mb: float) -> None:
        """The deployer is started anew and may take so much."""
        self.limit_bytes = limit_mb * MB
        self.kill_deployer()

    @rule(name=servers)
    def kill_server(self, name: str) -> None:
        self.servers[name].die()

    @rule(name=servers)
    def revive_server(self, name: str) -> None:
        self.servers[name].revive()

    @rule(name=servers, version=versions)
    def break_artifact(self, name: str, version: str) -> None:
        self.servers[name].sick.add(f"m--{version}")

    @rule(name=servers)
    def mend_artifacts(self, name: str) -> None:
        self.servers[name].sick.clear()

    @rule(reason=st.sampled_from((None, Reason.DEPENDENCY_UNAVAILABLE, Reason.ENVIRONMENT_FAILED)))
    def change_index(self, reason: Reason | None) -> None:
        self.environments.problem = MeshError(reason, "the index") if reason is not None else None

    @rule(looks=st.sampled_from((0, 3, 1000)))
    def gateways_lag(self, looks: int) -> None:
        """Gateways hear of what is published later, or not in time."""
        self.traffic.looks_until_known = looks

    @rule(asked=st.sets(versions), seconds=st.sampled_from((5.0, 25.0, 29.0)))
    def batchers_tell(self, asked: set[str], seconds: float) -> None:
        """Word of batchers, and some time in which nobody asks."""
        self.run(self.tell(asked))
        self.run(asyncio.sleep(seconds))
        self.run(self.tell(()))
        self.run(asyncio.sleep(1))

    async def tell(self, asked: Iterable[str]) -> None:
        await ActivationServicer(self.activations, self.demand, self.catalog).ReportDemand(
            activation_service_pb2.ReportDemandRequest(
                batcher_id="batcher-0",
                window_s=2,
                demands=[activation_service_pb2.VersionDemand(model_name="m", version=version) for version in asked],
            ),
            None,  # type: ignore[arg-type]
        )

    @rule(version=versions, callers=st.integers(1, 5))
    def activate(self, version: str, callers: int) -> None:
        """Several wait for one version: all get the same answer, and a good one means that it is loaded and listed."""
        name = f"m--{version}"
        before = {server: server.loads_of[name] for server in self.servers.values()}
        reachable = not self.store.away and all(server.up for server in self.servers.values())
        reachable = reachable and self.environments.problem is None
        outcomes = self.run(self.activated(version, callers))
        for outcome in outcomes:
            assert isinstance(outcome, Activated | MeshError), outcome
            if isinstance(outcome, MeshError) and reachable:
                # Where nobody is away it is loaded, or its failure is told, and nobody waits in vain.
                assert outcome.reason is not Reason.DEADLINE_TOO_SHORT, outcome
        if all(isinstance(one, Activated) for one in outcomes):
            # Whoever needs the memory more may have had it again since.
            assert self.catalog.lists("m", version) or self.catalog.sleeps("m", version)
            # One load on each server, and one more by a look that was under way, whatever the number of callers.
            assert all(server.loads_of[name] - count <= 2 for server, count in before.items())

    async def activated(self, version: str, callers: int) -> list[Activated | BaseException]:
        calls = [self.activations.activate("m", version, timeout_s=60) for _ in range(callers)]
        return await asyncio.gather(*calls, return_exceptions=True)

    @rule(version=versions, seconds=st.sampled_from((0.0, 2.0)))
    def delete_while_it_is_built(self, version: str, seconds: float) -> None:
        """What is to go does not wait for an environment that takes minutes."""
        self.environments.build_s = 60.0
        self.create(version)
        self.run(asyncio.sleep(seconds))
        self.delete(version)
        self.environments.build_s = 0.0
        mended = not self.store.away and all(server.up for server in self.servers.values())
        self.run(asyncio.sleep(10))
        if mended:
            name = f"d{version[1]}{version[3]}"
            assert all(row.new.deployment_name != name for row in self.run(self.store.every()))

    @rule()
    def lose_store(self) -> None:
        self.store.away = True

    @rule()
    def find_store(self) -> None:
        self.store.away = False

    @precondition(lambda self: not self.store.away)
    @rule()
    def kill_deployer(self) -> None:
        before = self.known()
        self.task.cancel()
        self.run(asyncio.wait([self.task]))
        self.start()
        self.run(asyncio.sleep(0.1))
        rows = self.run(self.store.every())
        kept = {
            row.server_model_name for row in rows if not row.deleting and not self.stopped(row) and row.progress.loaded
        }
        assert before & kept <= self.known(), "a restart forgets what it published"

    @rule(seconds=st.sampled_from((0.01, 0.3, 1.0, 5.0, 40.0)))
    def pass_time(self, seconds: float) -> None:
        before = self.store.records
        self.run(asyncio.sleep(seconds))
        assert self.store.records - before <= 100 + 5 * seconds, "it records without end"

    @invariant()
    def what_is_published_was_proven(self) -> None:
        for model in self.catalog.models.values():
            for version in model.versions:
                assert version.cold == (not version.places)
                for place in version.places:
                    assert (place.server_id, version.server_model_name) in self.proven

    @invariant()
    def the_revision_never_falls(self) -> None:
        assert not self.task.done(), self.task
        if self.catalog.restored:
            assert self.catalog.revision >= self.revision
            self.revision = self.catalog.revision

    def teardown(self) -> None:
        """Everything is mended; then every wish is carried out."""
        self.store.away = False
        self.environments.problem = None
        for server in self.servers.values():
            server.sick.clear()
            server.revive()
        self.run(asyncio.sleep(180))
        for server in self.servers.values():
            used = sum(copies_in(package) for package in server.loaded.values()) * COPY_BYTES
            pinned = any(row.wish.serving.pinned for row in self.run(self.store.every()))
            assert used <= self.limit_bytes or pinned, "over the limit"
        self.limit_memory(inf)
        self.run(asyncio.sleep(60))
        for row in self.run(self.store.every()):
            if row.progress.status is Status.FAILED and row.progress.asleep_since is None:
                self.run(self.deployments.restart("m", row.new.deployment_name))
        self.run(asyncio.sleep(10))
        for row in self.run(self.store.every()):
            if not self.stopped(row):
                woken = self.run(self.activations.activate("m", row.new.version, timeout_s=60))
                assert woken.load_time_ms < 10_000
        self.run(asyncio.sleep(5))
        rows = self.run(self.store.every())
        for row in rows:
            assert (row.progress.status, row.progress.health) == (Status.ACTIVE, Health.HEALTHY), row
            assert row.progress.observed_generation == row.generation
            assert row.progress.ready_replicas == (0 if self.stopped(row) else row.wish.resources.replicas)
            assert row.progress.failure is None
            assert row.successor or row.halted or row.progress.traffic_routed
            assert self.stopped(row) or len(row.progress.loaded) == min(2, row.wish.resources.replicas)
        current = {row.deployment_id: row for row in rows if not row.successor}
        for row in rows:
            if row.successor:
                # Whoever was replaced has handed its traffic on, unless the newer one has no replicas to take it.
                newer = current[row.successor]
                assert newer.halted or row.progress.warm_until is not None, (row, newer)
                assert newer.halted or newer.new.version in {version for version, _ in self.traffic.taken_over}
        wanted = {row.server_model_name for row in rows if not self.stopped(row)}
        assert self.published() == wanted
        self.run(asyncio.sleep(5))
        self._loaded_once_for_each_replica(wanted)
        names = [one.deployment_name for model in self.catalog.models.values() for one in model.versions]
        assert len(names) == len(set(names)), names
        self._all_sleep()
        self.run(self.reconciler.stop())
        self.run(asyncio.wait_for(self.task, 1))
        self.loop.close()

    def _loaded_once_for_each_replica(self, wanted: set[str]) -> None:
        for row in self.run(self.store.every()):
            held = {name for name, server in self.servers.items() if row.server_model_name in server.loaded}
            expected = set(row.progress.loaded) if row.server_model_name in wanted else set()
            assert held == expected
        assert {name for server in self.servers.values() for name in server.loaded} == wanted

    def _all_sleep(self) -> None:
        """Nobody asks any more: what may sleep is unloaded everywhere, and all is still known."""
        for _ in range(5):
            self.run(self.tell(()))
            self.run(asyncio.sleep(10))
        rows = self.run(self.store.every())
        wanted = {row.server_model_name for row in rows if not self.stopped(row)}
        awake = {row.server_model_name for row in rows if not self.stopped(row) and row.idle_timeout_s is None}
        assert self.known() == wanted
        assert self.published() == awake
        self._loaded_once_for_each_replica(awake)
        for row in rows:
            sleeps = row.idle_timeout_s is not None and not self.stopped(row)
            assert (row.progress.status, row.progress.health) == (Status.ACTIVE, Health.HEALTHY)
            answers = not sleeps and not self.stopped(row)
            assert row.progress.ready_replicas == (row.wish.resources.replicas if answers else 0)
            assert (row.progress.asleep_since is not None) == sleeps
        before, records = {row.deployment_id: row.progress for row in rows}, self.store.records
        for _ in range(5):
            self.run(self.tell(()))
            self.run(asyncio.sleep(10))
        assert {row.deployment_id: row.progress for row in self.run(self.store.every())} == before
        assert self.store.records == records, "what sleeps is left alone"
