"""Batch jobs in the engine: a caller who meets one of their batches hardly waits for it."""

import asyncio

import pytest

from services.batcher.domain.priority import Priority
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from tests.support.batcher_engine_fakes import FakeServer, request, served
from tests.unit.batcher.engine_driving import begin, now_s, numbers

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


async def call(engine: Engine, until_s: float) -> None:
    """Callers with a row each, 100 a second."""
    version = served(batching=Batching(max_batch_size=ROWS))
    calls = []
    while now_s() < until_s:
        calls += begin(engine, request(version, [7]))
        await asyncio.sleep(0.01)
    assert [numbers(one) for one in await asyncio.gather(*calls)] == [[7]] * len(calls)


def of_jobs(server: FakeServer, since_s: float, until_s: float) -> list[int]:
    """Rows of their batches."""
    return [sent.rows for sent in server.sent if since_s <= sent.at_s < until_s and sent.numbers != [7]]


async def test_batches_of_jobs_are_brief_while_callers_are_near_and_large_again_after(
    engine: Engine, server: FakeServer
) -> None:
    server.latency_s, server.row_s = FIXED_S, ROW_S
    jobs = asyncio.gather(work(engine, 7.0), work(engine, 7.0))
    await asyncio.sleep(1.0)
    await call(engine, 4.0)
    assert sum(await jobs) > 300
    assert set(of_jobs(server, 0.0, 1.0)) == {ROWS}
    near = of_jobs(server, 2.5, 4.0)
    assert 20 <= max(near) <= 28
    assert sum(near) / len(near) > 15, "nor are they much smaller than they may be"
    assert set(of_jobs(server, 5.5, 7.0)) == {ROWS}


async def test_they_are_as_large_as_ever_where_the_model_is_as_quick_with_all_rows(
    engine: Engine, server: FakeServer
) -> None:
    server.latency_s = FIXED_S
    jobs = asyncio.gather(work(engine, 3.0), work(engine, 3.0))
    await call(engine, 3.0)
    await jobs
    assert set(of_jobs(server, 1.5, 3.0)) == {ROWS}
