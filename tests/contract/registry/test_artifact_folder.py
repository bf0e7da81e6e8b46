"""What a store promises beyond its contract where it is a folder, and what a bucket is asked for."""

import asyncio
import fcntl
import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.common.artifacts.unpacking import Limits
from services.common.errors import MeshError, Reason
from services.common.objects import open_bucket
from services.registry.adapters.artifact_sources import Sources
from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.domain.artifact_uri import ArtifactPlace, parse_artifact_uri
from services.registry.domain.artifacts import Sender
from services.registry.settings import RegistrySettings
from services.registry.wiring_artifacts import own_files, server_side
from tests.support.registry_stores import Form, build_store
from tests.support.s3 import S3, s3_server
from tests.support.waiting import eventually

CONTENT = b"weights" * 300_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "iris.onnx"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def form(tmp_path: Path) -> Form:
    return Form("plain", tmp_path / "data")


@pytest.fixture
async def store(form: Form) -> ObjectArtifactStore:
    return await build_store(form, bytes_max=4 * 1024 * 1024)


@pytest.fixture
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


async def refusal(store: ObjectArtifactStore, path: Path) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await store.keep(ArtifactPlace(path=str(path)))
    return caught.value


async def test_the_copy_is_its_own_and_read_only(form: Form, store: ObjectArtifactStore, source: Path) -> None:
    await store.keep(ArtifactPlace(path=str(source)))
    await asyncio.to_thread(source.write_bytes, b"changed")
    path = Path(store.path_of(DIGEST))
    assert path.parts[-4:-1] == ("artifacts", "sha256", DIGEST[:2])
    assert await asyncio.to_thread(path.read_bytes) == CONTENT
    assert (await asyncio.to_thread(path.stat)).st_mode & 0o777 == 0o444
    assert form.incoming() == []


async def test_what_lay_there_before_there_were_records_is_found(form: Form, source: Path) -> None:
    place = form.data_dir / "artifacts" / "sha256" / DIGEST[:2] / DIGEST
    place.parent.mkdir(parents=True)
    place.write_bytes(CONTENT)
    store = await build_store(form, bytes_max=4 * 1024 * 1024)
    found = await store.find(DIGEST)
    assert found is not None
    assert (found.kind, found.size_bytes) == ("file", len(CONTENT))
    assert (await store.keep(ArtifactPlace(digest=DIGEST))).size_bytes == len(CONTENT)
    assert store.path_of(DIGEST) == str(place)


async def test_what_is_no_plain_file_cannot_hold_a_thread(store: ObjectArtifactStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path / "iris.onnx" / "deeper"):
        async with asyncio.timeout(5):
            assert (await refusal(store, path)).reason is Reason.ARTIFACT_NOT_FOUND


async def test_a_disk_that_cannot_be_written_is_named(form: Form, store: ObjectArtifactStore, source: Path) -> None:
    (form.data_dir / "artifacts" / "incoming").rmdir()
    (form.data_dir / "artifacts" / "incoming").write_bytes(b"in the way")
    error = await refusal(store, source)
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "data_dir" in error.message


async def test_a_start_clears_what_was_interrupted_and_not_what_is_being_written(form: Form) -> None:
    folder = form.data_dir / "artifacts" / "incoming"
    folder.mkdir(parents=True)
    (folder / "left").write_bytes(b"half")
    with (folder / "held").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await build_store(form, bytes_max=1)
        assert [path.name for path in folder.iterdir()] == ["held"]


