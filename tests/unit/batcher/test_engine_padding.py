"""The engine with a version that is padded, in virtual time: requests of different sizes share batches and everybody
gets what it would have got alone."""

import asyncio
import struct
from collections.abc import Sequence

import pytest

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Backend, Batching, Padding, ServedModel, ServedVersion, ServingTable
from services.batcher.domain.shape import CallShape
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from tests.support.batcher_engine_fakes import FakeCall, FakeServer, Sent, backend
from tests.unit.batcher.engine_driving import begin, new_engine, now_s

pytestmark = pytest.mark.looptime

SCHEMA = ModelSchema(
    (TensorSpec("ids", DataType.INT32, (-1,)), TensorSpec("lengths", DataType.INT64, (1,), optional=True)),
    (TensorSpec("doubled", DataType.INT32, (-1,)), TensorSpec("total", DataType.INT64)),
)
PADDING = Padding(value=9, lengths_input="lengths", trim_outputs=("doubled",), waste_max=0.5)


class Tokens(FakeServer):
    """Doubles its numbers and adds them up as far as the lengths say."""

    def prepare(self, shape: CallShape, *, backend: Backend) -> FakeCall:
        return FakeCall(self, shape)

    def reply(self, sent: Sent) -> None:
        self.finish(sent, BackendFailure(FailureKind.LOST, "reset") if self.down else doubled(sent))


def doubled(sent: Sent) -> Sequence[Tensor]:
    (size,) = sent.shape.inputs[0].row_shape
    numbers = struct.unpack(f"<{sent.rows * size}i", sent.data[: 4 * sent.rows * size])
    lengths = struct.unpack(f"<{sent.rows}q", sent.data[4 * sent.rows * size :])
    rows = [numbers[at * size : (at + 1) * size] for at in range(sent.rows)]
    totals = [sum(row[:length]) for row, length in zip(rows, lengths, strict=True)]
    return [
        Tensor("total", DataType.INT64, (sent.rows,), struct.pack(f"<{sent.rows}q", *totals)),
        Tensor(
            "doubled",
            DataType.INT32,
            (sent.rows, size),
            struct.pack(f"<{len(numbers)}i", *(2 * one for one in numbers)),
        ),
    ]


class Servers:
    def __init__(self) -> None:
        self.server = Tokens("a:1")

    def __call__(self, backend: Backend) -> Tokens:
        return self.server


def version(padding: Padding | None = PADDING, *, max_batch_size: int = 32) -> ServedVersion:
    return ServedVersion(
        "m",
        "v1.0.0",
        "d",
        SCHEMA,
        batching=Batching(padding=padding, max_batch_size=max_batch_size),
        backends=(backend(),),
    )


def request(served: ServedVersion, *rows: Sequence[int], within_s: float = 30.0) -> InferRequest:
    data = b"".join(struct.pack(f"<{len(row)}i", *row) for row in rows)
    tensor = Tensor("ids", DataType.INT32, (len(rows), len(rows[0])), data)
    return InferRequest(served, len(rows), (tensor,), now_s() + within_s)


def answers(result: InferResult) -> tuple[list[list[int]], list[int]]:
    """The rows of `doubled` and of `total`."""
    by_name = {tensor.name: tensor for tensor in result.outputs}
    rows, size = by_name["doubled"].shape
    flat = struct.unpack(f"<{rows * size}i", by_name["doubled"].data)
    totals = struct.unpack(f"<{rows}q", by_name["total"].data)
    return [list(flat[at * size : (at + 1) * size]) for at in range(rows)], list(totals)


def right(*rows: Sequence[int]) -> tuple[list[list[int]], list[int]]:
    return [[2 * one for one in row] for row in rows], [sum(row) for row in rows]


@pytest.fixture
async def servers() -> Servers:
    return Servers()


@pytest.fixture
async def engine(servers: Servers) -> Engine:
    made = new_engine(servers, EngineOptions())  # type: ignore[arg-type]
    await made.start()
    return made


async def test_requests_of_different_sizes_share_a_batch_and_get_what_they_would_have_got_alone(
    engine: Engine, servers: Servers
) -> None:
    served = version()
    asked = [[list(range(at, at + size))] for at, size in enumerate((8, 7, 10, 9))] + [[[1] * 7, [2] * 7]]
    results = await asyncio.gather(*(engine.infer(request(served, *rows)) for rows in asked))
    assert [answers(result) for result in results] == [right(*rows) for rows in asked]
    (sent,) = servers.server.sent
    assert [one.row_shape for one in sent.shape.inputs] == [(10,), (1,)]
    assert struct.unpack("<10i", sent.data[:40]) == (*range(8), 9, 9)


