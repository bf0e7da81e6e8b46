"""Artifacts sent, fetched and cleared away over gRPC."""

import hashlib
from collections.abc import AsyncIterator, Awaitable, Iterator
from typing import TYPE_CHECKING

import grpc
import psycopg
import pytest
from google.api import httpbody_pb2
from infermesh.registry.v1 import artifact_service_pb2, artifact_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import error_from_rpc
from tests.support.registry_driving import DIGITS, OLD, Registry, digits
from tests.support.registry_onnx import model, tensor

if TYPE_CHECKING:
    from infermesh.registry.v1.artifact_service_pb2_grpc import ArtifactServiceAsyncStub

Upload = artifact_service_pb2.UploadArtifactRequest
Collect = artifact_service_pb2.CollectGarbageRequest
CONTENT = (DIGITS / f"digits-{OLD}.onnx").read_bytes()
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
async def artifacts(registry: Registry) -> "AsyncIterator[ArtifactServiceAsyncStub]":
    async with grpc.aio.insecure_channel(registry.address) as channel:
        yield artifact_service_pb2_grpc.ArtifactServiceStub(channel)


async def unwanted_since_long(registry: Registry, *digests: str) -> None:
    url = registry.settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for digest in digests:
            await connection.execute(
                "UPDATE registry.artifacts SET wanted_at = '2026-01-01Z' WHERE digest = %s", (digest,)
            )


def pieces(
    content: bytes, size: int, *, filename: str = "", digest: str = "", size_bytes: float = 0
) -> Iterator[Upload]:
    """The messages that send `content`."""
    for begin in range(0, len(content), size):
        body = httpbody_pb2.HttpBody(data=content[begin : begin + size])
        if begin:
            yield Upload(body=body)
        else:
            yield Upload(body=body, filename=filename, digest=digest, size_bytes=size_bytes)


async def test_what_is_sent_is_registered_by_its_digest_and_fetched_again(
    registry: Registry, artifacts: "ArtifactServiceAsyncStub"
) -> None:
    sent = await artifacts.UploadArtifact(
        pieces(CONTENT, 1000, filename="digits.onnx", digest=DIGEST, size_bytes=len(CONTENT))
    )
    assert (sent.digest, sent.kind, sent.filename, sent.size_bytes) == (DIGEST, "file", "digits.onnx", len(CONTENT))
    assert sent.version_count == 0
    made = await registry.calls.CreateModel(digits(OLD, artifact_uri=sent.artifact_uri))
    assert (made.artifact_digest, made.model_size_bytes) == (DIGEST, len(CONTENT))
    for offset in (0, 4000):
        asked = artifact_service_pb2.DownloadArtifactRequest(digest=DIGEST, offset_bytes=offset)
        fetched = b"".join([piece.data async for piece in artifacts.DownloadArtifact(asked)])
        assert fetched == CONTENT[offset:]


@pytest.mark.parametrize(
    ("requests", "reason"),
    [
        ([], Reason.INVALID_FIELD),
        ([Upload(filename="empty")], Reason.INVALID_FIELD),
        # The first piece is refused, and no other is to be under way then: grpc.aio gives a write that
        # meets the end of its call before the status of that for an internal error.
        (list(pieces(CONTENT, 1000, filename="a/b"))[:1], Reason.INVALID_FIELD),
        (list(pieces(CONTENT, 1000, size_bytes=1))[:1], Reason.INVALID_FIELD),
        (list(pieces(CONTENT, 1000, digest="0" * 64)), Reason.ARTIFACT_CORRUPT),
        (list(pieces(bytes(4 * 1024 * 1024 + 1), 2**30)), Reason.MESSAGE_TOO_LARGE),
    ],
    ids=["nothing", "empty", "name", "size", "digest", "piece"],
)
async def test_what_is_not_as_it_was_said_to_be_is_not_kept(
    registry: Registry, artifacts: "ArtifactServiceAsyncStub", requests: list[Upload], reason: Reason
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await artifacts.UploadArtifact(iter(requests))
    assert error_from_rpc(caught.value, registry.address).reason is reason
    store = registry.settings.data_dir / "artifacts"
    assert [path for path in store.rglob("*") if path.is_file() and path.name != "lock"] == []


async def test_what_no_version_uses_is_cleared_away_after_a_day(
    registry: Registry, artifacts: "ArtifactServiceAsyncStub"
) -> None:
    used = await registry.calls.CreateModel(digits(OLD))
    contents = [model([tensor(name, ["N", 4])]).SerializeToString() for name in ("a", "b")]
    old, new = [await artifacts.UploadArtifact(pieces(content, 1000)) for content in contents]
    await unwanted_since_long(registry, used.artifact_digest, old.digest)
    for dry_run in (True, False):
        cleared = await artifacts.CollectGarbage(Collect(dry_run=dry_run))
        assert (list(cleared.digests), cleared.artifact_count) == ([old.digest], 1)
        assert cleared.freed_bytes == old.stored_size_bytes
    assert (await artifacts.CollectGarbage(Collect())).artifact_count == 0
    for digest in (used.artifact_digest, new.digest):
        assert (await artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(digest=digest))).digest == digest
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(digest=old.digest))
    assert error_from_rpc(caught.value, registry.address).reason is Reason.ARTIFACT_NOT_FOUND


