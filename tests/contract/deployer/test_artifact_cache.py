"""Artifacts fetched into a folder: whole and right, or not there; gone on with after a break; within their bound."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.deployer.adapters.artifact_cache import ArtifactCache

CONTENTS = [bytes([number]) * 1000 for number in range(5)]
DIGESTS = [hashlib.sha256(content).hexdigest() for content in CONTENTS]


class Source:
    """An `ArtifactSource` that may break off, lie or be away."""

    def __init__(self) -> None:
        self.contents = dict(zip(DIGESTS, CONTENTS, strict=True))
        self.asked: list[tuple[str, int]] = []
        self.breaks_after = 10_000
        self.away = False

    async def size(self, digest: str) -> int:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry does not answer")
        if digest not in self.contents:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"no artifact {digest} is kept")
        return len(self.contents[digest])

    async def pieces(self, digest: str, *, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        self.asked.append((digest, offset_bytes))
        content = self.contents[digest][offset_bytes:]
        for begin in range(0, min(len(content), self.breaks_after), 100):
            yield content[begin : min(begin + 100, self.breaks_after)]
        if len(content) > self.breaks_after:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry went away")


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def pinned() -> set[str]:
    return set()


@pytest.fixture
async def cache(tmp_path: Path, source: Source, pinned: set[str]) -> ArtifactCache:
    made = ArtifactCache(tmp_path / "cache", source=source, bytes_max=3000, pinned=lambda: pinned)
    await made.start()
    return made


def names(cache: ArtifactCache, tmp_path: Path) -> set[str]:
    return {path.name for path in (tmp_path / "cache").iterdir()}


async def test_it_is_fetched_once_and_stays_while_the_registry_is_away(cache: ArtifactCache, source: Source) -> None:
    paths = await asyncio.gather(*(cache.path(DIGESTS[0]) for _ in range(5)))
    assert len(set(paths)) == 1
    assert paths[0].read_bytes() == CONTENTS[0]
    source.away = True
    assert await cache.path(DIGESTS[0]) == paths[0]
    assert source.asked == [(DIGESTS[0], 0)]
    with pytest.raises(MeshError) as caught:
        await cache.path(DIGESTS[1])
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE


async def test_what_the_disk_refuses_is_said_and_goes_on_once_it_is_mended(
    cache: ArtifactCache, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "cache" / f"{DIGESTS[0]}.part"
    in_the_way.mkdir()
    with pytest.raises(MeshError, match="data_dir") as caught:
        await cache.path(DIGESTS[0])
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    in_the_way.rmdir()
    assert (await cache.path(DIGESTS[0])).read_bytes() == CONTENTS[0]


async def test_two_never_fetch_one_artifact_at_once_also_after_a_break(cache: ArtifactCache, source: Source) -> None:
    source.breaks_after = 300
    first, second = (asyncio.ensure_future(cache.path(DIGESTS[0])) for _ in range(2))
    with pytest.raises(MeshError):
        await first
    source.breaks_after = 10_000
    third = asyncio.ensure_future(cache.path(DIGESTS[0]))
    assert (await second).read_bytes() == CONTENTS[0]
    assert await third == await second
    assert source.asked == [(DIGESTS[0], 0), (DIGESTS[0], 300)]


async def test_it_goes_on_where_it_broke_off_also_in_another_process(
    cache: ArtifactCache, source: Source, tmp_path: Path
) -> None:
    source.breaks_after = 300
    for _ in range(2):
        with pytest.raises(MeshError):
            await cache.path(DIGESTS[0])
    assert names(cache, tmp_path) == {f"{DIGESTS[0]}.part"}
    source.breaks_after = 10_000
    again = ArtifactCache(tmp_path / "cache", source=source, bytes_max=3000, pinned=set)
    assert (await again.path(DIGESTS[0])).read_bytes() == CONTENTS[0]
    assert [offset for _, offset in source.asked] == [0, 300, 600]


async def test_what_is_not_what_its_digest_says_is_not_there(
    cache: ArtifactCache, source: Source, tmp_path: Path
) -> None:
    source.contents[DIGESTS[0]] = CONTENTS[1]
    with pytest.raises(MeshError) as caught:
        await cache.path(DIGESTS[0])
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert names(cache, tmp_path) == set()
    with pytest.raises(MeshError) as caught:
        await cache.path("0" * 64)
    assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND


async def test_the_least_recently_used_makes_room_and_what_is_deployed_stays(
    cache: ArtifactCache, pinned: set[str], tmp_path: Path
) -> None:
    for digest in DIGESTS[:3]:
        await cache.path(digest)
    await cache.path(DIGESTS[0])
    await cache.path(DIGESTS[3])
    assert names(cache, tmp_path) == {DIGESTS[0], DIGESTS[2], DIGESTS[3]}
    pinned.update(DIGESTS[:3])
    await cache.path(DIGESTS[4])
    assert names(cache, tmp_path) == {DIGESTS[0], DIGESTS[2], DIGESTS[4]}
    pinned.add(DIGESTS[4])
    with pytest.raises(MeshError) as caught:
        await cache.path(DIGESTS[1])
    assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    assert "ARTIFACT_CACHE_BYTES_MAX" in caught.value.message
    assert names(cache, tmp_path) == {DIGESTS[0], DIGESTS[2], DIGESTS[4]}
