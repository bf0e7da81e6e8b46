"""What the engine relies on in a client of a model server: the same of the real one and of the fake."""

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

import pytest

from services.batcher.adapters.triton import TritonClient
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.ports import BackendClient
from services.common.schema import DataType
from tests.support.batcher_engine_fakes import FakeServer
from tests.support.batcher_engine_server import SHAPE, Got, Server
from tests.support.waiting import eventually


class Stage(Protocol):
    """A server with its client."""

    client: BackendClient

    async def stop(self) -> None: ...
    async def start(self) -> None: ...
    def hold(self) -> None: ...
    def taken(self) -> int: ...


class RealStage:
    """Over TCP."""

    def __init__(self) -> None:
        self._server = Server()
        self._kept: list[bytes] = []
        self.client: BackendClient = TritonClient(f"127.0.0.1:{self._server.port}")

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop()

    def hold(self) -> None:
        async def keep(data: bytes, writer: asyncio.StreamWriter) -> None:
            self._kept.append(data)

        self._server.behave = keep

    def taken(self) -> int:
        return self._server.requests


class FakeStage:
    """In memory."""

    def __init__(self) -> None:
        self._server = FakeServer("a:1", latency_s=0.001, answer=lambda rows, data: [_y(rows, data)])
        self.client: BackendClient = self._server

    async def start(self) -> None:
        self._server.down = False

    async def stop(self) -> None:
        self._server.down = True

    def hold(self) -> None:
        self._server.held = True

    def taken(self) -> int:
        return len(self._server.sent)


def _y(rows: int, data: bytes) -> Tensor:
    return Tensor("y", DataType.INT64, (rows,), data)


@pytest.fixture(params=[RealStage, FakeStage], ids=["real", "fake"])
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    made: Stage = request.param()
    await made.start()
    yield made
    await made.client.close()
    await made.stop()


def send(stage: Stage, *numbers: int) -> Got:
    got = Got()
    data = [number.to_bytes(8, "little") for number in numbers]
    stage.client.prepare(SHAPE, server_model_name="m").send(len(numbers), [8 * len(numbers)], data, got)
    assert not got.future.done(), "nobody is called before the sender knows what it sent"
    return got


async def outcome(got: Got) -> list[int] | FailureKind:
    told = await asyncio.wait_for(got.future, 5)
    if isinstance(told, BackendFailure):
        assert told.message
        return told.kind
    (tensor,) = told
    assert (tensor.name, tensor.data_type) == ("y", DataType.INT64)
    data = bytes(tensor.data)
    assert tensor.shape == (len(data) // 8,)
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


async def test_every_batch_gets_its_own_answer(stage: Stage) -> None:
    sent = [send(stage, number, number + 1) for number in range(20)]
    assert [await outcome(got) for got in sent] == [[number, number + 1] for number in range(20)]


async def test_a_batch_may_be_sent_from_within_an_answer(stage: Stage) -> None:
    second: list[Got] = []

    class Chained(Got):
        def answered(self, outputs: object) -> None:
            second.append(send(stage, 2))
            super().answered(outputs)  # type: ignore[arg-type]

    first = Chained()
    stage.client.prepare(SHAPE, server_model_name="m").send(1, [8], [(1).to_bytes(8, "little")], first)
    assert await outcome(first) == [1]
    assert await outcome(second[0]) == [2]


async def test_whoever_gave_up_hears_nothing_more(stage: Stage) -> None:
    got = Got()
    exchange = stage.client.prepare(SHAPE, server_model_name="m").send(1, [8], [b"12345678"], got)
    exchange.abort()
    exchange.abort()
    assert await outcome(send(stage, 3)) == [3]
    assert not got.future.done()


async def test_a_server_that_is_not_there_is_said_to_be_unreachable_until_it_is(stage: Stage) -> None:
    assert await stage.client.ready()
    await stage.stop()
    assert not await stage.client.ready()
    assert [await outcome(got) for got in [send(stage, number) for number in range(3)]] == [FailureKind.UNREACHABLE] * 3
    await stage.start()
    assert await stage.client.ready()
    assert await outcome(send(stage, 4)) == [4]


async def test_closing_fails_what_is_under_way(stage: Stage) -> None:
    stage.hold()
    got = send(stage, 1)
    await eventually(lambda: stage.taken() == 1, what="the batch has arrived")
    await stage.client.close()
    assert await outcome(got) is FailureKind.LOST
