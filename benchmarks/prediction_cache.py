"""What the prediction cache costs: CPU of one thread and memory, by `python -m benchmarks.prediction_cache`.

CPU is the thread's own (CLOCK_THREAD_CPUTIME_ID), so that other work of the machine hardly counts; each figure is the
least of several rounds. The model answers at once, so what is left is the cache's.
"""

import asyncio
import struct
import subprocess
import tempfile
import time
import timeit
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

import uvloop

from services.batcher.adapters.redis_cache import RedisCache
from services.batcher.domain.cache_key import common_digest, redis_key, row_keys
from services.batcher.domain.refusals import too_late
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.cache import PredictionCache
from services.common.clock import SystemClock
from services.common.errors import MeshError
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.supervisor.parts.valkey import valkey_part
from services.supervisor.ports import free_ports

CLOCK = SystemClock()
FEATURES = 64
CLASSES = 10
SCHEMA = ModelSchema(
    (TensorSpec("X", DataType.FP32, (FEATURES,)),),
    (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (CLASSES,))),
)
VERSION = ServedVersion("digits", "v1.0.0", "main", SCHEMA, deterministic=True, artifact_digest="a" * 64)
ROUNDS = 7


class AtOnce:
    """A model that takes no time."""

    def late(self, request: InferRequest, waited_s: float) -> MeshError:
        """Nobody's deadline passes."""
        return too_late(request.served.model_name, request.served.version, waited_s, sent=True)

    async def infer(self, request: InferRequest) -> InferResult:
        """Zeros."""
        rows = request.rows
        return InferResult(
            (
                Tensor("label", DataType.INT64, (rows,), bytes(8 * rows)),
                Tensor("probabilities", DataType.FP32, (rows, CLASSES), bytes(4 * CLASSES * rows)),
            )
        )


def request_of(numbers: Sequence[int]) -> InferRequest:
    """One row for each number."""
    data = b"".join(struct.pack(f"<{FEATURES}f", number, *range(1, FEATURES)) for number in numbers)
    return InferRequest(
        VERSION, len(numbers), (Tensor("X", DataType.FP32, (len(numbers), FEATURES), data),), 1e12, tenant="team"
    )


async def cpu_us(times: int, work: Callable[[int], Awaitable[object]]) -> float:
    """CPU of one `work`, in microseconds."""
    best = float("inf")
    for turn in range(ROUNDS):
        began_s = time.thread_time()
        for place in range(times):
            await work(turn * times + place)
        best = min(best, time.thread_time() - began_s)
    return best / times * 1e6


def told(what: str, figure: float, unit: str) -> None:
    """One line."""
    print(f"{what:<72} {figure:9.2f} {unit}")


async def in_memory() -> None:
    """Without a second layer."""
    other = replace(VERSION, deterministic=False)
    cache: PredictionCache | None = PredictionCache(engine=AtOnce(), clock=CLOCK)
    test_ns = timeit.repeat(
        "served.deterministic and cache is not None and not call.shadow",
        globals={"served": other, "cache": cache, "call": None},
        number=1_000_000,
        repeat=ROUNDS,
    )
    empty_ns = timeit.repeat("served", globals={"served": other}, number=1_000_000, repeat=ROUNDS)
    told("a version that is not deterministic: the test", (min(test_ns) - min(empty_ns)) * 1e3, "ns")
    model = AtOnce()
    for rows in (1, 8, 64):
        asked = request_of(range(rows))
        common = common_digest(asked)

        async def digest(_: int, asked: InferRequest = asked, common: bytes = common) -> object:
            return row_keys(common, asked)

        told(f"digests of {rows} rows of {FEATURES} floats", await cpu_us(3000, digest), "µs")
        warm = PredictionCache(engine=model, clock=CLOCK)
        await warm.infer(asked)
        fresh = [request_of(range(at * rows, (at + 1) * rows)) for at in range(1, 300 * ROUNDS + 1)]
        cold = PredictionCache(engine=model, clock=CLOCK)

        async def hit(_: int, cache: PredictionCache = warm, asked: InferRequest = asked) -> object:
            return await cache.infer(asked)

        async def miss(place: int, cache: PredictionCache = cold, fresh: Sequence[InferRequest] = fresh) -> object:
            return await cache.infer(fresh[place])

        told(f"a hit of {rows} rows", await cpu_us(3000, hit), "µs")
        told(f"a miss of {rows} rows, the model's call of some 0.7 µs included", await cpu_us(300, miss), "µs")
    image = InferRequest(VERSION, 1, (Tensor("X", DataType.FP32, (1, FEATURES), bytes(1024 * 1024)),), 1e12)
    image.inputs[0].shape = (1, 1024 * 1024 // 4)

    async def large(_: int) -> object:
        return row_keys(b"", image)

    told("the digest of one row of 1 MiB", await cpu_us(20, large), "µs")


async def memory() -> None:
    """What an entry takes and what it is counted as."""
    cache = PredictionCache(engine=AtOnce(), clock=CLOCK)
    await cache.infer(request_of([0]))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(1, 20_001):
        await cache.infer(request_of([number]))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    told("memory of an entry of 48 bytes in two tensors", grown / 20_000, "bytes")
    told("… as the bound counts it", cache.memory.bytes_held / len(cache.memory), "bytes")


async def in_redis(url: str) -> None:
    """The second layer alone."""
    store = RedisCache(url, clock=CLOCK, read_timeout_s=1.0)
    tasks = [asyncio.create_task(run(), name=run.__name__) for run in (store.serve_reads, store.serve_writes)]
    while not (store.reads and store.writes):
        await CLOCK.sleep(0.01)
    result = await AtOnce().infer(request_of([0]))
    keys = [redis_key("digits", "v1.0.0", number.to_bytes(32, "big")) for number in range(4000)]

    async def write(_: int) -> None:
        aim = store.counts.written + len(keys)
        for key in keys:
            store.write(key, result, left_s=3600.0)
        while store.counts.written < aim:
            await CLOCK.sleep(0.002)

    told("a write", await cpu_us(1, write) / len(keys), "µs")
    for together in (1, 8, 64):

        async def read(place: int, together: int = together) -> None:
            first = place * together % (len(keys) - together)
            reads = [store.read([key]) for key in keys[first : first + together]]
            for reading in reads:
                assert reading is not None
                assert (await reading)[0] is not None

        told(f"a read, {together} at the same time", await cpu_us(500, read) / together, "µs")
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def main() -> None:
    """All of it."""
    uvloop.run(in_memory())
    uvloop.run(memory())
    with tempfile.TemporaryDirectory() as folder:
        part = valkey_part(port=free_ports(1)[0], data_dir=Path(folder), log_path=Path(folder) / "log")
        with subprocess.Popen(part.argv, stdout=subprocess.DEVNULL) as server:
            try:
                uvloop.run(in_redis(f"redis://127.0.0.1:{part.ports['redis']}/0"))
            finally:
                server.terminate()


if __name__ == "__main__":
    main()
