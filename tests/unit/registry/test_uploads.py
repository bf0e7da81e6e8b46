"""Uploads that go on after a break: what the engine decides."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest

from services.common.errors import MeshError, Reason
from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import EXPIRY, PART_BYTES, NewUpload, Part, UploadLimits
from services.registry.engines.sending import SendingTurns
from services.registry.engines.uploads import Uploading
from tests.support.clock import FakeClock
from tests.support.registry_fakes import MemoryArtifactStore, MemoryCatalogue
from tests.support.registry_uploads import MemoryUploadBook, MemoryUploadParts

CONTENT = b"weights" * 1_500_000
PIECES = [CONTENT[begin : begin + 4_000_000] for begin in range(0, len(CONTENT), 4_000_000)]
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ANN, BOB, OPERATOR = Sender("vision", "ann", "vision"), Sender("fraud", "bob", "fraud"), Sender("", "ops", "")
COLLEAGUE = Sender("vision", "eve", "vision")


class Site:
    """The engine and what it stands on."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.book = MemoryUploadBook()
        self.parts = MemoryUploadParts()
        self.sending = SendingTurns(2)
        self.store = MemoryArtifactStore(self.clock, {})
        self.uploading = Uploading(
            book=self.book,
            parts=self.parts,
            store=self.store,
            catalogue=MemoryCatalogue(self.clock),
            clock=self.clock,
            limits=UploadLimits(uploads_max=3, bytes_max=2**30),
            artifact_bytes_max=12 * 1024 * 1024,
            sending=self.sending,
        )

    async def begin(self, owner: Sender = ANN, **stated: object) -> str:
        return (await self.uploading.create(NewUpload(**stated), owner)).upload_id  # type: ignore[arg-type]


@pytest.fixture
def site() -> Site:
    return Site()


async def sent(pieces: Sequence[bytes], error: Exception | None = None) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
    if error is not None:
        raise error


async def test_what_came_before_a_break_need_not_be_sent_again(site: Site) -> None:
    upload_id = await site.begin(filename="iris.onnx", digest=DIGEST, size_bytes=len(CONTENT))
    begun = sent([CONTENT[:3_000_000], CONTENT[3_000_000:5_000_000]], ConnectionError())
    with pytest.raises(ConnectionError):
        await site.uploading.append(upload_id, 0, begun, ANN)
    arrived = (await site.uploading.get(upload_id, ANN)).offset_bytes
    assert arrived == 5_000_000
    rest = [CONTENT[begin : begin + 1_000_000] for begin in range(arrived, len(CONTENT), 1_000_000)]
    upload = await site.uploading.append(upload_id, arrived, sent(rest), ANN)
    assert upload.offset_bytes == len(CONTENT)
    assert all(len(part) <= PART_BYTES for part in site.parts.objects.values())
    view = await site.uploading.complete(upload_id, "", ANN)
    assert (view.stored.digest, view.filename) == (DIGEST, "iris.onnx")
    assert site.parts.objects == {}
    assert await site.uploading.complete(upload_id, DIGEST, ANN) == view
    assert await site.store.is_seen(DIGEST, ANN.viewer)
    with pytest.raises(MeshError) as caught:
        await site.uploading.append(upload_id, len(CONTENT), sent([b"x"]), ANN)
    assert caught.value.reason is Reason.INVALID_FIELD


