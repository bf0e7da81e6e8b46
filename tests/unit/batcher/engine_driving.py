"""An engine over fake servers in virtual time, for the tests beside it."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.common.clock import LoopClock
from services.common.errors import MeshError
from tests.support.batcher_engine_fakes import Answer, Fleet, echo

OPTIONS = EngineOptions(queue_rows_max=100, queue_bytes_max=10_000, outage_patience_s=2.0)


def new_engine(fleet: Fleet, options: EngineOptions = OPTIONS) -> Engine:
    return Engine(clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)), open_client=fleet, options=options)


def now_s() -> float:
    return asyncio.get_running_loop().time()


def numbers(result: InferResult) -> list[int]:
    """What the rows of the output `first` say."""
    tensor = next(tensor for tensor in result.outputs if tensor.name == "first")
    return [int.from_bytes(tensor.data[at : at + 8], "little", signed=True) for at in range(0, len(tensor.data), 8)]


def begin(engine: Engine, *requests: InferRequest) -> list[asyncio.Task[InferResult]]:
    """Callers whose outcome may stay unread."""
    tasks = [asyncio.get_running_loop().create_task(engine.infer(one)) for one in requests]
    for task in tasks:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
    return tasks


async def outcome(engine: Engine, request: InferRequest) -> list[int] | MeshError:
    try:
        return numbers(await engine.infer(request))
    except MeshError as error:
        return error


async def failure(engine: Engine, request: InferRequest) -> MeshError:
    error = await outcome(engine, request)
    assert isinstance(error, MeshError), error
    return error


def guilty(*culprits: int, kind: FailureKind = FailureKind.MODEL) -> Answer:
    """A model that refuses any batch with one of the culprits in it, and names the first that it meets."""

    def answer(rows: int, data: bytes) -> Sequence[Tensor] | BackendFailure:
        for at in range(0, len(data), 16):
            number = int.from_bytes(data[at : at + 8], "little", signed=True)
            if number in culprits:
                return BackendFailure(kind, f"ValueError: {number}")
        return echo(rows, data)

    return answer


def always(kind: FailureKind) -> Answer:
    """A server that fails every batch."""
    return lambda rows, data: BackendFailure(kind, "told to fail")
