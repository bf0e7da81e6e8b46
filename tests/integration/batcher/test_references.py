"""Reference samples on their way from the real registry to a batcher, also when either of them is away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.batcher.adapters.references import References
from services.batcher.adapters.sample_files import SampleFiles
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.settings import RegistrySettings
from services.supervisor.ports import free_ports
from tests.support.registry_driving import OLD, Registry, digits
from tests.support.waiting import eventually

SCHEMA = ModelSchema((TensorSpec("X", DataType.FP32, (64,)),), (TensorSpec("label", DataType.INT64),))
INSTANCES = [{"X": [float(number)] * 64} for number in range(3)]


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Registry]:
    """On a port that stays its own over a restart."""
    running = Registry(
        RegistrySettings(
            port=free_ports(1)[0],
            metrics_port=0,
            database_url=SecretStr(database_url),
            data_dir=tmp_path / "registry",
            database_period_s=0.1,
        )
    )
    await running.start()
    yield running
    await running.stop()


@asynccontextmanager
async def references(folder: Path, port: int) -> AsyncIterator[References]:
    """As a batcher runs them."""
    channel = open_channel(f"127.0.0.1:{port}")
    made = References(channel, files=SampleFiles(folder), clock=SystemClock())
    await made.start()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(made.run(), name="reference samples")
        yield made
        task.cancel()
    await channel.close(None)


def version(digest: str) -> ServedVersion:
    return ServedVersion("digits", OLD, "prod", SCHEMA, reference_digest=digest)


def table(*versions: ServedVersion) -> ServingTable:
    return ServingTable(1, {"digits": ServedModel("digits", OLD, {one.version: one for one in versions})})


async def registered(registry: Registry) -> str:
    made = await registry.calls.CreateModel(digits(OLD, reference_sample={"instances": INSTANCES}))
    return made.reference_digest


def is_here(source: References, served: ServedVersion) -> bool:
    with suppress(MeshError):
        source.check(served)
        return True
    return False


async def arrived(source: References, served: ServedVersion) -> tuple[Tensor, ...]:
    await eventually(lambda: is_here(source, served), what="the reference sample arrived")
    return await source.sample(InstancePlan(served))


async def test_a_sample_arrives_when_its_version_is_served_and_outlives_the_registry(
    registry: Registry, tmp_path: Path
) -> None:
    served = version(await registered(registry))
    async with references(tmp_path / "kept", registry.settings.port) as source:
        with pytest.raises(MeshError) as caught:
            source.check(served)
        assert caught.value.reason is Reason.EXPLANATION_NOT_READY
        source.serve(table(served))
        (tensor,) = await arrived(source, served)
        assert (tensor.name, tensor.shape) == ("X", (3, 64))
    await registry.stop()
    async with references(tmp_path / "kept", registry.settings.port) as source:
        source.serve(table(served))
        assert await source.sample(InstancePlan(served)) == (tensor,)


async def test_without_the_registry_it_says_so_and_the_sample_comes_when_it_is_back(
    registry: Registry, tmp_path: Path
) -> None:
    served = version(await registered(registry))
    await registry.stop()
    async with references(tmp_path / "kept", registry.settings.port) as source:
        source.serve(table(served))

        def refused() -> bool:
            with pytest.raises(MeshError) as caught:
                source.check(served)
            assert 0 < (caught.value.retry_after_s or 0) <= 30
            return "does not answer" in caught.value.message

        await eventually(refused, what="the error named the registry")
        await registry.start()
        assert (await arrived(source, served))[0].shape == (3, 64)


async def test_a_damaged_file_is_fetched_again(registry: Registry, tmp_path: Path) -> None:
    served = version(await registered(registry))
    async with references(tmp_path / "kept", registry.settings.port) as source:
        source.serve(table(served))
        await eventually(lambda: is_here(source, served), what="the reference sample arrived")
        (file,) = (tmp_path / "kept").glob("*.json")
        file.write_bytes(b"{}")
        with pytest.raises(MeshError, match="its file was damaged and is fetched again") as caught:
            await source.sample(InstancePlan(served))
        assert caught.value.reason is Reason.EXPLANATION_NOT_READY
        assert (await arrived(source, served))[0].shape == (3, 64)


async def test_what_is_not_what_was_promised_is_not_taken(registry: Registry, tmp_path: Path) -> None:
    await registered(registry)
    served = version("0" * 64)
    async with references(tmp_path / "kept", registry.settings.port) as source:
        source.serve(table(served))

        def refused() -> bool:
            with pytest.raises(MeshError) as caught:
                source.check(served)
            return "where 0000" in caught.value.message

        await eventually(refused, what="the error named both digests")
    assert list((tmp_path / "kept").iterdir()) == []


async def test_a_sample_that_does_not_fit_the_version_explains_nothing(registry: Registry, tmp_path: Path) -> None:
    other = replace(SCHEMA, inputs=(TensorSpec("X", DataType.FP32, (32,)),))
    served = replace(version(await registered(registry)), schema=other)
    async with references(tmp_path / "kept", registry.settings.port) as source:
        source.serve(table(served))
        with pytest.raises(MeshError, match=r"does not fit it: reference_sample\.instances\[0\]\.X") as caught:
            await arrived(source, served)
    assert caught.value.reason is Reason.EXPLANATION_UNAVAILABLE
