"""What every `ArtifactStore` promises; and what files promise beyond."""

import asyncio
import fcntl
import gzip
import hashlib
import os
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.registry.adapters.artifact_files import FileArtifactStore
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.ports import ArtifactStore
from tests.support.registry_fakes import MemoryArtifactStore
from tests.support.waiting import eventually

CONTENT = b"weights" * 300_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
BYTES_MAX = 4 * 1024 * 1024


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "iris.onnx"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
async def files(tmp_path: Path) -> FileArtifactStore:
    store = FileArtifactStore(tmp_path / "data", bytes_max=BYTES_MAX, copies_max=2)
    await store.start()
    return store


@pytest.fixture(params=["memory", "files"])
def store(request: pytest.FixtureRequest, files: FileArtifactStore, source: Path) -> ArtifactStore:
    return files if request.param == "files" else MemoryArtifactStore(SystemClock(), {str(source): CONTENT})


async def refusal(store: ArtifactStore, place: ArtifactPlace, digest: str = "") -> MeshError:
    with pytest.raises(MeshError) as caught:
        await store.keep(place, digest=digest)
    return caught.value


def incoming(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "data" / "artifacts" / "incoming").iterdir())


def sizes(tmp_path: Path) -> list[int]:
    folder = tmp_path / "data" / "artifacts" / "incoming"
    return [path.stat().st_size for path in folder.glob("*") if path.stat().st_size]


def placed(store: FileArtifactStore) -> Path:
    return Path(store.path_of(DIGEST))


async def test_bytes_are_kept_under_their_digest(store: ArtifactStore, source: Path) -> None:
    assert await store.find(DIGEST) is None
    kept = await store.keep(ArtifactPlace(path=str(source)), digest=DIGEST)
    assert (kept.digest, kept.kind, kept.filename, kept.size_bytes) == (DIGEST, "file", "iris.onnx", len(CONTENT))
    assert await store.keep(ArtifactPlace(path=str(source))) == kept
    found = await store.find(DIGEST)
    assert found is not None
    assert (found.digest, found.kind, found.size_bytes) == (DIGEST, "file", len(CONTENT))
    assert DIGEST in store.path_of(DIGEST)
    again = await store.keep(ArtifactPlace(digest=DIGEST))
    assert (again.digest, again.filename, again.size_bytes) == (DIGEST, "", len(CONTENT))


async def test_what_is_not_there_or_not_what_was_promised_is_refused(store: ArtifactStore, source: Path) -> None:
    gone = await refusal(store, ArtifactPlace(path="/nowhere/iris.onnx"))
    assert gone.reason is Reason.ARTIFACT_NOT_FOUND
    assert "/nowhere/iris.onnx" in gone.message
    assert (await refusal(store, ArtifactPlace(digest="0" * 64))).reason is Reason.ARTIFACT_NOT_FOUND
    other = await refusal(store, ArtifactPlace(path=str(source)), digest="0" * 64)
    assert other.reason is Reason.ARTIFACT_CORRUPT
    assert DIGEST in other.message
    assert await store.find(DIGEST) is None


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def test_what_is_sent_in_pieces_is_kept_whole_and_given_out_again(store: ArtifactStore) -> None:
    kept = await store.receive(sent(CONTENT[:7], b"", CONTENT[7:]), filename="iris.onnx", digest=DIGEST)
    assert (kept.digest, kept.kind, kept.filename, kept.size_bytes) == (DIGEST, "file", "iris.onnx", len(CONTENT))
    pieces = [piece async for piece in store.read(DIGEST)]
    assert b"".join(pieces) == CONTENT
    assert max(map(len, pieces)) <= 1024 * 1024
    for offset in (1, 1024 * 1024, len(CONTENT) - 1, len(CONTENT), len(CONTENT) + 1):
        assert b"".join([piece async for piece in store.read(DIGEST, offset_bytes=offset)]) == CONTENT[offset:]
    with pytest.raises(MeshError) as caught:
        await store.receive(sent(b"other"), filename="", digest=DIGEST)
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    with pytest.raises(MeshError) as caught:
        await anext(store.read("0" * 64))
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


async def test_sending_or_naming_it_again_makes_it_wanted(
    files: FileArtifactStore, source: Path, tmp_path: Path
) -> None:
    await files.keep(ArtifactPlace(path=str(source)))
    past = SystemClock().now() - timedelta(hours=1)
    for place in (ArtifactPlace(path=str(source)), ArtifactPlace(digest=DIGEST)):
        os.utime(placed(files), (0, 0))
        for marker in (tmp_path / "data" / "artifacts" / "wanted").iterdir():
            os.utime(marker, (0, 0))
        assert len(await files.old(past)) == 1
        await files.keep(place)
        assert await files.old(past) == []
        found = await files.find(DIGEST)
        assert found is not None
        assert found.created_at.timestamp() == 0


async def test_the_copy_is_its_own_read_only_and_alone(files: FileArtifactStore, source: Path, tmp_path: Path) -> None:
    before = datetime.now(UTC)  # noqa: TID251 - compared with the file system's own clock
    await files.keep(ArtifactPlace(path=str(source)))
    await asyncio.to_thread(source.write_bytes, b"changed")
    path = placed(files)
    assert path.is_absolute()
    assert path.parts[-4:-1] == ("artifacts", "sha256", DIGEST[:2])
    assert path.read_bytes() == CONTENT
    assert path.stat().st_mode & 0o777 == 0o444
    assert incoming(tmp_path) == []
    found = await files.find(DIGEST)
    assert found is not None
    assert abs(found.created_at - before) < timedelta(minutes=1)


