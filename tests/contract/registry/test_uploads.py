"""What every `UploadBook` and every `UploadParts` promises."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.incoming import Encoding
from services.registry.adapters.upload_parts import ObjectUploadParts
from services.registry.adapters.upload_rows import PostgresUploadBook
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import NewUpload, Part, UploadLimits
from services.registry.ports_uploads import UploadBook, UploadParts
from tests.support.clock import NOON
from tests.support.registry_stores import BUCKETS, FORMS, Form, build_store
from tests.support.registry_uploads import MemoryUploadBook, MemoryUploadParts
from tests.support.s3 import S3, s3_server

ANN, BOB = Sender("vision", "ann"), Sender("fraud", "bob")
LIMITS = UploadLimits(uploads_max=2, bytes_max=100)
LATER = NOON + timedelta(hours=24)
NEW = NewUpload("iris.onnx", "", 60, "wish")


@pytest.fixture
async def book(url: str) -> AsyncIterator[UploadBook]:
    if not url:
        yield MemoryUploadBook()
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    yield PostgresUploadBook(engine)
    await engine.dispose()


def part(offset: int, size: int, name: str = "") -> Part:
    return Part(offset, size, name or f"uploads/{offset}")


async def test_an_upload_moves_on_from_where_it_is_and_from_nowhere_else(book: UploadBook) -> None:
    made = await book.create("one", NEW, owner=ANN, expires_at=NOON, limits=LIMITS)
    assert (made.team, made.actor, made.filename, made.size_bytes) == ("vision", "ann", "iris.onnx", 60)
    moved = await book.advance(made, part(0, 10), expires_at=LATER, limits=LIMITS)
    assert moved is not None
    assert (moved.offset_bytes, moved.expires_at) == (10, LATER)
    assert await book.advance(made, part(0, 10, "again"), expires_at=LATER, limits=LIMITS) is None
    assert await book.advance(made, part(20, 10), expires_at=LATER, limits=LIMITS) is None
    assert await book.find("one") == moved
    rivals = await asyncio.gather(
        *(book.advance(moved, part(10, 5, f"rival {number}"), expires_at=LATER, limits=LIMITS) for number in range(4))
    )
    winners = [one for one in rivals if one is not None]
    assert [one.offset_bytes for one in winners] == [15]
    assert [(one.offset_bytes, one.size_bytes) for one in await book.parts("one")] == [(0, 10), (10, 5)]
    assert await book.complete(moved, "a" * 64) is None
    gone = await book.complete(winners[0], "a" * 64)
    assert gone is not None
    assert len(gone) == 2
    assert await book.parts("one") == []
    done = await book.find("one")
    assert done == replace(winners[0], artifact_digest="a" * 64)
    assert await book.complete(winners[0], "b" * 64) is None, "what has come of it stays"
    assert await book.complete(winners[0], "a" * 64) == []
    assert await book.find("one") == done
    assert await book.advance(done, part(15, 5), expires_at=LATER, limits=LIMITS) is None


async def test_a_request_begins_one_upload_however_often_it_comes(book: UploadBook) -> None:
    made = await asyncio.gather(
        *(book.create(f"u{number}", NEW, owner=ANN, expires_at=NOON, limits=LIMITS) for number in range(4))
    )
    assert len({one.upload_id for one in made}) == 1
    with pytest.raises(MeshError) as caught:
        await book.create("other", replace(NEW, size_bytes=61), owner=ANN, expires_at=NOON, limits=LIMITS)
    assert caught.value.reason is Reason.REQUEST_ID_REUSED
    other = await book.create("bobs", NEW, owner=BOB, expires_at=NOON, limits=LIMITS)
    assert other.upload_id == "bobs"


async def test_a_team_has_so_many_and_so_much_under_way(book: UploadBook) -> None:
    free = replace(NEW, request_id="")
    first, second = [
        await book.create(name, free, owner=ANN, expires_at=NOON, limits=LIMITS) for name in ("one", "two")
    ]
    with pytest.raises(MeshError) as caught:
        await book.create("three", free, owner=ANN, expires_at=NOON, limits=LIMITS)
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    await book.create("three", free, owner=BOB, expires_at=NOON, limits=LIMITS)
    assert await book.advance(first, part(0, 60), expires_at=NOON, limits=LIMITS)
    with pytest.raises(MeshError) as caught:
        await book.advance(second, part(0, 41, "more"), expires_at=NOON, limits=LIMITS)
    assert caught.value.reason is Reason.QUOTA_EXCEEDED
    assert await book.advance(second, part(0, 40, "less"), expires_at=NOON, limits=LIMITS)
    assert sorted(await book.expired(NOON)) == ["one", "three", "two"]
    assert await book.expired(NOON - timedelta(seconds=1)) == []
    assert [one.name for one in await book.remove("two")] == ["less"]
    assert await book.remove("two") == []
    assert await book.find("two") is None
    await book.create("again", free, owner=ANN, expires_at=NOON, limits=LIMITS)


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with s3_server() as server:
        yield server


@pytest.fixture(params=["memory", *FORMS])
async def parts(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[UploadParts]:
    if request.param == "memory":
        yield MemoryUploadParts()
        return
    form = Form(request.param, tmp_path / "data", request.getfixturevalue("s3") if request.param in BUCKETS else None)
    store = await build_store(form, bytes_max=10**9)
    encoding = Encoding(compress=form.compresses, plain=form.local, keys=form.keys)
    yield ObjectUploadParts(form.open(), encoding=encoding, threads=store)
    await form.close()


async def test_parts_come_back_in_order_and_are_gone_once_they_are_removed(parts: UploadParts) -> None:
    contents = [b"a" * 100_000, bytes(range(256)) * 100, b"z"]
    made = [await parts.put("upload", 0, content) for content in contents]
    assert len({one.name for one in made}) == 3
    assert [one.size_bytes for one in made] == [len(content) for content in contents]
    assert [piece async for piece in parts.read(made)] == contents
    await parts.remove(made[:1])
    await parts.remove(made[:1])
    with pytest.raises(MeshError) as caught:
        [piece async for piece in parts.read(made)]
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
