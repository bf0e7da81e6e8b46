"""The engine over a server that answers in virtual time: who shares a batch, when it leaves, who gets what."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from services.batcher.domain.request import InferResult
from services.batcher.domain.serving import Batching
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from tests.support.batcher_engine_fakes import Fleet, backend, request, served

pytestmark = [pytest.mark.looptime, pytest.mark.asyncio]
OPTIONS = EngineOptions(queue_rows_max=100, queue_bytes_max=10_000, outage_patience_s=2.0)
CLOCK = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))


@pytest.fixture
def fleet() -> Fleet:
    return Fleet("a:1", "b:1")


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Engine]:
    made = Engine(clock=CLOCK, open_client=fleet, options=OPTIONS)
    await made.start()
    yield made
    await made.stop(0)


def numbers(result: InferResult) -> list[int]:
    """What the rows of the last output, `first`, say."""
    tensor = next(tensor for tensor in result.outputs if tensor.name == "first")
    return [int.from_bytes(tensor.data[at : at + 8], "little", signed=True) for at in range(0, len(tensor.data), 8)]


async def test_what_arrives_together_leaves_together_and_comes_back_apart(engine: Engine, fleet: Fleet) -> None:
    version = served()
    results = await asyncio.gather(*(engine.infer(request(version, [n, -n])) for n in range(5)))
    assert [numbers(result) for result in results] == [[n, -n] for n in range(5)]
    assert [tensor.shape for tensor in results[0].outputs] == [(2, 2), (2,)]
    assert [sent.rows for sent in fleet.servers["a:1"].sent] == [10]
