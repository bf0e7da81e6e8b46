"""Clearing away beside registrations, step by step in any order: what a version is made of is never gone."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator, Awaitable, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from services.registry.adapters.artifact_store import ObjectArtifactStore
from services.registry.domain.artifacts import Record, Sender
from services.registry.engines.keeping import GARBAGE_AGE, Keeping
from services.registry.engines.sending import SendingTurns
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryCatalogue
from tests.support.registry_stores import Form, MemoryArtifactBook, build_store

CONTENTS = [b"one", b"two" * 1000]
DIGESTS = [hashlib.sha256(content).hexdigest() for content in CONTENTS]


class Turns:
    """Lets whoever waits at a step go on, one at a time, in the order that the example draws."""

    def __init__(self, order: Sequence[int]) -> None:
        self._order = list(order)
        self._waiting: list[asyncio.Future[None]] = []

    async def step(self) -> None:
        """Waits for a turn."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        await turn

    async def drive(self, work: Sequence["asyncio.Future[object]"]) -> None:
        """Gives turns until all work is done."""
        while not all(task.done() for task in work):
            # Threads do a part of the steps: whoever is not waiting for a turn is let finish first.
            while len(self._waiting) < sum(not task.done() for task in work):  # noqa: ASYNC110 - nobody tells of a thread
                await asyncio.sleep(0.0005)
            if self._waiting:
                choice = self._order.pop(0) if self._order else 0
                self._waiting.pop(choice % len(self._waiting)).set_result(None)
                await asyncio.sleep(0)


class SteppedBook(MemoryArtifactBook):
    """A book whose every call is a step of its own, as a transaction is."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.turns = Turns(())

    async def touch(self, digest: str, *, kind: str = "") -> Record | None:
        await self.turns.step()
        return await super().touch(digest, kind=kind)

    async def record(self, new: Record, *, sender: Sender, replaces: str = "") -> Record:
        await self.turns.step()
        return await super().record(new, sender=sender, replaces=replaces)

    async def forget(self, digest: str, *, before: datetime) -> Record | None:
        await self.turns.step()
        gone = await super().forget(digest, before=before)
        # Between the end of the record and the removal of the object others may come.
        await self.turns.step()
        return gone


async def sent(content: bytes) -> AsyncIterator[bytes]:
    yield content


async def race(folder: Path, kind: str, choices: Sequence[int], order: Sequence[int]) -> None:
    clock = FakeClock()
    book = SteppedBook(clock)
    form = Form(kind, folder / "data", book=book)
    store = await build_store(form, bytes_max=10**6, copies_max=4)
    keeping = Keeping(catalogue=MemoryCatalogue(clock), store=store, clock=clock, sending=SendingTurns(9))
    await run(book, (), [store.receive(sent(content), filename="") for content in CONTENTS])
    clock.advance(GARBAGE_AGE.total_seconds() + 1)

    async def register(which: int) -> None:
        await store.receive(sent(CONTENTS[which]), filename="")
        await book.turns.step()
        book.used.add(DIGESTS[which])

    work: list[Awaitable[object]] = [register(which) for which in choices]
    work += [keeping.collect_garbage(dry_run=False), keeping.collect_garbage(dry_run=False)]
    await run(book, order, work)
    for digest, content in zip(DIGESTS, CONTENTS, strict=True):
        if digest in book.used:
            assert await read(store, book, digest) == content
    names = {record.name for record in book.records.values()}
    assert names <= set(form.objects())
    clock.advance(timedelta(days=2).total_seconds())
    book.used.clear()
    await run(book, (), [keeping.collect_garbage(dry_run=False)])
    assert book.records == {}
    await form.close()


async def run(book: SteppedBook, order: Sequence[int], work: Sequence[Awaitable[object]]) -> None:
    book.turns = Turns(order)
    tasks = [asyncio.ensure_future(one) for one in work]
    await book.turns.drive(tasks)
    for task in tasks:
        task.result()


async def read(store: ObjectArtifactStore, book: SteppedBook, digest: str) -> bytes:
    pieces: list[bytes] = []

    async def fetch() -> None:
        pieces.extend([piece async for piece in store.read(digest)])

    await run(book, (), [fetch()])
    return b"".join(pieces)


@settings(max_examples=60)
@given(
    st.sampled_from(["plain", "folder"]),
    st.lists(st.integers(0, 1), min_size=1, max_size=3),
    st.lists(st.integers(0, 5), max_size=40),
)
def test_what_is_registered_while_garbage_is_collected_stays(kind: str, choices: list[int], order: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(race(Path(folder), kind, choices, order))