async def test_sizes_that_differ_too_much_do_not_meet(engine: Engine, servers: Servers) -> None:
    served = version()
    asked = [[[at] * size] for at, size in enumerate((1, 100, 2, 90, 1))]
    results = await asyncio.gather(*(engine.infer(request(served, *rows)) for rows in asked))
    assert [answers(result) for result in results] == [right(*rows) for rows in asked]
    assert [sent.shape.inputs[0].row_shape for sent in servers.server.sent] == [(2,), (100,)]


async def test_without_padding_only_equal_sizes_meet(engine: Engine, servers: Servers) -> None:
    served = version(None)
    lengths = struct.pack("<q", 3)
    for size in (3, 3, 4):
        one = request(served, [1] * size)
        one.inputs = (*one.inputs, Tensor("lengths", DataType.INT64, (1, 1), lengths))
        begin(engine, one)
    await asyncio.sleep(0.1)
    assert sorted(sent.rows for sent in servers.server.sent) == [1, 2]


async def test_a_long_row_that_left_costs_the_others_nothing(engine: Engine, servers: Servers) -> None:
    served = version(max_batch_size=4)
    servers.server.held = True
    blockers = begin(engine, *(request(served, [1] * 12) for _ in range(8)))
    await asyncio.sleep(0.001)
    short, long, other = begin(engine, *(request(served, [2] * size) for size in (8, 12, 9)))
    await asyncio.sleep(0.001)
    long.cancel()
    await asyncio.sleep(0)
    while servers.server.waiting:
        servers.server.release()
        await asyncio.sleep(0.001)
    await asyncio.gather(*blockers)
    assert servers.server.sent[-1].shape.inputs[0].row_shape == (9,)
    assert [answers(await one) for one in (short, other)] == [right([2] * 8), right([2] * 9)]


async def test_a_row_that_leaves_while_it_runs_does_not_disturb_the_cut(engine: Engine, servers: Servers) -> None:
    served = version()
    servers.server.held = True
    tasks = begin(engine, *(request(served, [at] * size) for at, size in enumerate((8, 12, 9))))
    await asyncio.sleep(0.001)
    tasks[1].cancel()
    await asyncio.sleep(0)
    servers.server.release()
    assert answers(await tasks[0]) == right([0] * 8)
    assert answers(await tasks[2]) == right([2] * 9)


async def test_what_was_lost_is_padded_anew_with_whom_is_left(engine: Engine, servers: Servers) -> None:
    served = version()
    servers.server.held = True
    tasks = begin(engine, *(request(served, [at] * size) for at, size in enumerate((8, 12, 9))))
    await asyncio.sleep(0.001)
    servers.server.down = True
    tasks[1].cancel()
    servers.server.release()
    servers.server.down, servers.server.held = False, False
    assert answers(await tasks[0]) == right([0] * 8)
    assert answers(await tasks[2]) == right([2] * 9)
    assert [sent.shape.inputs[0].row_shape for sent in servers.server.sent] == [(12,), (9,)]


async def test_a_request_larger_than_a_batch_comes_back_whole(engine: Engine, servers: Servers) -> None:
    served = version(max_batch_size=4)
    rows = [[at] * 5 for at in range(10)]
    other = begin(engine, request(served, [7] * 9))
    assert answers(await engine.infer(request(served, *rows))) == right(*rows)
    assert answers(await other[0]) == right([7] * 9)


async def test_bytes_that_do_not_fit_their_size_are_refused_and_meet_nobody(engine: Engine, servers: Servers) -> None:
    served = version()
    good, bad = request(served, [1] * 5), request(served, [1] * 6)
    bad.inputs[0].data = bad.inputs[0].data[:-1]
    results = await asyncio.gather(engine.infer(good), engine.infer(bad), return_exceptions=True)
    assert isinstance(results[0], InferResult)
    assert isinstance(results[1], MeshError)
    assert results[1].reason is Reason.SCHEMA_VIOLATION
    assert "24" in results[1].message


async def test_a_change_of_the_padding_is_followed(engine: Engine, servers: Servers) -> None:
    for padding in (PADDING, Padding(lengths_input="lengths", waste_max=0.0), PADDING):
        served = version(padding)
        engine.serve(ServingTable(1, {"m": ServedModel("m", "v1.0.0", {"v1.0.0": served})}))
        servers.server.sent.clear()
        await asyncio.gather(*(engine.infer(request(served, [1] * size)) for size in (5, 6)))
        assert len(servers.server.sent) == (1 if padding is PADDING else 2)


async def test_padded_batches_stay_within_their_bytes(engine: Engine, servers: Servers) -> None:
    served = version(max_batch_size=32)
    asked = [[1] * (700_000 + at) for at in range(6)]
    results = await asyncio.gather(*(engine.infer(request(served, row)) for row in asked))
    assert all(answers(result) == right(row) for result, row in zip(results, asked, strict=True))
    assert all(len(sent.data) <= 12 * 1024 * 1024 for sent in servers.server.sent)
    assert len(servers.server.sent) > 1
