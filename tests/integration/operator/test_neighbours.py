"""The operator's lines to a real registry and a real router."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from infermesh.registry.v1 import team_pb2
from pydantic import SecretStr

from services.common.errors import MeshError, Reason
from services.operator.adapters.registry import RegistryTeams, RegistryVersions
from services.operator.adapters.router import RouterAbTests
from services.operator.domain.ab_test import AbTestWish
from services.operator.domain.manifests.team import Team
from services.registry.settings import RegistrySettings
from tests.integration.router.driving import PlayedBatcher, PlayedDeployer, Router, Surroundings
from tests.integration.router.monitoring import PlayedMonitor
from tests.integration.router.test_ab_tests import BOTH, NEW, all_for_the_old
from tests.support.registry_driving import OLD, Registry, digits
from tests.support.registry_team import make_team

WISH = AbTestWish(
    name="two-vs-one",
    namespace="vision",
    uid="6f1c1a52",
    model_name="digits",
    versions={OLD: 90, NEW: 10},
    duration_days=7.0,
    metrics=("error_rate",),
    rollback_on_error_rate=0.5,
    auto_promote=False,
    sticky_key_header="x-user-id",
    stopped=False,
)


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    settings = RegistrySettings(
        port=0, metrics_port=0, database_url=SecretStr(database_url), data_dir=tmp_path / "registry"
    )
    running = Registry(settings)
    await running.start()
    yield running
    await running.stop()


async def test_versions_and_teams_are_what_the_registry_says_and_versions_are_asked_for_once(
    registry: Registry,
) -> None:
    made = await registry.calls.CreateModel(digits(OLD))
    assert registry.channel is not None
    versions = RegistryVersions(registry.channel)
    facts = await versions.facts("digits", OLD)
    assert (facts.framework, facts.artifact_digest) == ("onnx", made.artifact_digest)
    assert facts.artifact_bytes == int(made.model_size_bytes) > 0
    with pytest.raises(MeshError) as refused:
        await versions.facts("digits", "v9.0.0")
    assert refused.value.reason is Reason.VERSION_NOT_FOUND
    quota = team_pb2.ResourceQuota(cpu="64", memory="256Gi", gpu=8)
    await make_team(registry.channel, "vision", resource_quota=quota)
    await make_team(registry.channel, "ads_and_search", namespace="ads")
    assert await RegistryTeams(registry.channel).every() == [
        Team("ads_and_search", "ads"),
        Team("vision", "vision", cpu="64", memory="256Gi", gpu=8),
    ]
    await registry.stop()
    assert await versions.facts("digits", OLD) == facts, "versions never change"


@pytest.fixture
async def router(database_url: str) -> AsyncIterator[Router]:
    deployer = PlayedDeployer()
    await deployer.start()
    around = Surroundings(database_url, deployer)
    deployer.state.put(BOTH)
    monitor = PlayedMonitor(around.others_port)
    await monitor.start()
    async with around.router() as running:
        batcher = PlayedBatcher(running.channel)
        await all_for_the_old(running)
        yield running
        await batcher.leave()
    await monitor.stop()
    await deployer.stop()


async def test_a_test_is_started_once_found_and_stopped_once(router: Router) -> None:
    tests = RouterAbTests(router.channel)
    assert await tests.find(WISH) is None
    assert await tests.stop(WISH, reason="it never was") is None
    standing = await tests.create(WISH)
    assert (standing.phase, standing.start_time[:2], standing.end_time[-1]) == ("running", "20", "Z")
    again = await tests.create(WISH)
    assert (again.phase, again.start_time) == ("running", standing.start_time)
    with pytest.raises(MeshError) as refused:
        await tests.create(replace(WISH, name="another", uid="7a"))
    assert refused.value.reason is Reason.ROLLOUT_IN_PROGRESS
    found = await tests.find(WISH)
    assert found is not None
    assert (found.phase, found.control) == ("running", OLD)
    ended = await tests.stop(WISH, reason="its ABTest was deleted")
    assert ended is not None
    assert (ended.phase, ended.message) == ("stopped", "stopped by hand: its ABTest was deleted")
    later = await tests.stop(WISH, reason="once more")
    assert later is not None
    assert later.phase == "stopped"
