"""Versions deployed out of stores that model servers cannot read: a bucket, and an encrypted folder."""

from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.deployer.adapters.registry import RegistryArtifacts, RegistryVersionSource
from services.deployer.settings import DeployerSettings
from services.registry.settings import RegistrySettings
from tests.integration.deployer.driving import Mesh, Triton, expected
from tests.support.registry_driving import NEW, OLD, Registry, digits
from tests.support.s3 import s3_server
from tests.support.waiting import eventually


@pytest.fixture(params=["s3", "encrypted"])
async def registry(request: pytest.FixtureRequest, database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    settings = RegistrySettings(
        port=0, metrics_port=0, database_url=SecretStr(database_url), data_dir=tmp_path / "registry"
    )
    if request.param == "s3":
        with s3_server() as s3:
            running = Registry(settings.model_copy(update={"artifacts_uri": f"s3://{s3.bucket}/models"}))
            await running.start()
            yield running
            assert len(s3.keys("models/sha256/")) == 2
            await running.stop()
        return
    (tmp_path / "key").write_bytes(bytes(range(32)))
    running = Registry(settings.model_copy(update={"artifact_key_file": str(tmp_path / "key")}))
    await running.start()
    yield running
    stored = b"".join(path.read_bytes() for path in (tmp_path / "registry" / "artifacts" / "sha256").glob("*/*"))
    assert stored
    assert b"onnx" not in stored
    await running.stop()


@pytest.fixture
async def mesh(registry: Registry, database_url: str, triton: Triton, tmp_path: Path) -> AsyncIterator[Mesh]:
    assert registry.channel is not None
    deployer = Mesh(
        DeployerSettings(
            port=0,
            metrics_port=0,
            database_url=SecretStr(database_url),
            data_dir=tmp_path / "deployer",
            model_repository=tmp_path / "repository",
            triton_http_address=f"127.0.0.1:{triton.part.ports['triton_http']}",
            triton_grpc_address=f"127.0.0.1:{triton.part.ports['triton_grpc']}",
            drain_s=0.2,
            period_s=0.1,
        ),
        RegistryVersionSource(registry.channel),
        artifacts=RegistryArtifacts(registry.channel),
    )
    await deployer.start()
    yield deployer
    await deployer.stop()


async def test_it_is_fetched_loaded_and_answers_also_once_the_registry_is_gone(
    registry: Registry, mesh: Mesh, triton: Triton, tmp_path: Path
) -> None:
    for version, name in ((OLD, "old"), (NEW, "new")):
        made = await registry.calls.CreateModel(digits(version))
        assert made.artifact_path == ""
        deployed = await mesh.deploy(version, name)
        assert (deployed.status, deployed.health_status) == ("active", "healthy"), deployed
        assert await triton.predict(version) == expected(version)
    await mesh.stop()
    # The repository is lost and the registry gone: what was fetched is enough.
    for place in list((tmp_path / "repository").glob("digits--*")):
        place.rename(tmp_path / f"lost.{place.name}")
    await registry.stop()
    await triton.kill()
    await triton.start()
    await mesh.start()
    for version in (OLD, NEW):
        await eventually(partial(triton.is_loaded, version))
        assert await triton.predict(version) == expected(version)