async def test_what_was_kept_before_is_not_written_again(files: FileArtifactStore, source: Path) -> None:
    await files.keep(ArtifactPlace(path=str(source)))
    inode = placed(files).stat().st_ino
    await asyncio.gather(*(files.keep(ArtifactPlace(path=str(source))) for _ in range(4)))
    assert placed(files).stat().st_ino == inode


async def test_a_damaged_copy_is_told_and_mended_by_sending_it_again(files: FileArtifactStore, source: Path) -> None:
    await files.keep(ArtifactPlace(path=str(source)))
    placed(files).chmod(0o644)
    placed(files).write_bytes(b"rotten")
    assert (await refusal(files, ArtifactPlace(digest=DIGEST))).reason is Reason.ARTIFACT_CORRUPT
    with pytest.raises(MeshError) as caught:
        [piece async for piece in files.read(DIGEST)]
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    await files.keep(ArtifactPlace(path=str(source)))
    assert placed(files).read_bytes() == CONTENT


async def test_packed_files_say_so(files: FileArtifactStore, tmp_path: Path) -> None:
    for name, kind in (("model.tar.gz", "tar.gz"), ("model.tgz", "tar.gz"), ("model.onnx", "file")):
        (tmp_path / name).write_bytes(gzip.compress(name.encode()))
        kept = await files.keep(ArtifactPlace(path=str(tmp_path / name)))
        assert (kept.kind, kept.filename) == (kind, name)


async def test_what_is_no_plain_file_cannot_hold_a_thread(files: FileArtifactStore, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, reason in (
        (tmp_path / "pipe", Reason.ARTIFACT_NOT_FOUND),
        (Path("/dev/zero"), Reason.ARTIFACT_NOT_FOUND),
        (tmp_path, Reason.NOT_IMPLEMENTED),
        (tmp_path / "iris.onnx" / "deeper", Reason.ARTIFACT_NOT_FOUND),
    ):
        async with asyncio.timeout(5):
            assert (await refusal(files, ArtifactPlace(path=str(path)))).reason is reason


async def test_too_many_bytes_are_refused_and_leave_nothing(files: FileArtifactStore, tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb") as stream:
        stream.truncate(BYTES_MAX + 1)
    error = await refusal(files, ArtifactPlace(path=str(tmp_path / "large")))
    assert error.reason is Reason.ARTIFACT_INVALID
    assert "ARTIFACT_BYTES_MAX" in error.message
    assert incoming(tmp_path) == []


async def test_a_caller_who_goes_away_leaves_nothing(tmp_path: Path) -> None:
    store = FileArtifactStore(tmp_path / "data", bytes_max=2**40, copies_max=1)
    await store.start()
    with (tmp_path / "huge").open("wb") as stream:
        # Sparse: larger than any disk here writes within the test.
        stream.truncate(2**36)
    copying = asyncio.ensure_future(store.keep(ArtifactPlace(path=str(tmp_path / "huge"))))
    await eventually(lambda: incoming(tmp_path))
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    await eventually(lambda: incoming(tmp_path) == [])


async def test_a_sender_who_goes_away_leaves_nothing(files: FileArtifactStore, tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield CONTENT
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await files.receive(broken(), filename="")
    assert incoming(tmp_path) == []


async def test_a_full_disk_says_so(source: Path, tmp_path: Path) -> None:
    store = FileArtifactStore(tmp_path / "data", bytes_max=BYTES_MAX, copies_max=1)
    await store.start()
    (tmp_path / "data" / "artifacts" / "incoming").rmdir()
    error = await refusal(store, ArtifactPlace(path=str(source)))
    assert error.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "data_dir" in error.message


async def test_a_start_clears_what_was_interrupted_and_not_what_is_being_written(tmp_path: Path) -> None:
    folder = tmp_path / "data" / "artifacts" / "incoming"
    folder.mkdir(parents=True)
    (folder / "left").write_bytes(b"half")
    with (folder / "held").open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        await FileArtifactStore(tmp_path / "data", bytes_max=1, copies_max=1).start()
        assert [path.name for path in folder.iterdir()] == ["held"]


_WRITER = """
import asyncio, sys
from pathlib import Path
from services.registry.adapters.artifact_files import FileArtifactStore
from services.registry.domain.artifact_uri import ArtifactPlace

async def main():
    store = FileArtifactStore(Path(sys.argv[1]), bytes_max=2**40, copies_max=1)
    await store.start()
    await store.keep(ArtifactPlace(path=sys.argv[2]))

asyncio.run(main())
"""


async def test_a_killed_writer_leaves_no_artifact_and_a_restart_clears_its_half(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as stream:
        stream.truncate(2**36)
    argv = [sys.executable, "-c", _WRITER, str(tmp_path / "data"), str(tmp_path / "huge")]
    writer = await asyncio.create_subprocess_exec(*argv)
    try:
        await eventually(lambda: sizes(tmp_path))
    finally:
        writer.kill()
        await writer.wait()
    assert len(incoming(tmp_path)) == 1
    assert not (tmp_path / "data" / "artifacts" / "sha256").exists()
    await FileArtifactStore(tmp_path / "data", bytes_max=1, copies_max=1).start()
    assert incoming(tmp_path) == []


async def test_copies_stay_off_the_event_loop(files: FileArtifactStore, source: Path) -> None:
    copying = asyncio.ensure_future(files.keep(ArtifactPlace(path=str(source))))
    turns = 0
    while not copying.done():
        await asyncio.sleep(0)
        turns += 1
    # The loop went on turning all the while; a copy on the loop itself would take one turn or two.
    assert turns > 10
