"""What every `ArtifactStore` promises, whatever it lies on: memory, a folder, an encrypted folder, S3, GCS."""

import asyncio
import gzip
import hashlib
import io
import random
import tarfile
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.domain.artifact_uri import ArtifactPlace, parse_artifact_uri
from services.registry.domain.artifacts import Sender
from services.registry.ports import ArtifactStore
from tests.support.registry_fakes import MemoryArtifactStore
from tests.support.registry_stores import BUCKETS, FORMS, Form, build_store
from tests.support.s3 import S3, s3_server

CONTENT = b"weights" * 1_000_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
NOISE = random.Random(1).randbytes(5_000_000)
"""What does not compress."""
NOISE_DIGEST = hashlib.sha256(NOISE).hexdigest()
BYTES_MAX = 16 * 1024 * 1024
ANN, BOB = Sender("vision", "ann", "vision"), Sender("fraud", "bob", "fraud")


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "iris.onnx"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=FORMS)
async def form(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Form]:
    server: S3 | None = request.getfixturevalue("s3") if request.param in BUCKETS else None
    form = Form(request.param, tmp_path / "data", server)
    yield form
    await form.close()


@pytest.fixture
async def kept(form: Form) -> ObjectArtifactStore:
    return await build_store(form, bytes_max=BYTES_MAX)


@pytest.fixture(params=["memory", *FORMS])
async def store(request: pytest.FixtureRequest, tmp_path: Path, source: Path) -> AsyncIterator[ArtifactStore]:
    if request.param == "memory":
        yield MemoryArtifactStore(SystemClock(), {str(source): CONTENT})
        return
    form = Form(request.param, tmp_path / "data", request.getfixturevalue("s3") if request.param in BUCKETS else None)
    yield await build_store(form, bytes_max=BYTES_MAX)
    await form.close()


async def refusal(store: ArtifactStore, place: ArtifactPlace, digest: str = "") -> MeshError:
    with pytest.raises(MeshError) as caught:
        await store.keep(place, digest=digest)
    return caught.value


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def fetched(store: ArtifactStore, digest: str, offset_bytes: int = 0) -> bytes:
    pieces = [piece async for piece in store.read(digest, offset_bytes=offset_bytes)]
    assert all(0 < len(piece) <= 1024 * 1024 for piece in pieces)
    return b"".join(pieces)


async def test_bytes_are_kept_under_their_digest(store: ArtifactStore, source: Path) -> None:
    assert await store.find(DIGEST) is None
    kept = await store.keep(ArtifactPlace(path=str(source)), digest=DIGEST)
    assert (kept.digest, kept.kind, kept.filename, kept.size_bytes) == (DIGEST, "file", "iris.onnx", len(CONTENT))
    assert await store.keep(ArtifactPlace(path=str(source))) == kept
    found = await store.find(DIGEST)
    assert found is not None
    assert (found.digest, found.kind, found.size_bytes) == (DIGEST, "file", len(CONTENT))
    assert DIGEST in store.uri_of(DIGEST)
    again = await store.keep(ArtifactPlace(digest=DIGEST))
    assert (again.digest, again.size_bytes) == (DIGEST, len(CONTENT))


async def test_what_is_not_there_or_not_what_was_promised_is_refused(store: ArtifactStore, source: Path) -> None:
    gone = await refusal(store, ArtifactPlace(path="/nowhere/iris.onnx"))
    assert gone.reason is Reason.ARTIFACT_NOT_FOUND
    assert "/nowhere/iris.onnx" in gone.message
    assert (await refusal(store, ArtifactPlace(digest="0" * 64))).reason is Reason.ARTIFACT_NOT_FOUND
    other = await refusal(store, ArtifactPlace(path=str(source)), digest="0" * 64)
    assert other.reason is Reason.ARTIFACT_CORRUPT
    assert DIGEST in other.message
    assert await store.find(DIGEST) is None


