"""What features from a feature store cost, by `python -m benchmarks.features`: time to get them, and CPU.

Requests come at a fixed rate, whether or not those before are answered. Each is for one instance with one view of three
features; the store is a real Valkey with 100,000 users. "cold" keeps nothing in memory, so that every request goes to
the store; "usual" asks for users with a Zipf distribution and keeps rows as a batcher does. CPU is the thread's own.
"""

import argparse
import asyncio
import random
import subprocess
import tempfile
import time
import timeit
from pathlib import Path

import uvloop
from infermesh.client.feature_store import FeatureRow, FeatureStore

from services.batcher.adapters.redis_features import RedisFeatures
from services.batcher.domain.feature_views import CheckedRow
from services.batcher.domain.features import JoinPlan
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.features import FeatureOptions, Features
from services.common.clock import SystemClock
from services.common.feature_view import FeatureStoreKind, FeatureView
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.supervisor.parts.valkey import valkey_part
from services.supervisor.ports import free_ports

CLOCK = SystemClock()
USERS = 100_000
SCHEMA = ModelSchema(tuple(TensorSpec(name, DataType.FP32) for name in ("age", "ctr", "spend", "x")))
VIEW = FeatureView("user_stats", "user_id", {"age": "float", "ctr": "float", "spend": "float"})
PLAN = JoinPlan(ServedVersion("m", "v1.0.0", "d", SCHEMA, feature_views=(VIEW,)))


def percentile_ms(times_s: list[float], share: float) -> float:
    """By rank."""
    return sorted(times_s)[min(len(times_s) - 1, int(share * len(times_s)))] * 1000


async def load(features: Features, users: list[int], rate: float) -> tuple[list[float], float, int]:
    """How long each request waited, in seconds; CPU of each; how many failed."""
    took: list[float] = []
    failed = 0

    async def one(user: int, due_s: float) -> None:
        nonlocal failed
        try:
            await features.join(PLAN, [{"user_id": user, "x": 1.0}])
        except Exception:
            failed += 1
        took.append(CLOCK.monotonic() - due_s)

    began_s, cpu_s = CLOCK.monotonic(), time.thread_time()
    async with asyncio.TaskGroup() as group:
        for number, user in enumerate(users):
            due_s = began_s + number / rate
            wait_s = due_s - CLOCK.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            group.create_task(one(user, due_s), name=f"request {number}")
    return took, (time.thread_time() - cpu_s) / len(users), failed


async def measure(url: str, rate: float, seconds: float) -> None:
    """Prints the table."""
    rng = random.Random(1)
    store = RedisFeatures(url, clock=CLOCK)
    task = asyncio.create_task(store.serve(), name="features")
    while store.problem:
        await CLOCK.sleep(0.01)
    values = {"age": 41.0, "ctr": 0.25, "spend": 17.5}
    with FeatureStore(url, timeout_s=60) as writer:
        writer.put(VIEW.name, VIEW.entity, (FeatureRow(str(user), values) for user in range(USERS)), ttl_s=0)
    count = int(rate * seconds)
    print(f"{rate:g} requests/s for {seconds:g} s, {USERS} users; times in ms, CPU in µs a request")
    print(f"{'':8} {'p50':>7} {'p95':>7} {'p99':>7} {'max':>7} {'failed':>7} {'CPU':>6} {'hits':>6}")
    for name, users, ttl_s in (
        ("cold", [rng.randrange(USERS) for _ in range(count)], 0.0),
        ("usual", [min(int(rng.paretovariate(1.0)), USERS) - 1 for _ in range(count)], 300.0),
    ):
        features = Features(stores={FeatureStoreKind.REDIS: store}, clock=CLOCK, options=FeatureOptions(ttl_s=ttl_s))
        took, cpu_s, failed = await load(features, users, rate)
        shares = " ".join(f"{percentile_ms(took, share):7.2f}" for share in (0.5, 0.95, 0.99, 1.0))
        (counts,) = features.counts.values()
        print(f"{name:8} {shares} {failed:7} {cpu_s * 1e6:6.1f} {counts.hits / count:6.1%}")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def cost_without_views() -> float:
    """What a version without views pays for each request, in nanoseconds: one look at its plan."""

    class Plan:
        __slots__ = ("join",)

        def __init__(self) -> None:
            self.join: JoinPlan | None = None

    plan, rounds = Plan(), 2_000_000
    with_look = min(timeit.repeat("plan.join is None", globals={"plan": plan}, number=rounds, repeat=7))
    without = min(timeit.repeat("pass", number=rounds, repeat=7))
    return (with_look - without) / rounds * 1e9


def cost_in_memory() -> float:
    """What a join costs whose row is in memory, in microseconds of CPU."""

    async def run() -> float:
        features = Features(stores={}, clock=CLOCK)
        rows = [{"user_id": 1, "x": 1.0}]
        (lookup,) = PLAN.lookups(rows)
        row = CheckedRow({"age": 41.0, "ctr": 0.25, "spend": 17.5})
        features.memory.put(lookup.key, row, size_bytes=500, expires_s=1e12)
        best_s = float("inf")
        for _ in range(7):
            began_s = time.thread_time()
            for _ in range(20_000):
                await features.join(PLAN, rows)
            best_s = min(best_s, (time.thread_time() - began_s) / 20_000)
        return best_s * 1e6

    return uvloop.run(run())


def main() -> None:
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        part = valkey_part(port=free_ports(1)[0], data_dir=Path(folder), log_path=Path(folder) / "log")
        with subprocess.Popen(part.argv, stdout=subprocess.DEVNULL) as server:
            try:
                uvloop.run(measure(f"redis://127.0.0.1:{part.ports['redis']}/0", options.rate, options.seconds))
            finally:
                server.terminate()
    print(f"a join whose row is in memory: {cost_in_memory():.1f} µs of CPU")
    print(f"a version without views: {cost_without_views():.0f} ns a request")


if __name__ == "__main__":
    main()
