"""What the evidence on rollouts costs the monitor: taking the log, storing it, reading a hundred windows, outcomes.

Run with `python -m benchmarks.evidence_cost`; it starts a PostgreSQL of its own, with durable commits as in production.
"""

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from infermesh.monitor.v1 import (
    evidence_pb2,
    evidence_service_pb2_grpc,
    prediction_log_pb2,
    prediction_log_pb2_grpc,
)
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.grpc.channel import open_channel
from services.monitor.adapters.postgres_evidence import PostgresEvidenceStore
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_outcomes import PostgresOutcomeStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.domain.evidence import WatchKey
from services.monitor.domain.outcomes import Outcome, OutcomeKey
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.records import Group, Labels, StreamKey
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.engines.stream import RecorderLimits, Stream
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import build
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.process import Process
from tests.support.monitor_log import group_message, message
from tests.support.parts import free_port

LIMITS = RecorderLimits(flush_period_s=2.0, cells_max=4096, rows_max=20_000, sample_rate=0.01)
TABLES = tuple(
    PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs", "prediction_labels")
)
WATCHES, MINUTES, LAGS = 100, 75, 15


def group(size: int, *, at_us: int, model: str = "digits", version: str = "v1.0.0", labelled: bool = False) -> Group:
    """Requests within a quarter of a second, with latencies as of a small model."""
    draw = np.random.default_rng(7)
    zeros = np.zeros(size, dtype=np.int64)
    return Group(
        model=model,
        version=version,
        deployment="main",
        times_us=at_us + np.arange(size, dtype=np.int64) * 250_000 // size,
        latencies_us=draw.lognormal(8.5, 0.4, size).astype(np.int64),
        rows=zeros + 1,
        codes=zeros,
        reasons=zeros,
        kinds=zeros,
        request_ids=[f"{at_us:x}-{place:08x}-{model}" for place in range(size)],
        users=[],
        teams=[],
        input_hashes=[],
        outputs=[],
        trace_ids=[],
        by_class={str(name): size // 10 for name in range(10)},
        by_confidence={"high": size},
        compute_us=zeros + 500,
        labels=[Labels([str(place % 10)]) for place in range(size)] if labelled else [],
    )


def now_us() -> int:
    """The present moment in microseconds."""
    return int(SystemClock().now().timestamp() * 1_000_000)


def cpu_us_each(work: Callable[[], object], *, times: int) -> float:
    """CPU of this process for each call, in microseconds."""
    work()
    began = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - began) / times * 1e6


def taking() -> None:
    """CPU for counting chunks in memory."""
    for size in (100, 2000):
        for labelled in (False, True):
            found, stream = group(size, at_us=now_us(), labelled=labelled), Stream(StreamKey("b", 1), 0, 0)

            def take(found: Group = found, stream: Stream = stream) -> None:
                stream.waiting.predictions.clear()
                stream.waiting.rows.clear()
                stream.waiting.add(found, now_us=found.times_us[-1].item(), reason_name=str, limits=LIMITS)

            each = cpu_us_each(take, times=200) / size
            print(f"taking a chunk of {size}{' with labels' if labelled else ''}: {each:.2f} us of CPU a request")


async def storing(engine: AsyncEngine) -> None:
    """How fast requests are stored, with labels and without."""
    store, sequence = PostgresLogStore(engine), 0
    for labelled in (False, True):
        began_s, cpu_s, count = time.monotonic(), time.process_time(), 0
        for turn in range(20):
            stream = Stream(StreamKey("storing", 1), received=sequence + 1, durable=sequence)
            for place in range(4):
                found = group(2500, at_us=now_us() + turn * 1_000_000 + place, labelled=labelled)
                stream.waiting.add(found, now_us=now_us(), reason_name=str, limits=LIMITS)
                count += 2500
            batch = stream.to_store()
            assert batch is not None
            await store.apply(batch)
            sequence += 1
        wall_s = time.monotonic() - began_s
        cpu = (time.process_time() - cpu_s) / count * 1e6
        kind = "with labels" if labelled else "without labels"
        print(f"taking and storing {kind}: {count / wall_s:,.0f} requests/s, {cpu:.1f} us of CPU of the monitor each")


