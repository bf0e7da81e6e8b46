"""What fills a pod's model repository, as the pod runs it: the command, a real registry, then a Triton that loads
it."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.registry.settings import RegistrySettings
from services.supervisor.process import Process
from tests.integration.deployer.driving import Triton, expected
from tests.support.fetching import fetch
from tests.support.parts import triton_in
from tests.support.registry_driving import OLD, Registry, digits


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    running = Registry(
        RegistrySettings(port=0, metrics_port=0, database_url=SecretStr(database_url), data_dir=tmp_path / "registry")
    )
    await running.start()
    yield running
    await running.stop()


async def test_a_triton_that_starts_over_what_was_fetched_answers(registry: Registry, tmp_path: Path) -> None:
    made = await registry.calls.CreateModel(digits(OLD))
    # As in a pod, the registry's own disk is not there.
    code, said = await fetch(tmp_path, registry.address, DIGEST=made.artifact_digest, INSTANCES="2", THREADS="1")
    assert code == 0, said
    assert not (tmp_path / "artifacts" / made.artifact_digest).exists(), "kept twice"
    assert "count: 2" in (tmp_path / "repository" / f"digits--{OLD}" / "config.pbtxt").read_text()
    part = triton_in(tmp_path, options=(f"--load-model=digits--{OLD}",))
    server = Triton(part, await Process.start(part, clock=SystemClock()))
    try:
        await server.process.wait_ready()
        assert await server.predict(OLD) == expected(OLD)
    finally:
        await server.process.stop()
    again, said = await fetch(tmp_path, registry.address, DIGEST=made.artifact_digest, INSTANCES="2", THREADS="1")
    assert again == 0, said


async def test_another_artifact_than_the_pod_was_made_for_is_refused(registry: Registry, tmp_path: Path) -> None:
    await registry.calls.CreateModel(digits(OLD))
    code, said = await fetch(tmp_path, registry.address, DIGEST="0" * 64)
    assert code == 1
    assert said[-1].startswith("ARTIFACT_CORRUPT: the registry has artifact ")
    assert said[-1].endswith("versions never change, so see which registry it asks")
    assert not any(name.startswith("digits") for name in os.listdir(tmp_path / "repository"))  # noqa: PTH208


async def test_a_version_that_is_not_there_and_a_registry_that_is_away_are_told_in_the_last_line(
    registry: Registry, tmp_path: Path
) -> None:
    code, said = await fetch(tmp_path, registry.address)
    assert code == 1
    assert said[-1].startswith(("MODEL_NOT_FOUND: ", "VERSION_NOT_FOUND: "))
    await registry.stop()
    code, said = await fetch(tmp_path, registry.address, PATIENCE_S="1")
    assert code == 1
    assert said[-1].startswith("DEPENDENCY_UNAVAILABLE: the service at ")
    assert any('"will try again"' in line for line in said)
