"""What batchers are told, and when they count."""

import pytest

from services.common.errors import MeshError, Reason
from services.router.domain.merge import ServingModel
from services.router.domain.table import ServingTable
from services.router.engines.batchers import Batchers
from tests.support.clock import FakeClock
from tests.support.router_fakes import ready

ONE = ServingTable(7, {"m": ServingModel(ready("m", "v1.0.0"), "v1.0.0")})


@pytest.fixture
def batchers() -> Batchers:
    return Batchers(clock=FakeClock())


async def test_who_connects_before_anything_is_known_is_told_nothing_until_it_is(batchers: Batchers) -> None:
    steps = batchers.steps(batchers.connect("batcher-0", "a:1"))
    assert await batchers.acknowledged(0, timeout_s=0.01) == []
    batchers.tell(ONE)
    first = await anext(steps)
    assert (first.revision, first.full, [one.ready.model_name for one in first.models]) == (7, True, ["m"])


async def test_late_are_those_that_have_not_taken_it_and_who_refused_is_not_waited_for(batchers: Batchers) -> None:
    slow, sick = batchers.connect("slow", "a:1"), batchers.connect("sick", "b:1")
    batchers.tell(ONE)
    for session in (slow, sick):
        await anext(batchers.steps(session))
    batchers.answer(sick, acknowledged_revision=0, error_message="cannot read it")
    assert await batchers.acknowledged(7, timeout_s=0.01) == ["sick", "slow"]
    batchers.answer(slow, acknowledged_revision=7, error_message="")
    # Nobody is waited for any more, though one does not have it.
    assert await batchers.acknowledged(7, timeout_s=60.0) == ["sick"]
    assert sick.error_message == "cannot read it"


async def test_what_was_never_sent_cannot_be_acknowledged(batchers: Batchers) -> None:
    session = batchers.connect("batcher-0", "a:1")
    batchers.tell(ONE)
    for revision in (-1, 7, 8):
        with pytest.raises(MeshError, match="acknowledged_revision"):
            batchers.answer(session, acknowledged_revision=revision, error_message="")
    with pytest.raises(MeshError, match="batcher_id"):
        batchers.connect("", "a:1")


async def test_a_second_stream_of_a_batcher_ends_the_first(batchers: Batchers) -> None:
    batchers.tell(ONE)
    first = batchers.connect("batcher-0", "a:1")
    second = batchers.connect("batcher-0", "a:1")
    other = batchers.connect("batcher-0", "b:1")
    assert [step async for step in batchers.steps(first)] == []
    assert list(batchers.connected) == [second, other]
    batchers.disconnect(first)
    assert list(batchers.connected) == [second, other]


async def test_a_router_that_stops_ends_streams_and_takes_no_new_ones(batchers: Batchers) -> None:
    session = batchers.connect("batcher-0", "a:1")
    await batchers.close()
    assert [step async for step in batchers.steps(session)] == []
    with pytest.raises(MeshError) as raised:
        batchers.connect("batcher-1", "b:1")
    assert raised.value.reason is Reason.SHUTTING_DOWN


async def test_revoked_keys_come_with_the_first_table_and_then_by_themselves(batchers: Batchers) -> None:
    batchers.revoke(("k1",))
    steps = batchers.steps(batchers.connect("batcher-0", "a:1"))
    batchers.tell(ONE)
    first = await anext(steps)
    assert (first.full, first.revoked) == (True, ("k1",))
    batchers.revoke(("k1", "k2"))
    second = await anext(steps)
    assert (second.revision, second.full, second.models, second.revoked) == (7, False, (), ("k1", "k2"))
    batchers.tell(ServingTable(8, ONE.models))
    assert (await anext(steps)).revoked is None
    batchers.revoke(())
    assert (await anext(steps)).revoked == ()
