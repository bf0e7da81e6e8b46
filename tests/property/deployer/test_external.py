"""Deployments on servers that somebody else runs, against whatever these servers do, in virtual time.

They die, come back with another model or none, get stuck; the deployment is deleted, made again, given other
addresses; the deployer is killed. At all times only what was proven is published. In the end, with everything mended,
the wish is carried out.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.common.signals import Signal
from services.deployer.domain.deployment import Deployment, Health, NewDeployment, Status, Wish
from services.deployer.domain.external import ExternalBackend
from services.deployer.engines.bringup import Bringer
from services.deployer.engines.catalog import Catalog
from services.deployer.engines.demand import Demand
from services.deployer.engines.deployments import Deployments
from services.deployer.engines.fleet import Fleet
from services.deployer.engines.reconciler import Reconciler, ReconcilerOptions
from tests.support.deployer_external import Outside
from tests.support.deployer_fakes import (
    DIGITS_SCHEMA,
    CountingBoard,
    FakeEnvironments,
    FakePackages,
    FakeTraffic,
    FakeVersions,
    admission,
)
from tests.support.deployer_store import MemoryStore
from tests.support.scaling_fakes import ScalingParts

T = TypeVar("T")
ADDRESSES = ("a:1", "b:1", "c:1")
OTHER_SCHEMA = ModelSchema((TensorSpec("X", DataType.FP64, (64,)),), DIGITS_SCHEMA.outputs)
addresses = st.sampled_from(ADDRESSES)
EXPECTED = {
    Reason.DEPLOYMENT_EXISTS,
    Reason.DEPLOYMENT_NOT_FOUND,
    Reason.DEPLOYMENT_TERMINATING,
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.LOAD_FAILED,
    Reason.SCHEMA_REQUIRED,
}


class ExternalMachine(RuleBasedStateMachine):
    """One deployer, one model, three servers."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.store = MemoryStore(self.clock)
        self.outside = Outside()
        self.traffic = FakeTraffic()
        for address in ADDRESSES:
            self.outside.at(address)
        self.start()

    def start(self) -> None:
        changed = Signal()
        demand = Demand(clock=self.clock, changed=changed)
        versions, packages, environments = FakeVersions({}), FakePackages(), FakeEnvironments()
        self.catalog = Catalog(store=self.store)
        fleet = Fleet({}, self.outside)
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
        self.reconciler = Reconciler(
            store=self.store,
            fleet=fleet,
            packages=packages,
            bringer=bringer,
            router=self.traffic,
            catalog=self.catalog,
            demand=demand,
            scaling=ScalingParts(demand, self.clock).scaling,
            changed=changed,
            clock=self.clock,
            options=ReconcilerOptions(period_s=0.5, drain_s=3, routing_patience_s=60),
        )
        self.deployments = Deployments(
            store=self.store,
            admission=admission(self.store, versions, open_external=self.outside),
            clock=self.clock,
            changed=changed,
            drain_wait_s=0,
        )
        self.task = self.loop.create_task(self.reconciler.run(), name="reconciler")

    def run(self, work: Coroutine[None, None, T]) -> T:
        return self.loop.run_until_complete(work)

    def attempt(self, work: Coroutine[None, None, Deployment]) -> None:
        try:
            self.run(work)
        except MeshError as error:
            if error.reason not in EXPECTED:
                raise

    def places(self) -> Sequence[str]:
        """Where callers of the version are sent."""
        model = self.catalog.models.get("m")
        return [place.server_id for version in model.versions for place in version.places] if model else []

    @rule(first=addresses, second=addresses)
    def create(self, first: str, second: str) -> None:
        wish = Wish(external=ExternalBackend("oip-rest", tuple(sorted({first, second}))))
        self.attempt(self.deployments.create(NewDeployment("m", "v1.0.0", "main", wish)))

    @rule(named=st.sets(addresses, min_size=1))
    def move(self, named: set[str]) -> None:
        """The servers are others from now on."""

        def change(current: Deployment) -> Wish:
            assert current.wish.external is not None
            return replace(current.wish, external=replace(current.wish.external, addresses=tuple(sorted(named))))

        self.attempt(self.deployments.update("m", "main", etag="", change=change))

    @rule()
    def delete(self) -> None:
        self.attempt(self.deployments.delete("m", "main", etag=""))

    @rule()
    def restart(self) -> None:
        self.attempt(self.deployments.restart("m", "main"))

    @rule(address=addresses, up=st.booleans())
    def server_goes_or_comes(self, address: str, up: bool) -> None:
        self.outside.at(address).up = up

    @rule(address=addresses, has_model=st.booleans(), is_ready=st.booleans(), wrong=st.booleans())
    def model_changes(self, address: str, has_model: bool, is_ready: bool, wrong: bool) -> None:
        server = self.outside.at(address)
        server.has_model, server.is_ready, server.wrong = has_model, is_ready, wrong

    @rule(address=addresses, stated=st.sampled_from((None, DIGITS_SCHEMA, OTHER_SCHEMA)))
    def model_is_replaced_by_a_restart(self, address: str, stated: ModelSchema | None) -> None:
        """A server comes back with another model, and is seen away meanwhile."""
        server = self.outside.at(address)
        was, server.up = server.up, False
        self.run(asyncio.sleep(2))
        server.up, server.stated = was, stated

    @rule(seconds=st.sampled_from((0.1, 1, 5, 40)))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule()
    def the_deployer_is_killed(self) -> None:
        self.task.cancel()
        self.run(asyncio.wait({self.task}))
        self.start()

    @invariant()
    def what_is_published_was_proven(self) -> None:
        rows = {row.deployment_id: row for row in self.run(self.store.every())}
        proven = {name for row in rows.values() for name in row.progress.loaded}
        assert set(self.places()) <= proven

    @invariant()
    def the_loop_lives(self) -> None:
        assert not self.task.done()

    def teardown(self) -> None:
        for address in ADDRESSES:
            self.outside.at(address).up = False
        # Seen away, so that whatever it has in the end is looked at.
        self.run(asyncio.sleep(2))
        for address in ADDRESSES:
            server = self.outside.at(address)
            server.up, server.has_model, server.is_ready, server.wrong = True, True, True, False
            server.stated = DIGITS_SCHEMA
        self.run(asyncio.sleep(1))
        rows = self.run(self.store.every())
        # A wish that failed for good says so until somebody has it tried again.
        for row in rows:
            if row.progress.status is Status.FAILED:
                self.attempt(self.deployments.restart("m", row.new.deployment_name))
        self.run(asyncio.sleep(120))
        for row in self.run(self.store.every()):
            assert not row.deleting, "what is to go is gone"
            assert row.wish.external is not None
            if row.recipe.schema == DIGITS_SCHEMA:
                assert (row.progress.status, row.progress.health) == (Status.ACTIVE, Health.HEALTHY), row
                assert self.places() == sorted(row.wish.external.addresses)
                assert row.progress.ready_replicas == len(row.wish.external.addresses) == row.replicas
            else:
                assert row.progress.status is Status.FAILED
                assert row.progress.failure is not None
                assert row.progress.failure.reason == Reason.SCHEMA_MISMATCH.value
        if not rows:
            assert self.places() == []
        self.run(self.reconciler.stop())
        self.run(self.task)  # type: ignore[arg-type]
        self.loop.close()


TestExternal = ExternalMachine.TestCase
TestExternal.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_a_server_that_comes_back_with_another_model_is_proven_anew() -> None:
    machine = ExternalMachine()
    machine.outside.at("a:1").stated = OTHER_SCHEMA
    machine.create("a:1", "a:1")
    machine.time_passes(5)
    assert machine.places() == ["a:1"]
    # In the end it comes back with the usual model, which is not the one that the version was made of.
    machine.teardown()


def test_one_that_dies_leaves_the_traffic_to_the_others() -> None:
    machine = ExternalMachine()
    machine.create("a:1", "b:1")
    machine.time_passes(5)
    assert machine.places() == ["a:1", "b:1"]
    machine.server_goes_or_comes("a:1", False)
    machine.time_passes(5)
    assert machine.places() == ["b:1"]
    machine.server_goes_or_comes("b:1", False)
    machine.time_passes(5)
    assert machine.places() == ["a:1", "b:1"], (
        "while none answers, callers are told to try again, not that it is unknown"
    )
    machine.server_goes_or_comes("a:1", True)
    machine.time_passes(5)
    assert machine.places() == ["a:1"]
    machine.teardown()
