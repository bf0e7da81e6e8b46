"""What the batching engine costs each request: `python -m benchmarks.engine_cost [--callers 256] [--tenants 1]`.

Callers ask again as soon as they are answered, by a model server that costs nothing, so what is left is the engine and
one future and one task switch for each request, which the second line measures alone. Processor time of the thread, and
of several rounds the median: other load on the machine hardly changes it.
"""

import argparse
import asyncio
import gc
import statistics
import time
from collections.abc import Sequence

from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import Backend, Batching, ServedVersion
from services.batcher.domain.shape import CallShape
from services.batcher.engines.engine import Engine
from services.batcher.ports import BatchReceiver
from services.common.clock import SystemClock
from services.common.schema import DataType, ModelSchema, TensorSpec

_ROUNDS = 15
_WARM_UP_ROUNDS = 3
_REQUESTS = 40_000
"""In one round."""
_PATIENCE_S = 30.0


class _FreeServer:
    """Answers each batch in the next turn of the loop with what it was sent."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.batches = 0

    def prepare(self, shape: CallShape, *, backend: Backend) -> "_FreeServer":  # noqa: ARG002
        return self

    def send(
        self,
        rows: int,
        sizes_bytes: Sequence[int],  # noqa: ARG002
        buffers: Sequence[bytes | memoryview],
        receiver: BatchReceiver,
    ) -> "_FreeServer":
        self.batches += 1
        outputs = [Tensor("y", DataType.FP32, (rows, 4), b"".join(buffers))]
        self._loop.call_soon(receiver.answered, outputs)
        return self

    def abort(self) -> None:
        """An answer that comes all the same is ignored."""

    async def ready(self) -> bool:
        return True

    async def close(self) -> None:
        """Nothing is open."""


def _requests(tenants: int) -> list[InferRequest]:
    schema = ModelSchema((TensorSpec("x", DataType.FP32, (4,)),), (TensorSpec("y", DataType.FP32, (4,)),))
    backends = (Backend("b", "b:1", "b:1", "m--v1"),)
    served = ServedVersion("m", "v1", "d", schema, batching=Batching(max_batch_size=32), backends=backends)
    tensor = Tensor("x", DataType.FP32, (1, 4), bytes(16))
    return [InferRequest(served, 1, (tensor,), 0.0, tenant=f"team-{number}") for number in range(tenants)]


async def _engine_s(callers: int, tenants: int) -> tuple[list[float], float]:
    """Seconds a request in each round, and the mean rows of a batch."""
    loop = asyncio.get_running_loop()
    clock = SystemClock()
    server = _FreeServer(loop)
    engine = Engine(clock=clock, open_client=lambda _: server)
    await engine.start()
    kinds = _requests(tenants)
    left = 0

    async def caller(number: int) -> None:
        nonlocal left
        kind = kinds[number % tenants]
        while left > 0:
            left -= 1
            await engine.infer(
                InferRequest(kind.served, 1, kind.inputs, clock.monotonic() + _PATIENCE_S, tenant=kind.tenant)
            )

    seconds = []
    for _ in range(_WARM_UP_ROUNDS + _ROUNDS):
        left = _REQUESTS
        began_s = time.thread_time()
        await asyncio.gather(*(caller(number) for number in range(callers)))
        seconds.append((time.thread_time() - began_s) / _REQUESTS)
    rows_mean = _REQUESTS * (_WARM_UP_ROUNDS + _ROUNDS) / server.batches
    await engine.stop()
    return seconds[_WARM_UP_ROUNDS:], rows_mean


async def _bare_s(callers: int) -> list[float]:
    """The same without an engine: a future for each request, answered 32 at a time."""
    loop = asyncio.get_running_loop()
    clock = SystemClock()
    kind = _requests(1)[0]
    waiting: list[asyncio.Future[InferResult]] = []
    result = InferResult(())
    left = 0

    def answer() -> None:
        nonlocal waiting
        batch, waiting = waiting[:32], waiting[32:]
        for future in batch:
            future.set_result(result)
        if waiting:
            loop.call_soon(answer)

    async def infer(request: InferRequest) -> InferResult:  # noqa: ARG001 - made, as the engine's callers make one
        future: asyncio.Future[InferResult] = loop.create_future()
        if not waiting:
            loop.call_soon(answer)
        waiting.append(future)
        return await future

    async def caller() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await infer(InferRequest(kind.served, 1, kind.inputs, clock.monotonic() + _PATIENCE_S, tenant=kind.tenant))

    seconds = []
    for _ in range(_WARM_UP_ROUNDS + _ROUNDS):
        left = _REQUESTS
        began_s = time.thread_time()
        await asyncio.gather(*(caller() for _ in range(callers)))
        seconds.append((time.thread_time() - began_s) / _REQUESTS)
    return seconds[_WARM_UP_ROUNDS:]


def main() -> None:
    """Prints nanoseconds of processor time a request."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--callers", type=int, default=256)
    parser.add_argument("--tenants", type=int, default=1)
    arguments = parser.parse_args()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    seconds, rows_mean = asyncio.run(_engine_s(arguments.callers, arguments.tenants))
    bare = asyncio.run(_bare_s(arguments.callers))
    engine_ns, bare_ns = statistics.median(seconds) * 1e9, statistics.median(bare) * 1e9
    print(
        f"{arguments.callers} callers, {arguments.tenants} tenants, {rows_mean:.1f} rows a batch: "
        f"{engine_ns:.0f} ns a request (best round {min(seconds) * 1e9:.0f})"
    )
    print(f"of which callers and futures alone: {bare_ns:.0f} ns (best round {min(bare) * 1e9:.0f})")


if __name__ == "__main__":
    main()