_WRITER = """
import asyncio, sys
from pathlib import Path
from services.registry.domain.artifact_uri import ArtifactPlace
from tests.support.registry_stores import Form, build_store

async def main():
    store = await build_store(Form("plain", Path(sys.argv[1])), bytes_max=2**40)
    await store.keep(ArtifactPlace(path=sys.argv[2]))

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_no_artifact_and_a_restart_clears_its_half(form: Form, tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**36)
    argv = [sys.executable, "-c", _WRITER, str(form.data_dir), str(tmp_path / "huge")]
    writer = await asyncio.create_subprocess_exec(*argv)
    try:
        folder = form.data_dir / "artifacts" / "incoming"
        await eventually(lambda: [path for path in folder.glob("*") if path.stat().st_size])
    finally:
        writer.kill()
        await writer.wait()
    assert len(form.incoming()) == 1
    assert form.objects() == {}
    await build_store(form, bytes_max=1)
    assert form.incoming() == []


async def test_copies_stay_off_the_event_loop(store: ObjectArtifactStore, source: Path) -> None:
    copying = asyncio.ensure_future(store.keep(ArtifactPlace(path=str(source))))
    turns = 0
    while not copying.done():
        await asyncio.sleep(0)
        turns += 1
    # The loop went on turning all the while; a copy on the loop itself would take a few turns.
    assert turns > 20


async def test_only_places_that_the_settings_open_are_read(source: Path, tmp_path: Path) -> None:
    (tmp_path / "open").mkdir()
    (tmp_path / "open" / "link").symlink_to(source)
    allowed = [f"file://{tmp_path}/open/", "s3://ours/"]
    sources = Sources(open_bucket=open_bucket, own_folder=tmp_path / "own", own_uri="", allowed=allowed)
    (tmp_path / "open-not").write_bytes(CONTENT)
    shut = (str(source), f"{tmp_path}/open/link", f"{tmp_path}/open/../iris.onnx", "s3://theirs/x", "s3://ours-not/x")
    for uri in (*shut, f"{tmp_path}/open-not"):
        with pytest.raises(MeshError) as caught:
            sources.open(parse_artifact_uri(uri), Limits())
        assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND
        assert "no place that the registry takes" in caught.value.message


async def test_what_is_the_registrys_alone_is_never_read(tmp_path: Path) -> None:
    own, keys = tmp_path / "data" / "artifacts", tmp_path / "data" / "keys"
    own.mkdir(parents=True)
    keys.mkdir()
    (keys / "signing.pem").write_text("a private key")
    (tmp_path / "link").symlink_to(keys)
    sources = Sources(open_bucket=open_bucket, own_folder=own, own_uri="", allowed=[], closed=[tmp_path / "data"])
    closed = (own, own.parent, tmp_path, keys, keys / "signing.pem", tmp_path / "link" / "signing.pem")
    for uri in (*(str(one) for one in closed), "/", "/proc/self/environ"):
        with pytest.raises(MeshError) as caught:
            sources.open(parse_artifact_uri(uri), Limits())
        assert caught.value.reason is Reason.PERMISSION_DENIED


def test_the_registrys_own_files_are_those_of_its_settings(tmp_path: Path) -> None:
    settings = RegistrySettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(""),
        data_dir=tmp_path / "data",
        artifact_key_file="/keys/one,/keys/two",
        signing_key_path=Path("/keys/signing.pem"),
        tls_dir="/keys/tls",
    )
    keys = [Path("/keys", name) for name in ("one", "two", "signing.pem", "tls")]
    assert own_files(settings) == [tmp_path / "data", *keys]


async def test_who_names_a_place_is_not_given_what_lies_there(store: ObjectArtifactStore, source: Path) -> None:
    ann = Sender("vision", "ann", "vision")
    kept = await store.keep(ArtifactPlace(path=str(source)), sender=ann)
    assert await store.find(kept.digest) is not None
    # It is seen once a version is made of it, which the readers of artifacts must have passed.
    assert not await store.is_seen(kept.digest, ann.viewer)


async def test_a_registry_that_starts_takes_nothing_away_from_another_on_its_folder(
    form: Form, store: ObjectArtifactStore, source: Path
) -> None:
    await store.keep(ArtifactPlace(path=str(source)))
    # A part of an upload, and an artifact that is being replaced, each between its object and its row.
    coming = {"uploads/one/0.frames", f"sha256/{DIGEST[:2]}/{DIGEST}.{'1' * 16}.frames"}
    for name in coming:
        form.put(name, b"put, and not recorded yet")
    await build_store(form, bytes_max=4 * 1024 * 1024)
    there = {one.name for folder in ("sha256", "uploads") for one in form.open().listed(folder)}
    assert coming <= there
    await form.close()


async def test_a_bucket_is_asked_to_encrypt(s3: S3, tmp_path: Path) -> None:
    settings = RegistrySettings(
        database_url=SecretStr("postgresql+psycopg://x"),
        data_dir=tmp_path,
        artifacts_uri=f"s3://{s3.bucket}/sealed",
        artifact_encryption="server",
    )
    sealed = open_bucket("s3", s3.bucket, prefix="sealed", config=server_side(settings))
    form = Form("s3", tmp_path / "data", s3)
    form.bucket = sealed
    store = await build_store(form, bytes_max=10**7)
    await store.keep(ArtifactPlace(path=__file__))
    (key,) = s3.keys("sealed/sha256/")
    assert s3.client.head_object(Bucket=s3.bucket, Key=key)["ServerSideEncryption"] == "AES256"
    await form.close()
    kms = settings.model_copy(update={"artifact_kms_key_id": "key"})
    assert server_side(kms) == {"server_side_encryption": "aws:kms", "sse_kms_key_id": "key"}
    with pytest.raises(SystemExit, match="ARTIFACT_KEY_FILE"):
        server_side(settings.model_copy(update={"artifacts_uri": ""}))
