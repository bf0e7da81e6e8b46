"""Batch jobs in the engine: a caller who meets one of their batches hardly waits for it."""

import asyncio
from dataclasses import replace
from random import Random

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from tests.support.batcher_engine_fakes import FakeServer, Fleet, Sent, request, served
from tests.unit.batcher.engine_driving import OPTIONS, begin, new_engine, now_s, numbers

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]

ROWS = 40
FIXED_S, ROW_S = 0.001, 0.00001
"""A batch of all rows takes 1.4 times as long as one of a single row; one of 26 takes a quarter longer."""


async def work(engine: Engine, until_s: float) -> int:
    """A job that has a request waiting all the time. Returns how many it was answered."""
    version, done = served(batching=Batching(max_batch_size=ROWS)), 0
    while now_s() < until_s:
        rows = list(range(ROWS))
        assert numbers(await engine.infer(request(version, rows, priority=Priority.BACKGROUND))) == rows
        done += 1
    return done


async def call(engine: Engine, until_s: float, *, rate: float = 100.0) -> None:
    """Callers with a row each, about so many a second."""
    version = served(batching=Batching(max_batch_size=ROWS))
    calls, draw = [], Random(1)
    while now_s() < until_s:
        calls += begin(engine, request(version, [7]))
        await asyncio.sleep(draw.expovariate(rate))
    assert [numbers(one) for one in await asyncio.gather(*calls)] == [[7]] * len(calls)


def met(server: FakeServer, since_s: float) -> tuple[int, int]:
    """How many batches of callers left while one of a job was there or came as it ended, and how many did at all."""
    jobs = [sent for sent in server.sent if not _of_callers(sent)]
    calls = [sent.at_s for sent in server.sent if _of_callers(sent) and sent.at_s >= since_s]
    busy = [(sent.at_s, sent.at_s + server.latency_s + server.row_s * sent.rows) for sent in jobs]
    # To the microsecond: who waited for a job's batch leaves as it ends.
    return sum(any(begun < at < ended + 1e-6 for begun, ended in busy) for at in calls), len(calls)


def of_jobs(server: FakeServer, since_s: float, until_s: float) -> list[int]:
    """Rows of their batches."""
    return [sent.rows for sent in server.sent if since_s <= sent.at_s < until_s and not _of_callers(sent)]


def _of_callers(sent: Sent) -> bool:
    return set(sent.numbers) == {7}


async def test_batches_of_jobs_are_brief_while_callers_are_near_and_large_again_after(
    engine: Engine, server: FakeServer
) -> None:
    server.latency_s, server.row_s = FIXED_S, ROW_S
    jobs = asyncio.gather(work(engine, 7.0), work(engine, 7.0))
    await asyncio.sleep(1.0)
    await call(engine, 4.0)
    assert sum(await jobs) > 300
    assert set(of_jobs(server, 0.0, 1.0)) == {ROWS}
    near = of_jobs(server, 2.0, 4.0)
    assert 20 <= max(near) <= 28
    assert sum(near) / len(near) > 15, "nor are they much smaller than they may be"
    assert set(of_jobs(server, 5.5, 7.0)) == {ROWS}


async def test_they_are_as_large_as_ever_where_the_model_is_as_quick_with_all_rows(
    engine: Engine, server: FakeServer
) -> None:
    server.latency_s = FIXED_S
    jobs = asyncio.gather(work(engine, 6.0), work(engine, 6.0))
    await call(engine, 6.0)
    await jobs
    assert set(of_jobs(server, 3.0, 6.0)) == {ROWS}


@pytest.mark.parametrize("places", [2, 1])
async def test_few_callers_ever_meet_a_batch_of_a_job_and_it_goes_on(
    fleet: Fleet, server: FakeServer, places: int
) -> None:
    """Also where there is one place, and who comes waits for it."""
    server.latency_s, server.row_s = FIXED_S, ROW_S
    options = replace(OPTIONS, in_flight_per_backend=places, in_flight_per_backend_max=places)
    engine = new_engine(fleet, options)
    await engine.start()
    jobs = asyncio.gather(work(engine, 30.0), work(engine, 30.0))
    await asyncio.sleep(0.1)
    await call(engine, 30.0, rate=200.0)
    assert sum(await jobs) > 100
    await engine.stop(0)
    meetings, calls = met(server, 1.0)
    assert calls / 75 < meetings < calls / 44


async def test_a_caller_now_and_then_does_not_hold_up_a_job(engine: Engine, server: FakeServer) -> None:
    server.latency_s, server.row_s = FIXED_S, ROW_S
    jobs = asyncio.gather(work(engine, 61.0), work(engine, 61.0))
    await asyncio.sleep(1.0)
    alone = len(of_jobs(server, 0.0, 1.0)) * ROWS
    await call(engine, 61.0, rate=2.0)
    await jobs
    assert sum(of_jobs(server, 1.0, 61.0)) > 60 * alone / 7
