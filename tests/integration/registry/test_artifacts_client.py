"""Artifacts sent and fetched by the Python client, over a registry that comes and goes."""

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from google.api import httpbody_pb2
from infermesh.client import Client, InfermeshError
from infermesh.client.packing import pack
from infermesh.registry.v1 import artifact_service_pb2, artifact_service_pb2_grpc

from tests.support.registry_driving import DIGITS, OLD, Registry, digits

LARGE = random.Random(2).randbytes(20 * 1024 * 1024)
DIGEST = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
async def client(registry: Registry) -> AsyncIterator[Client]:
    with Client(registry.address) as made:
        yield made


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(LARGE)
    return path


async def test_what_is_sent_is_registered_and_fetched(client: Client, registry: Registry, tmp_path: Path) -> None:
    file = DIGITS / f"digits-{OLD}.onnx"
    sent = await asyncio.to_thread(client.artifacts.upload, file)
    report = await asyncio.to_thread(client.artifacts.inspect, sent.artifact_uri)
    assert (report.framework, list(report.problems)) == ("onnx", [])
    await registry.calls.CreateModel(digits(OLD, artifact_uri=sent.artifact_uri))
    assert (await asyncio.to_thread(client.artifacts.get, sent.digest)).version_count == 1
    fetched = await asyncio.to_thread(client.artifacts.download, sent.digest, tmp_path / "fetched.onnx")
    assert await asyncio.to_thread(fetched.read_bytes) == await asyncio.to_thread(file.read_bytes)
    cleared = await asyncio.to_thread(client.artifacts.collect_garbage, dry_run=True)
    assert cleared.artifact_count == 0


async def test_a_folder_is_known_to_be_there_whoever_packed_it(
    client: Client, registry: Registry, tmp_path: Path
) -> None:
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "data").write_bytes(b"weights" * 1000)
    sent = await asyncio.to_thread(client.artifacts.upload, folder)
    assert (sent.kind, sent.filename) == ("directory", "model.tar")
    report = await asyncio.to_thread(client.artifacts.inspect, folder.as_uri())
    assert report.artifact.digest == sent.digest
    (folder / "link").symlink_to("saved_model.pb")
    with pytest.raises(ValueError, match="link"):
        await asyncio.to_thread(client.artifacts.upload, folder)


async def test_what_another_run_sent_is_not_sent_again(client: Client, registry: Registry, large: Path) -> None:
    packed = pack(large)
    stub = artifact_service_pb2_grpc.ArtifactServiceStub(registry.channel)  # type: ignore[arg-type]
    name = hashlib.sha256(b"weights.bin").hexdigest()[:16]
    begun = await stub.CreateUpload(
        artifact_service_pb2.CreateUploadRequest(
            filename="weights.bin",
            digest=packed.digest,
            size_bytes=packed.size_bytes,
            request_id=f"upload-{packed.digest}-{name}",
        )
    )
    body = httpbody_pb2.HttpBody(data=LARGE[:3_000_000])
    await stub.AppendUpload(
        iter([artifact_service_pb2.AppendUploadRequest(upload_id=begun.upload_id, offset_bytes=0, body=body)])
    )
    seen: list[int] = []
    sent = await asyncio.to_thread(client.artifacts.upload, large, progress=lambda done, _: seen.append(done))
    assert sent.digest == DIGEST
    assert (seen[0], seen[-1]) == (3_000_000, len(LARGE))
    assert (await asyncio.to_thread(client.artifacts.upload, large)).digest == DIGEST


async def test_a_registry_that_restarts_meanwhile_delays_it_only(
    client: Client, registry: Registry, large: Path, tmp_path: Path
) -> None:
    halfway, go_on = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_at_half(done: int, size: int) -> None:
        if done > size // 2 and not halfway.is_set():
            loop.call_soon_threadsafe(halfway.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)

    sending = asyncio.create_task(asyncio.to_thread(client.artifacts.upload, large, progress=wait_at_half), name="send")
    await halfway.wait()
    port = int(registry.address.rsplit(":", 1)[1])
    await registry.stop()
    registry.settings = registry.settings.model_copy(update={"port": port})
    await registry.start()
    go_on.set()
    assert (await sending).digest == DIGEST
    part = tmp_path / "fetched.part"
    part.write_bytes(LARGE[:7_000_000])
    seen: list[int] = []
    fetched = await asyncio.to_thread(
        client.artifacts.download, DIGEST, tmp_path / "fetched", progress=lambda done, _: seen.append(done)
    )
    assert await asyncio.to_thread(fetched.read_bytes) == LARGE
    assert min(seen) > 7_000_000
    part.write_bytes(b"wrong" + LARGE[5:7_000_000])
    with pytest.raises(InfermeshError) as caught:
        await asyncio.to_thread(client.artifacts.download, DIGEST, tmp_path / "fetched")
    assert caught.value.reason == "ARTIFACT_CORRUPT"
    assert not part.exists()
