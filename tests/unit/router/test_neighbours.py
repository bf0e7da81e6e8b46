"""Asking other services how they are."""

import asyncio

from services.router.domain.health import Health
from services.router.engines.neighbours import Neighbours
from tests.support.clock import FakeClock
from tests.support.router_fakes import FakeHealth


async def test_many_callers_cost_one_question_and_the_answer_is_soon_forgotten() -> None:
    clock, source = FakeClock(), FakeHealth()
    neighbours = Neighbours({"s": source}, clock=clock, timeout_s=1.0)
    assert neighbours.knows("s")
    assert not neighbours.knows("t")
    assert await asyncio.gather(*(neighbours.health("s") for _ in range(20))) == [Health.SERVING] * 20
    assert source.asked == 1
    source.health = Health.NOT_SERVING
    assert await neighbours.health("s") is Health.SERVING
    clock.advance(0.3)
    assert await neighbours.health("s") is Health.NOT_SERVING
    assert source.asked == 2


async def test_who_does_not_answer_in_time_is_not_serving() -> None:
    slow = FakeHealth(delay_s=60.0)
    neighbours = Neighbours({"s": slow}, clock=FakeClock(), timeout_s=0.01)
    assert await neighbours.health("s") is Health.NOT_SERVING