@pytest.mark.parametrize("moment", range(4))
async def test_an_upload_that_is_completed_twice_at_once_is_one_artifact(site: Site, moment: int) -> None:
    upload_id = await site.begin()
    await site.uploading.append(upload_id, 0, sent(PIECES), ANN)
    seen, whole = 0, site.parts.read

    async def read(parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """The other call is through by the time that this one has read so many parts."""
        nonlocal seen
        number, seen = seen, seen + 1
        place = 0
        async for piece in whole(parts):
            if number == 0 and place == moment:
                await site.uploading.complete(upload_id, "", ANN)
            place += 1
            yield piece
        if number == 0 and place <= moment:
            await site.uploading.complete(upload_id, "", ANN)

    site.parts.read = read  # type: ignore[method-assign]
    view = await site.uploading.complete(upload_id, "", ANN)
    assert view.stored.digest == DIGEST
    assert seen == 2
    assert (await site.uploading.get(upload_id, ANN)).artifact_digest == DIGEST


async def test_an_upload_that_was_completed_before_its_parts_were_looked_up_is_no_empty_artifact(site: Site) -> None:
    asked = await site.begin()
    await site.uploading.append(asked, 0, sent(PIECES), ANN)
    find, first = site.book.parts, True

    async def parts(upload_id: str) -> Sequence[Part]:
        nonlocal first
        if first:
            first = False
            await site.uploading.complete(asked, "", ANN)
        return await find(upload_id)

    site.book.parts = parts  # type: ignore[method-assign]
    assert (await site.uploading.complete(asked, "", ANN)).stored.digest == DIGEST
    assert (await site.uploading.get(asked, ANN)).artifact_digest == DIGEST


async def test_completing_takes_a_turn_of_those_who_send(site: Site) -> None:
    upload_id = await site.begin()
    await site.uploading.append(upload_id, 0, sent([b"x"]), ANN)
    with site.sending.taken(), site.sending.taken():
        with pytest.raises(MeshError) as caught:
            await site.uploading.complete(upload_id, "", ANN)
        assert caught.value.reason is Reason.QUOTA_EXCEEDED
    await site.uploading.complete(upload_id, "", ANN)


async def test_the_wrong_offset_is_answered_with_the_right_one(site: Site) -> None:
    upload_id = await site.begin()
    await site.uploading.append(upload_id, 0, sent([b"12345"]), ANN)
    for offset in (0, 4, 6, 0.5, -1):
        with pytest.raises(MeshError) as caught:
            await site.uploading.append(upload_id, offset, sent([b"x"]), ANN)
        assert caught.value.reason is Reason.INVALID_FIELD
        assert caught.value.metadata["offset_bytes"] == "5"
    assert (await site.uploading.append(upload_id, 5, sent([]), ANN)).offset_bytes == 5


async def test_of_two_writers_at_one_place_one_wins(site: Site) -> None:
    upload_id = await site.begin()
    both, go_on = asyncio.Barrier(2), asyncio.Event()

    async def slow(content: bytes) -> AsyncIterator[bytes]:
        yield content
        await both.wait()
        go_on.set()

    outcomes = await asyncio.gather(
        *(site.uploading.append(upload_id, 0, slow(content), ANN) for content in (b"first", b"second")),
        return_exceptions=True,
    )
    refused = [one for one in outcomes if isinstance(one, MeshError)]
    assert [one.metadata["offset_bytes"] for one in refused] in (["5"], ["6"])
    assert len(site.parts.objects) == 1
    assert (await site.uploading.get(upload_id, ANN)).offset_bytes == int(refused[0].metadata["offset_bytes"])


async def test_an_upload_is_its_owners_alone(site: Site) -> None:
    upload_id = await site.begin()
    unknown = None
    for asked, sender in (("nothing", ANN), (upload_id, BOB), (upload_id, COLLEAGUE)):
        for call in (
            site.uploading.get(asked, sender),
            site.uploading.append(asked, 0, sent([b"x"]), sender),
            site.uploading.complete(asked, "", sender),
            site.uploading.delete(asked, sender),
        ):
            with pytest.raises(MeshError) as caught:
                await call
            assert caught.value.reason is Reason.UPLOAD_NOT_FOUND
            unknown = unknown or caught.value.message
            assert caught.value.message.replace(upload_id, "nothing") == unknown
    assert (await site.uploading.get(upload_id, OPERATOR)).upload_id == upload_id


async def test_who_pauses_for_a_day_begins_anew(site: Site) -> None:
    upload_id = await site.begin()
    site.clock.advance(EXPIRY.total_seconds() - 1)
    await site.uploading.append(upload_id, 0, sent([b"x"]), ANN)
    site.clock.advance(EXPIRY.total_seconds() - 1)
    assert await site.uploading.expire() == 0
    assert (await site.uploading.get(upload_id, ANN)).offset_bytes == 1
    site.clock.advance(timedelta(seconds=1).total_seconds())
    with pytest.raises(MeshError) as caught:
        await site.uploading.get(upload_id, ANN)
    assert caught.value.reason is Reason.UPLOAD_NOT_FOUND
    assert await site.uploading.expire() == 1
    assert site.parts.objects == {}


async def test_too_much_and_not_what_was_stated_is_refused(site: Site) -> None:
    upload_id = await site.begin(size_bytes=5)
    for call, reason in (
        (site.uploading.append(upload_id, 0, sent([b"123456"]), ANN), Reason.INVALID_FIELD),
        (site.uploading.complete(upload_id, "", ANN), Reason.INVALID_FIELD),
        (site.uploading.create(NewUpload(size_bytes=2**40), ANN), Reason.INVALID_FIELD),
        (site.uploading.create(NewUpload(digest="x", filename="a/b"), ANN), Reason.INVALID_FIELD),
    ):
        with pytest.raises(MeshError) as caught:
            await call
        assert caught.value.reason is reason
    await site.uploading.append(upload_id, 0, sent([b"12345"]), ANN)
    with pytest.raises(MeshError) as caught:
        await site.uploading.complete(upload_id, "0" * 64, ANN)
    assert caught.value.reason is Reason.ARTIFACT_CORRUPT
    assert (await site.uploading.get(upload_id, ANN)).offset_bytes == 5
    await site.uploading.delete(upload_id, ANN)
    assert site.parts.objects == {}
    large = await site.begin()
    with pytest.raises(MeshError) as caught:
        await site.uploading.append(large, 0, sent([bytes(4 * 1024 * 1024)] * 4), ANN)
    assert caught.value.reason is Reason.ARTIFACT_INVALID