async def watching(engine: AsyncEngine) -> None:
    """What a read of up to a hundred windows takes."""
    store, evidence = PostgresLogStore(engine), PostgresEvidenceStore(engine)
    now = SystemClock().now()
    start = now.replace(microsecond=0) - timedelta(minutes=MINUTES)
    models = [f"model-{place}" for place in range(WATCHES)]
    keys = [WatchKey(model, start) for model in models]
    for key in keys:
        # As the router does when the stage begins.
        await evidence.register(key, now=start)
    for minute in range(MINUTES):
        stream = Stream(StreamKey("watching", 1), received=minute + 1, durable=minute)
        for model in models:
            for version in ("v1.0.0", "v2.0.0"):
                at_us = int((start + timedelta(minutes=minute, seconds=20)).timestamp() * 1e6)
                found = group(50, at_us=at_us, model=model, version=version)
                stream.waiting.add(found, now_us=now_us(), reason_name=str, limits=LIMITS)
        batch = stream.to_store()
        assert batch is not None
        await store.apply(batch)
    for count in (1, 10, WATCHES):
        began_s = time.monotonic()
        await evidence.read(keys[:count], now=now)
        first_s = time.monotonic() - began_s
        walls = []
        cpu_s = time.process_time()
        for _ in range(5):
            began_s = time.monotonic()
            await evidence.read(keys[:count], now=now)
            walls.append(time.monotonic() - began_s)
        cpu = (time.process_time() - cpu_s) / 5 * 1000
        print(f"reading {count} windows of {MINUTES} minutes and 2 versions: {sorted(walls)[2] * 1000:.0f} ms "
              f"({first_s * 1000:.0f} ms the first time), {cpu:.0f} ms of CPU of the monitor")  # fmt: skip


async def reporting(engine: AsyncEngine) -> None:
    """How fast outcomes are taken."""
    store, draw = PostgresOutcomeStore(engine), random.Random(7)
    found = group(2500, at_us=now_us(), model="reported", labelled=True)
    stream = Stream(StreamKey("reporting", 1), received=1, durable=0)
    stream.waiting.add(found, now_us=now_us(), reason_name=str, limits=LIMITS)
    batch = stream.to_store()
    assert batch is not None
    await PostgresLogStore(engine).apply(batch)
    now = datetime.now(UTC)  # noqa: TID251 - a benchmark is no service
    outcomes = [Outcome(OutcomeKey(name, 0), "3", {"ctr": draw.random()}, now) for name in found.request_ids]
    for size in (1, 1000):
        began_s, count = time.monotonic(), 0
        for first in range(0, 50 if size == 1 else len(outcomes), size):
            await store.report(outcomes[first : first + size], now=now)
            count += len(outcomes[first : first + size])
        print(f"outcomes reported {size} at a time: {count / (time.monotonic() - began_s):,.0f} a second")


async def lagging(url: str) -> None:
    """How long after a batcher sent a request a watch with the shortest period tells of it."""
    settings = MonitorSettings(port=0, metrics_port=0, database_url=SecretStr(url))
    monitor = build(settings, clock=SystemClock())
    await monitor.lifecycle.start()
    waits, sent_s = [], 0.0
    try:
        async with open_channel(f"127.0.0.1:{monitor.server.port}") as channel:
            start = SystemClock().now()
            request = evidence_pb2.WatchEvidenceRequest(model_name="lagging", versions=["v1.0.0"], period_s=1)
            request.start_time.FromDatetime(start)
            to_send: asyncio.Queue[prediction_log_pb2.RecordPredictionsRequest] = asyncio.Queue()

            async def chunks() -> AsyncIterator[prediction_log_pb2.RecordPredictionsRequest]:
                while True:
                    yield await to_send.get()

            log = prediction_log_pb2_grpc.PredictionLogServiceStub(channel).RecordPredictions(chunks())
            told = 0
            async for evidence in evidence_service_pb2_grpc.EvidenceServiceStub(channel).WatchEvidence(request):
                if evidence.versions[0].request_count < told:
                    continue
                if told:
                    waits.append(time.monotonic() - sent_s)
                if told == LAGS:
                    break
                told += 1
                await asyncio.sleep(random.random())
                chunk = group_message([1000], at=SystemClock().now(), model="lagging")
                to_send.put_nowait(message(told, chunk, epoch=start))
                sent_s = time.monotonic()
            log.cancel()
    finally:
        await monitor.lifecycle.stop()
    waits.sort()
    print(f"from a batcher's chunk to the evidence: median {waits[LAGS // 2]:.1f} s, longest {waits[-1]:.1f} s")


async def run(folder: Path) -> None:
    """All of it, one after the other."""
    taking()
    port = free_port()
    part = postgres_part(port=port, data_dir=folder / "data", log_path=folder / "postgres.log")
    process = await Process.start(part, clock=SystemClock())
    try:
        await process.wait_ready()
        url = database_url(port=port, password=read_password(folder / "data"), database="postgres")
        await migrate(url, service="monitor")
        engine = create_engine(url, schema="monitor")
        await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=SystemClock()).keep()
        await storing(engine)
        await watching(engine)
        await reporting(engine)
        await lagging(url)
        await engine.dispose()
    finally:
        await process.stop()


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))
