"""The reconcile loop against whatever may happen, in virtual time."""

import asyncio

import pytest
from hypothesis import HealthCheck, settings

from services.deployer.domain.deployment import Health, Status
from tests.support.deployer_machine import IDLE_S, DeployerMachine

pytestmark = pytest.mark.timeout(300)

TestDeployer = DeployerMachine.TestCase
TestDeployer.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.mark.parametrize("seconds", [0.2, 1.0, 4.0])
def test_scaled_to_nothing_and_back_it_answers_whether_it_was_unloaded_or_not(seconds: float) -> None:
    machine = DeployerMachine()
    machine.create(version="v1.0.0")
    machine.run(asyncio.sleep(5))
    machine.blink(version="v1.0.0", replicas=1, seconds=seconds)
    machine.run(asyncio.sleep(10))
    assert machine.published() == {"m--v1.0.0"}
    machine.teardown()


def test_an_older_version_that_fails_keeps_what_it_came_to_and_is_not_told_of_the_newer_one() -> None:
    machine = DeployerMachine()
    machine.create(version="v1.0.0")
    machine.run(asyncio.sleep(5))
    machine.roll(version="v1.0.0", to="v2.0.0", bake_s=30)
    machine.run(asyncio.sleep(10))
    name = "m--v1.0.0"
    for server in machine.servers.values():
        server.sick.add(name)
        server.loaded.pop(name, None)
    machine.run(asyncio.sleep(5))
    older, newer = (machine.run(machine.store.holder("m", version)) for version in ("v1.0.0", "v2.0.0"))
    assert older is not None
    assert newer is not None
    assert older.progress.failure is not None
    assert newer.progress.failure is None
    assert not set(older.progress.loaded.values()) & set(newer.progress.loaded.values())
    assert older.progress.warm_until is not None
    machine.teardown()


def test_where_it_answers_as_it_is_wished_a_failure_elsewhere_makes_it_degraded_and_not_failed() -> None:
    machine = DeployerMachine()
    machine.create(version="v1.0.0")
    machine.scale(version="v1.0.0", replicas=2)
    machine.run(asyncio.sleep(5))
    sick = machine.servers["triton-1"]
    sick.sick.add("m--v1.0.0")
    sick.die()
    sick.revive()
    machine.run(asyncio.sleep(5))
    row = machine.run(machine.store.holder("m", "v1.0.0"))
    assert row is not None
    assert (row.progress.status, row.progress.health) == (Status.ACTIVE, Health.DEGRADED)
    assert row.progress.failure is not None
    sick.sick.clear()
    machine.run(asyncio.sleep(40))
    row = machine.run(machine.store.holder("m", "v1.0.0"))
    assert row is not None
    assert (row.progress.status, row.progress.health, row.progress.failure) == (Status.ACTIVE, Health.HEALTHY, None)
    machine.teardown()


@pytest.mark.parametrize("answered", [False, True])
def test_stopped_and_started_again_while_no_server_is_up_it_is_not_put_to_sleep_unknown_to_callers(
    *, answered: bool
) -> None:
    machine = DeployerMachine()
    if answered:
        machine.create(version="v1.1.0")
        machine.run(asyncio.sleep(5))
    for server in machine.servers.values():
        server.die()
    machine.create(version="v1.1.0")
    machine.scale(version="v1.1.0", replicas=0)
    machine.run(asyncio.sleep(5))
    machine.scale(version="v1.1.0", replicas=1)
    machine.run(machine.tell(()))
    machine.run(asyncio.sleep(IDLE_S + 5))
    row = machine.run(machine.store.holder("m", "v1.1.0"))
    assert row is not None
    assert (row.progress.asleep_since is not None) == answered
    assert machine.known() == ({"m--v1.1.0"} if answered else set())
    machine.teardown()


def test_what_sleeps_and_is_stopped_and_started_again_at_once_is_known_to_callers() -> None:
    machine = DeployerMachine()
    machine.create(version="v2.0.0")
    machine.run(asyncio.sleep(5))
    machine.run(machine.tell(()))
    machine.run(asyncio.sleep(IDLE_S + 5))
    assert machine.known() > machine.published()
    machine.scale(version="v2.0.0", replicas=0)
    machine.run(asyncio.sleep(0))
    machine.scale(version="v2.0.0", replicas=1)
    machine.kill_deployer()
    machine.run(asyncio.sleep(1))
    row = machine.run(machine.store.holder("m", "v2.0.0"))
    assert row is not None
    assert row.progress.asleep_since is not None
    assert row.progress.withdrawn_at is None
    assert machine.known() == {"m--v2.0.0"}
    machine.teardown()