async def test_an_artifact_is_sent_in_several_goes(registry: Registry, artifacts: "ArtifactServiceAsyncStub") -> None:
    begun = await artifacts.CreateUpload(
        artifact_service_pb2.CreateUploadRequest(filename="digits.onnx", digest=DIGEST, request_id="wish")
    )
    again = await artifacts.CreateUpload(
        artifact_service_pb2.CreateUploadRequest(filename="digits.onnx", digest=DIGEST, request_id="wish")
    )
    assert again == begun

    def append(content: bytes, offset: float) -> Iterator[artifact_service_pb2.AppendUploadRequest]:
        body = httpbody_pb2.HttpBody(data=content)
        yield artifact_service_pb2.AppendUploadRequest(upload_id=begun.upload_id, offset_bytes=offset, body=body)

    first = await artifacts.AppendUpload(append(CONTENT[:1000], 0))
    assert (first.offset_bytes, first.filename) == (1000, "digits.onnx")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await artifacts.AppendUpload(append(CONTENT, 0))
    wrong = error_from_rpc(caught.value, registry.address)
    assert (wrong.reason, wrong.metadata["offset_bytes"]) == (Reason.INVALID_FIELD, "1000")
    # The registry that goes on with it is another process than the one that began.
    await registry.stop()
    await registry.start()
    async with grpc.aio.insecure_channel(registry.address) as channel:
        later = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        found = await later.GetUpload(artifact_service_pb2.GetUploadRequest(upload_id=begun.upload_id))
        assert found.offset_bytes == 1000
        await later.AppendUpload(append(CONTENT[1000:], 1000))
        complete = artifact_service_pb2.CompleteUploadRequest(upload_id=begun.upload_id)
        made = await later.CompleteUpload(complete)
        assert (made.digest, made.kind, made.filename, made.size_bytes) == (DIGEST, "file", "digits.onnx", len(CONTENT))
        assert await later.CompleteUpload(complete) == made
        other = await later.CreateUpload(artifact_service_pb2.CreateUploadRequest())
        await later.DeleteUpload(artifact_service_pb2.DeleteUploadRequest(upload_id=other.upload_id))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await later.GetUpload(artifact_service_pb2.GetUploadRequest(upload_id=other.upload_id))
        assert error_from_rpc(caught.value, registry.address).reason is Reason.UPLOAD_NOT_FOUND


async def test_teams_see_what_they_sent_and_what_models_that_they_see_are_made_of(
    registry: Registry, artifacts: "ArtifactServiceAsyncStub"
) -> None:
    url = registry.settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url) as connection:
        for team in ("vision", "fraud"):
            await connection.execute("INSERT INTO registry.teams (name, namespace) VALUES (%s, %s)", (team, team))
    ann, bob = [
        [("x-infermesh-user", user), ("x-infermesh-team", team), ("x-infermesh-role", "deployer")]
        for user, team in (("ann", "vision"), ("bob", "fraud"))
    ]
    sent = await artifacts.UploadArtifact(pieces(CONTENT, 1000), metadata=ann)
    get = artifact_service_pb2.GetArtifactRequest(digest=DIGEST)
    assert (await artifacts.GetArtifact(get, metadata=ann)).digest == DIGEST

    async def refused(call: "Awaitable[object]") -> str:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        error = error_from_rpc(caught.value, registry.address)
        assert error.reason is Reason.ARTIFACT_NOT_FOUND
        return error.message

    nothing = artifact_service_pb2.GetArtifactRequest(digest="0" * 64)
    absent = await refused(artifacts.GetArtifact(nothing, metadata=bob))
    download = artifact_service_pb2.DownloadArtifactRequest(digest=DIGEST)
    assert await refused(artifacts.GetArtifact(get, metadata=bob)) == absent.replace("0" * 64, DIGEST)
    await refused(artifacts.DownloadArtifact(download, metadata=bob).read())
    inspect = artifact_service_pb2.InspectArtifactRequest(artifact_uri=sent.artifact_uri)
    await refused(artifacts.InspectArtifact(inspect, metadata=bob))
    with pytest.raises(MeshError) as caught:
        await registry.calls.CreateModel(digits(OLD, name="stolen", artifact_uri=sent.artifact_uri), metadata=bob)
    assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND
    # A model without a team is everybody's, and so is what it is made of.
    await registry.calls.CreateModel(digits(OLD, artifact_uri=sent.artifact_uri))
    assert (await artifacts.GetArtifact(get, metadata=bob)).version_count == 1
