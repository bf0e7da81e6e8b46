"""Artifacts that are sent and cleared away: what the engine adds to the store."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.common.errors import MeshError, Reason
from services.registry.engines.keeping import GARBAGE_AGE, Keeping, Sent
from services.registry.engines.sending import SendingTurns
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryArtifactStore, MemoryCatalogue, content, new

NAMED = Sent("iris.onnx", "", 0)


async def sent(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> MemoryArtifactStore:
    return MemoryArtifactStore(clock, {})


@pytest.fixture
def catalogue(clock: FakeClock) -> MemoryCatalogue:
    return MemoryCatalogue(clock)


@pytest.fixture
def keeping(clock: FakeClock, store: MemoryArtifactStore, catalogue: MemoryCatalogue) -> Keeping:
    return Keeping(catalogue=catalogue, store=store, clock=clock, sending=SendingTurns(1))


async def test_one_sender_too_many_is_told_to_come_again(keeping: Keeping) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"first"
        begun.set()
        await go_on.wait()

    first = asyncio.ensure_future(keeping.receive(NAMED, slow()))
    await begun.wait()
    with pytest.raises(MeshError) as caught:
        await keeping.receive(NAMED, sent(b"second"))
    assert (caught.value.reason, caught.value.retry_after_s) == (Reason.QUOTA_EXCEEDED, 10.0)
    go_on.set()
    assert (await first).filename == "iris.onnx"
    assert (await keeping.receive(NAMED, sent(b"second"))).stored.size_bytes == len(b"second")


async def test_what_a_version_uses_and_what_is_new_is_never_cleared_away(
    keeping: Keeping, store: MemoryArtifactStore, catalogue: MemoryCatalogue, clock: FakeClock
) -> None:
    for text in (b"used", b"unused"):
        await keeping.receive(NAMED, sent(text))
    await catalogue.register(new(content=content("used")))
    clock.advance(GARBAGE_AGE.total_seconds())
    assert (await keeping.collect_garbage(dry_run=False)).artifact_count == 0
    clock.advance(timedelta(seconds=1).total_seconds())
    assert (await keeping.collect_garbage(dry_run=True)).artifact_count == 1
    assert len(store.kept) == 2
    cleared = await keeping.collect_garbage(dry_run=False)
    assert (len(cleared.digests), cleared.artifact_count, cleared.freed_bytes) == (1, 1, len(b"unused"))
    assert list(store.kept) == [content("used").artifact.digest]


@pytest.mark.parametrize(("digest", "offset"), [("short", 0), ("0" * 64, -1), ("0" * 64, 0.5), ("0" * 64, 1e300)])
async def test_a_download_names_an_artifact_and_a_whole_offset(keeping: Keeping, digest: str, offset: float) -> None:
    with pytest.raises(MeshError) as caught:
        await anext(keeping.read(digest, offset))
    assert caught.value.reason is Reason.INVALID_FIELD