@pytest.mark.parametrize("content", [CONTENT, NOISE, b"x"], ids=["packs", "does not", "tiny"])
async def test_what_is_sent_in_pieces_is_kept_whole_and_given_out_again(store: ArtifactStore, content: bytes) -> None:
    digest = hashlib.sha256(content).hexdigest()
    kept = await store.receive(sent(content[:7], b"", content[7:]), filename="iris.onnx", digest=digest)
    assert (kept.digest, kept.kind, kept.filename, kept.size_bytes) == (digest, "file", "iris.onnx", len(content))
    assert await fetched(store, digest) == content
    for offset in (1, 1024 * 1024, 4 * 1024 * 1024 + 1, len(content) - 1, len(content), len(content) + 1):
        assert await fetched(store, digest, offset) == content[offset:]
    with await store.open(digest) as stream:
        assert await asyncio.to_thread(stream.read) == content
        for offset, size in ((0, 1), (4 * 1024 * 1024 - 1, 3), (len(content) - 1, 5)):
            stream.seek(offset)
            assert await asyncio.to_thread(stream.read, size) == content[offset : offset + size]
        assert stream.seek(0, 2) == len(content)
    with pytest.raises(MeshError) as caught:
        await store.receive(sent(b"other"), filename="", digest=digest)
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    for look in (anext(store.read("0" * 64)), store.open("0" * 64)):
        with pytest.raises(MeshError) as caught:
            await look
        assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND


async def test_only_what_nobody_wanted_since_is_taken_away(store: ArtifactStore, source: Path) -> None:
    await store.keep(ArtifactPlace(path=str(source)))
    before = SystemClock().now() + timedelta(seconds=1)
    assert [one.digest for one in await store.old(before)] == [DIGEST]
    past = before - timedelta(hours=1)
    assert await store.old(past) == []
    assert not await store.remove(DIGEST, before=past)
    assert await store.find(DIGEST) is not None
    assert await store.remove(DIGEST, before=before)
    assert not await store.remove(DIGEST, before=before)
    assert await store.find(DIGEST) is None
    assert await store.old(before) == []


async def test_who_sent_it_sees_it_and_others_do_not(store: ArtifactStore) -> None:
    for _ in range(2):
        await store.receive(sent(CONTENT), filename="iris.onnx", sender=ANN)
    assert await store.is_seen(DIGEST, ANN.viewer)
    assert await store.is_seen(DIGEST, "")
    assert not await store.is_seen(DIGEST, BOB.viewer)
    assert not await store.is_seen(DIGEST, "-")
    with pytest.raises(MeshError) as caught:
        await store.keep(ArtifactPlace(digest=DIGEST), sender=BOB)
    assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND
    assert caught.value.message == (await refusal(store, ArtifactPlace(digest="0" * 64))).message.replace(
        "0" * 64, DIGEST
    )
    await store.receive(sent(CONTENT), filename="mine.onnx", sender=BOB)
    assert (await store.keep(ArtifactPlace(digest=DIGEST), sender=BOB)).digest == DIGEST


async def test_an_artifact_is_kept_once_however_often_it_is_sent_at_once(form: Form, kept: ObjectArtifactStore) -> None:
    for content, digest in ((CONTENT, DIGEST), (NOISE, NOISE_DIGEST)):
        await asyncio.gather(*(kept.receive(sent(content), filename="") for _ in range(6)))
        assert len([name for name in form.objects() if digest in name]) == 1
        assert await fetched(kept, digest) == content
    assert form.incoming() == []


async def test_what_pays_is_compressed_and_what_must_be_is_encrypted(form: Form, kept: ObjectArtifactStore) -> None:
    for content in (CONTENT, NOISE):
        await kept.receive(sent(content), filename="")
    packed, noise = await kept.find(DIGEST), await kept.find(NOISE_DIGEST)
    assert packed is not None
    assert noise is not None
    if form.compresses:
        assert packed.stored_bytes < packed.size_bytes / 100
    assert noise.size_bytes <= noise.stored_bytes <= noise.size_bytes + 1024
    assert sum(form.objects().values()) == packed.stored_bytes + noise.stored_bytes
    everything = b"".join(form.content(name) for name in form.objects())
    assert (NOISE[:64] in everything) is not form.encrypts
    if not form.compresses:
        assert (CONTENT[:64] in everything) is not form.encrypts
    # Only what lies as it was sent is a file that others may load.
    path = kept.path_of(NOISE_DIGEST)
    assert bool(path) == (form.local and not form.encrypts)
    assert not path or await asyncio.to_thread(Path(path).read_bytes) == NOISE


