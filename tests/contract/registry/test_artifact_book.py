"""What every `ArtifactBook` promises: in memory, and in the real PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import text

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.grpc.identity import Identity, act_as
from services.registry.adapters.artifact_rows import PostgresArtifactBook
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres import PostgresCatalogue
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.domain.artifacts import MESH, Record, Sender
from services.registry.domain.changes import Wanted
from services.registry.ports import ArtifactBook
from tests.support.registry_fakes import content, new
from tests.support.registry_stores import MemoryArtifactBook

DIGEST = content("weights").artifact.digest
RECORD = Record(DIGEST, "file", "iris.onnx", 7, 5, "sha256/name.one")
ANN = Sender("vision", "ann", "vision")


@dataclass
class Kept:
    """A book, and how an artifact becomes a version's and ceases to be."""

    book: ArtifactBook
    register: Callable[[], Awaitable[None]]
    hide: Callable[[], Awaitable[None]]


@pytest.fixture
async def kept(url: str) -> AsyncIterator[Kept]:
    if not url:
        memory = MemoryArtifactBook(SystemClock())

        async def use() -> None:
            memory.used.add(DIGEST)

        yield Kept(memory, use, use)
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)

    async def register() -> None:
        await PostgresCatalogue(engine).register(new(text="weights"))

    async def hide() -> None:
        async with engine.begin() as connection:
            await connection.execute(
                text("""
                    WITH gone AS (DELETE FROM model_versions RETURNING *)
                    INSERT INTO removed_versions (id, removal, state, model_id, model_name, version, artifact_digest)
                    SELECT id, id, 'hidden', model_id, 'iris', version, artifact_digest FROM gone
                """)
            )

    yield Kept(PostgresArtifactBook(engine), register, hide)
    await engine.dispose()


async def test_an_artifact_is_recorded_once_and_becomes_everybodys_who_sent_it(kept: Kept) -> None:
    book = kept.book
    assert await book.find(DIGEST) is None
    assert await book.touch(DIGEST) is None
    names = [f"sha256/name.{number}" for number in range(4)]
    made = await asyncio.gather(*(book.record(replace(RECORD, name=name), sender=ANN) for name in names))
    assert len({one.name for one in made}) == 1
    found = await book.find(DIGEST)
    assert found == made[0]
    assert found is not None
    assert (found.kind, found.filename, found.size_bytes, found.stored_bytes) == ("file", "iris.onnx", 7, 5)
    assert await book.known([*names, "other"]) == {found.name}
    other = replace(RECORD, name="sha256/name.other", stored_bytes=6)
    assert (await book.record(other, sender=MESH, replaces="sha256/none")).name == found.name
    mended = await book.record(other, sender=MESH, replaces=found.name)
    assert (mended.name, mended.stored_bytes) == (other.name, 6)
    told = await book.touch(DIGEST, kind="tar.gz")
    assert told is not None
    assert told.kind == "tar.gz"
    assert await book.touch(DIGEST, kind="file") == told
    assert await book.is_seen(DIGEST, "vision")
    assert await book.is_seen(DIGEST, "vision iris")
    assert not await book.is_seen(DIGEST, "fraud")
    await book.own(DIGEST, "fraud")
    await book.own("0" * 64, "fraud")
    assert await book.is_seen(DIGEST, "fraud")
    assert not await book.is_seen("0" * 64, "fraud")


async def test_what_nobody_wants_is_forgotten_unless_a_version_is_made_of_it(kept: Kept) -> None:
    book = kept.book
    await book.record(RECORD, sender=MESH)
    now = SystemClock().now()
    soon, past = now + timedelta(seconds=2), now - timedelta(hours=1)
    assert [one.digest for one in await book.garbage(soon)] == [DIGEST]
    assert await book.garbage(past) == []
    assert await book.forget(DIGEST, before=past) is None
    gone = await book.forget(DIGEST, before=soon)
    assert gone is not None
    assert gone.name == RECORD.name
    assert await book.forget(DIGEST, before=soon) is None
    await book.record(RECORD, sender=ANN)
    await kept.register()
    for change in (kept.hide, None):
        assert await book.garbage(soon) == []
        assert await book.forget(DIGEST, before=soon) is None
        if change is not None:
            await change()


async def test_of_many_who_forget_and_want_at_once_the_record_is_of_one_mind(kept: Kept) -> None:
    book = kept.book
    for _ in range(5):
        await book.record(RECORD, sender=MESH)
        soon = SystemClock().now() + timedelta(seconds=2)
        gone = await asyncio.gather(*(book.forget(DIGEST, before=soon) for _ in range(3)))
        assert len([one for one in gone if one is not None]) == 1
        assert await book.find(DIGEST) is None


async def test_who_clears_artifacts_away_is_in_the_audit_log(database_url: str) -> None:
    await migrate(database_url, service=SCHEMA)
    engine = create_engine(database_url, schema=SCHEMA, pool_size=2)
    book, log = PostgresArtifactBook(engine), PostgresChangeLog(engine)
    act_as(Identity(user="olga", role="platform-admin", request_id="req_1"))
    await book.record(RECORD, sender=ANN)
    assert await book.forget(DIGEST, before=SystemClock().now() + timedelta(hours=1)) is not None
    made, gone = (await log.behind(Wanted(), after=0, limit=9))[0]
    assert (made.actor, made.team, made.request_id) == ("ann", "vision", "req_1")
    assert (gone.action, gone.actor, gone.request_id) == ("deleted", "olga", "req_1")
    await engine.dispose()
