"""The process itself: killed between two steps, without its database, stopped while it works."""

import asyncio
import hashlib
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc
import psycopg
import pytest
from google.api import httpbody_pb2
from infermesh.registry.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.registry.settings import RegistrySettings
from services.supervisor.parts.part import Part
from services.supervisor.parts.postgres import database_url as url_of
from services.supervisor.parts.postgres import postgres_part, read_password
from services.supervisor.parts.probes import grpc_ready
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from tests.support.parts import running
from tests.support.registry_driving import OLD, Registry, digits
from tests.support.waiting import eventually

GetVersion = registry_service_pb2.GetModelVersionRequest


@dataclass
class Running:
    """`python -m services.registry`, as the supervisor starts it."""

    part: Part
    port: int
    url: str
    artifacts: Path
    process: Process | None = None
    channel: grpc.aio.Channel | None = None

    async def start(self) -> None:
        self.process = await Process.start(self.part, clock=SystemClock())
        await self.process.wait_ready()
        self.channel = open_channel(f"127.0.0.1:{self.port}")

    async def signalled(self, number: signal.Signals) -> int:
        """Its exit code after a signal."""
        assert self.process is not None
        os.kill(self.process.pid, number)
        async with asyncio.timeout(10):
            return await self.process.wait()

    async def close(self) -> None:
        if self.channel is not None:
            await self.channel.close(None)
        if self.process is not None:
            await self.process.stop()

    @property
    def calls(self) -> "registry_service_pb2_grpc.RegistryServiceAsyncStub":
        assert self.channel is not None
        return registry_service_pb2_grpc.RegistryServiceStub(self.channel)

    def kept(self) -> list[Path]:
        """The artifacts in the store."""
        return [path for path in self.artifacts.glob("sha256/*/*") if path.is_file()]


@pytest.fixture
async def registry(database_url: str, tmp_path: Path) -> AsyncIterator[Running]:
    port, metrics_port = free_ports(2)
    part = service_part(
        "registry",
        ports={"registry": port, "registry_metrics": metrics_port},
        settings={
            "port": port,
            "metrics_port": metrics_port,
            "database_url": database_url,
            "data_dir": tmp_path / "data",
        },
        work_dir=tmp_path,
        log_path=tmp_path / "registry.log",
    )
    url = database_url.replace("postgresql+psycopg", "postgresql")
    process = Running(part, port, url, tmp_path / "data" / "artifacts")
    await process.start()
    yield process
    await process.close()


async def locked(url: str) -> "psycopg.AsyncConnection[tuple[object, ...]]":
    """Holds every write to models back until it is closed."""
    connection = await psycopg.AsyncConnection.connect(url)
    await connection.execute("LOCK TABLE registry.models IN ACCESS EXCLUSIVE MODE")
    return connection


async def test_killed_between_artifact_and_row_it_completes_when_asked_again(registry: Running) -> None:
    async with await locked(registry.url):
        call = asyncio.ensure_future(registry.calls.CreateModel(digits(OLD, request_id="wish")))
        await eventually(registry.kept)
        await registry.signalled(signal.SIGKILL)
        with pytest.raises(MeshError) as caught:
            await call
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    await registry.close()
    await registry.start()
    with pytest.raises(MeshError) as caught:
        await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    assert caught.value.reason is Reason.MODEL_NOT_FOUND
    made = await registry.calls.CreateModel(digits(OLD, request_id="wish"))
    assert [path.name[:64] for path in registry.kept()] == [made.artifact_digest]
    assert await registry.calls.GetModelVersion(GetVersion(model_name="digits", version=OLD)) == made