async def test_a_damaged_copy_is_told_and_mended_by_sending_it_again(form: Form, kept: ObjectArtifactStore) -> None:
    if not form.local:
        pytest.skip("a bucket checks what it keeps itself")
    for content, digest in ((CONTENT, DIGEST), (NOISE, NOISE_DIGEST)):
        await kept.receive(sent(content), filename="")
        (name,) = (name for name in form.objects() if digest in name)
        form.damage(name, 1000)
        assert (await refusal(kept, ArtifactPlace(digest=digest))).reason is Reason.ARTIFACT_CORRUPT
        with pytest.raises(MeshError) as caught:
            await fetched(kept, digest)
        assert caught.value.reason is Reason.ARTIFACT_CORRUPT
        await kept.receive(sent(content), filename="")
        assert await fetched(kept, digest) == content
        form.remove(next(name for name in form.objects() if digest in name))
        assert (await refusal(kept, ArtifactPlace(digest=digest))).reason is Reason.ARTIFACT_CORRUPT
        await kept.receive(sent(content), filename="")
        assert await fetched(kept, digest) == content


FILES = {"saved_model.pb": b"graph", "variables/variables.index": b"index", "variables/data": CONTENT[:3000]}


def folder_in(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for name, content in reversed(FILES.items()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("scheme", BUCKETS)
async def test_a_folder_has_the_same_digest_whichever_way_it_came(
    kept: ObjectArtifactStore, s3: S3, tmp_path: Path, scheme: str
) -> None:
    folder = folder_in(tmp_path)
    for name, content in FILES.items():
        s3.put(f"in/model/{name}", content)
    s3.put("in/model-other/x", b"another folder that begins alike")
    local = await kept.keep(parse_artifact_uri(folder.as_uri() + "/"))
    remote = await kept.keep(parse_artifact_uri(f"{scheme}://{s3.bucket}/in/model"))
    assert (local.digest, local.kind, local.filename) == (remote.digest, "directory", "model")
    with await kept.open(local.digest) as stream, tarfile.open(fileobj=stream) as archive:
        seen = {one.name: archive.extractfile(one).read() for one in archive}  # type: ignore[union-attr]
    assert seen == FILES
    (again,) = [one async for one in kept.read(local.digest)]
    assert (await kept.receive(sent(again), filename="model.tar")).kind == "directory"


@pytest.mark.parametrize("scheme", BUCKETS)
async def test_an_object_of_a_bucket_is_taken_as_a_file_is(kept: ObjectArtifactStore, s3: S3, scheme: str) -> None:
    uri = s3.put("in/iris 1%.onnx", CONTENT).replace("s3://", f"{scheme}://")
    taken = await kept.keep(parse_artifact_uri(uri), digest=DIGEST)
    assert (taken.digest, taken.kind, taken.filename) == (DIGEST, "file", "iris 1%.onnx")
    for missing in (f"{scheme}://{s3.bucket}/nothing", f"{scheme}://no-such-bucket/x"):
        error = await refusal(kept, parse_artifact_uri(missing))
        assert error.reason is Reason.ARTIFACT_NOT_FOUND
        assert missing in error.message
        assert "127.0.0.1" not in error.message


async def test_a_folder_that_holds_more_than_files_is_refused(kept: ObjectArtifactStore, tmp_path: Path) -> None:
    folder = folder_in(tmp_path)
    (folder / "link").symlink_to("/etc/passwd")
    error = await refusal(kept, ArtifactPlace(path=str(folder)))
    assert error.reason is Reason.ARTIFACT_INVALID
    assert "'link' is a link" in error.message
    (folder / "link").unlink()
    (folder / "Saved_Model.pb").write_bytes(b"")
    assert "case alone" in (await refusal(kept, ArtifactPlace(path=str(folder)))).message
    (tmp_path / "empty").mkdir()
    assert "holds no file" in (await refusal(kept, ArtifactPlace(path=str(tmp_path / "empty")))).message


async def test_an_archive_is_kept_as_it_was_sent_if_it_may_be_unpacked(
    form: Form, kept: ObjectArtifactStore, tmp_path: Path
) -> None:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.add(folder_in(tmp_path), "model")
    good = made.getvalue()
    taken = await kept.receive(sent(good), filename="model.tar.gz")
    assert (taken.kind, taken.digest) == ("tar.gz", hashlib.sha256(good).hexdigest())
    assert (await kept.keep(ArtifactPlace(digest=taken.digest))).kind == "tar.gz"
    assert await fetched(kept, taken.digest) == good
    before = form.objects()
    info = tarfile.TarInfo("../../escape")
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        archive.addfile(info)
    for bad, words in ((made.getvalue(), "'../../escape' leads out"), (gzip.compress(b"no tar"), "no tar archive")):
        with pytest.raises(MeshError) as caught:
            await kept.receive(sent(bad), filename="model.tar.gz")
        assert caught.value.reason is Reason.ARTIFACT_INVALID
        assert words in caught.value.message
    assert form.objects() == before
    assert form.incoming() == []


async def test_the_stores_own_files_are_no_place_to_register_from(
    form: Form, kept: ObjectArtifactStore, s3: S3, tmp_path: Path
) -> None:
    await kept.receive(sent(NOISE), filename="", sender=ANN)
    (name,) = form.objects()
    error = await refusal(kept, parse_artifact_uri(form.uri(name)))
    assert error.reason is Reason.PERMISSION_DENIED
    if form.local:
        (tmp_path / "link").symlink_to(tmp_path / "data")
        sneaky = ArtifactPlace(path=f"{tmp_path}/link/artifacts/{name}")
        assert (await refusal(kept, sneaky)).reason is Reason.PERMISSION_DENIED


async def test_too_many_bytes_are_refused_and_leave_nothing(
    form: Form, kept: ObjectArtifactStore, tmp_path: Path
) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(BYTES_MAX + 1)
    error = await refusal(kept, ArtifactPlace(path=str(tmp_path / "large")))
    assert error.reason is Reason.ARTIFACT_INVALID
    assert "ARTIFACT_BYTES_MAX" in error.message
    assert form.objects() == {}
    assert form.incoming() == []


async def test_what_nothing_points_to_is_swept_away_once_it_is_old(form: Form, kept: ObjectArtifactStore) -> None:
    await kept.receive(sent(CONTENT), filename="iris.onnx")
    (name,) = form.objects()
    left = f"sha256/{DIGEST[:2]}/{DIGEST}.{'0' * 16}.frames"
    form.put(left, b"half of something")
    now = SystemClock().now()
    assert await kept.sweep(now - timedelta(hours=1)) == 0
    assert len(form.objects()) == 2
    assert await kept.sweep(now + timedelta(seconds=2)) == len(b"half of something")
    assert list(form.objects()) == [name]


async def test_a_database_that_is_older_than_the_store_learns_of_what_is_there(
    form: Form, kept: ObjectArtifactStore
) -> None:
    for content in (CONTENT, NOISE):
        await kept.receive(sent(content), filename="")
    form.forget()
    later = await build_store(form, bytes_max=BYTES_MAX)
    assert await later.sweep(SystemClock().now() + timedelta(seconds=2)) == 0
    for content, digest in ((CONTENT, DIGEST), (NOISE, NOISE_DIGEST)):
        found = await later.find(digest)
        assert found is not None
        assert found.size_bytes == len(content)
        assert await fetched(later, digest) == content