async def test_an_upload_goes_on_after_a_kill(registry: Running) -> None:
    content = random.Random(1).randbytes(20 * 1024 * 1024)
    assert registry.channel is not None
    artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(registry.channel)
    begun = await artifacts.CreateUpload(
        artifact_service_pb2.CreateUploadRequest(filename="large.bin", size_bytes=len(content))
    )
    sending = asyncio.ensure_future(artifacts.AppendUpload(_appended(begun.upload_id, content, 0, slow=True)))
    get = artifact_service_pb2.GetUploadRequest(upload_id=begun.upload_id)

    async def arrived() -> bool:
        return (await artifacts.GetUpload(get)).offset_bytes > 0

    await eventually(arrived)
    await registry.signalled(signal.SIGKILL)
    with pytest.raises((MeshError, grpc.aio.AioRpcError)):
        await sending
    await registry.close()
    await registry.start()
    artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(registry.channel)
    offset = int((await artifacts.GetUpload(get)).offset_bytes)
    assert 0 < offset < len(content)
    await artifacts.AppendUpload(_appended(begun.upload_id, content, offset))
    made = await artifacts.CompleteUpload(artifact_service_pb2.CompleteUploadRequest(upload_id=begun.upload_id))
    assert made.digest == hashlib.sha256(content).hexdigest()

    def left() -> list[Path]:
        return [path for path in registry.artifacts.glob("uploads/*") if path.is_file()]

    # A kill may strike while a part is written, as if here; what it leaves is garbage once it is a day old.
    cut = registry.artifacts / "uploads" / f"{begun.upload_id}.{offset:020d}.0123456789abcdef.frames.new"
    cut.write_bytes(b"cut off")
    assert 1 <= len(left()) <= 2
    for path in left():
        os.utime(path, times=(0, 0))
    await artifacts.CollectGarbage(artifact_service_pb2.CollectGarbageRequest())
    assert left() == []


async def _appended(
    upload_id: str, content: bytes, offset: int, *, slow: bool = False
) -> AsyncIterator[artifact_service_pb2.AppendUploadRequest]:
    """The messages that send what is behind an offset; slowly, so that the end is never reached."""
    for begin in range(offset, len(content), 1024 * 1024):
        body = httpbody_pb2.HttpBody(data=content[begin : begin + 1024 * 1024])
        yield artifact_service_pb2.AppendUploadRequest(upload_id=upload_id, offset_bytes=offset, body=body)
        if slow and begin > len(content) // 2:
            await asyncio.Event().wait()


async def test_a_stop_lets_the_call_in_hand_finish(registry: Running) -> None:
    async with await locked(registry.url) as lock:
        call = asyncio.ensure_future(registry.calls.CreateModel(digits(OLD)))
        await eventually(registry.kept)
        assert registry.process is not None
        os.kill(registry.process.pid, signal.SIGTERM)
        probe = grpc_ready("127.0.0.1", registry.port)
        await eventually(lambda: _no(probe))
        await lock.rollback()
    assert (await call).version == OLD
    async with asyncio.timeout(10):
        assert await registry.process.wait() == 0


@pytest.fixture
def open_folder(tmp_path: Path) -> Path:
    """A folder that PostgreSQL reaches, which runs as another user where the tests run as root."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder == tmp_path or folder.name.startswith("pytest-"):
            folder.chmod(folder.stat().st_mode | 0o011)
    return tmp_path


async def test_without_its_database_it_says_so_and_goes_on_when_it_is_back(open_folder: Path) -> None:
    (port,) = free_ports(1)
    data = open_folder / "postgres"
    part = postgres_part(port=port, data_dir=data, log_path=open_folder / "postgres.log", options={"fsync": "off"})
    async with running(part) as postgres:
        url = url_of(port=port, password=read_password(data))
        registry = Registry(
            RegistrySettings(
                port=0,
                metrics_port=0,
                database_url=SecretStr(url),
                data_dir=open_folder / "data",
                database_period_s=0.1,
            )
        )
        await registry.start()
        made = await registry.calls.CreateModel(digits(OLD))
        probe = grpc_ready(*_split(registry.address))
        await eventually(probe)
        os.kill(postgres.pid, signal.SIGKILL)
        await postgres.wait()
        for call in (
            registry.calls.GetModelVersion(GetVersion(model_name="digits", version=OLD)),
            registry.calls.CreateModel(digits(OLD)),
            registry.calls.ListModels(registry_service_pb2.ListModelsRequest()),
        ):
            with pytest.raises(MeshError) as caught:
                await call
            assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
            assert caught.value.retry_after_s
        await eventually(lambda: _no(probe))
        async with running(part):
            await eventually(probe)
            assert await registry.calls.GetModelVersion(GetVersion(model_name="digits", version=OLD)) == made
            await registry.stop()


def _split(address: str) -> tuple[str, int]:
    host, _, port = address.partition(":")
    return host, int(port)


async def _no(probe: Callable[[], Awaitable[bool]]) -> bool:
    return not await probe()
