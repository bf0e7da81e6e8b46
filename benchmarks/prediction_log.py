"""What the prediction log costs and takes: `python -m benchmarks.prediction_log [--rows 200000] [--searched 1000000]`.

CPU of the batcher for requests that are logged with hash and output and for those that are not; rows a second into
PostgreSQL over the monitor's own path, chunks as they are sent to rows that are acknowledged; and searches in a day of
many rows. It starts a PostgreSQL of its own, with durable commits as in production.
"""

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import statistics
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import grpc
from infermesh.common.v1 import error_reason_pb2
from infermesh.monitor.v1 import prediction_log_pb2
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batcher.adapters.prediction_log import PredictionLog
from services.batcher.domain.recording import Recording, Recordings
from services.batcher.domain.request import InferRequest, InferResult, Tensor
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable
from services.batcher.engines.features import Features
from services.batcher.faces.call import Call
from services.batcher.faces.caller import INSIDE
from services.batcher.faces.catalog import Catalog
from services.batcher.faces.core import Core
from services.common.clock import SystemClock
from services.common.database import create_engine, migrate
from services.common.sampling import threshold_of
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.monitor.adapters.postgres_log import PostgresLogStore
from services.monitor.adapters.postgres_log_search import PostgresLogReader
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.convert.log import chunk_from_proto, reason_name
from services.monitor.domain.log_search import LogQuery
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.monitor.engines.live import Live
from services.monitor.engines.recorder import Recorder
from services.monitor.engines.stream import RecorderLimits
from services.supervisor.parts.postgres import database_url, postgres_part, read_password
from services.supervisor.process import Process
from tests.support.monitor_log import message
from tests.support.monitor_stores import SilentBoard
from tests.support.parts import free_port

TABLES = tuple(
    PartitionedTable(name, 30) for name in ("model_metrics", "latency_sketches", "inference_logs", "prediction_labels")
)
_REQUESTS, _ROUNDS = 20_000, 9
_CHUNK = 900
_WIDTH = 64

POLICIES = {
    "without a policy": None,
    "with a policy, not sampled": Recording(threshold_of(0.0), input_hash=True, output=True),
    "logged with hash": Recording(threshold_of(1.0), input_hash=True),
    "logged with hash and output": Recording(threshold_of(1.0), input_hash=True, output=True),
}


class _Never:
    """An engine that is not asked."""

    async def infer(self, request: InferRequest) -> InferResult:
        raise AssertionError(request)


async def batcher_us(recording: Recording | None) -> tuple[float, float]:
    """Microseconds of CPU a request: what `Core.end` does of it, and making the columns that are sent."""
    clock = SystemClock()
    schema = ModelSchema(
        (TensorSpec("x", DataType.FP32, (_WIDTH,)),),
        (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
    )
    served = ServedVersion("digits", "v1.0.0", "main", schema, artifact_digest="0" * 64)
    catalog = Catalog()
    catalog.apply(ServingTable(1, {"digits": ServedModel("digits", "v1.0.0", {"v1.0.0": served})}))
    if recording is not None:
        catalog.record(Recordings({("digits", ""): recording}))
    plan = catalog.version(catalog.model("digits", INSIDE), "v1.0.0")
    inputs = (Tensor("x", DataType.FP32, (1, _WIDTH), bytes(4 * _WIDTH)),)
    outputs = (
        Tensor("label", DataType.INT64, (1,), bytes(8)),
        Tensor("probabilities", DataType.FP32, (1, 10), bytes(40)),
    )
    ends, cuts = [], []
    for _ in range(_ROUNDS):
        async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
            log = PredictionLog(channel, batcher_id="b", clock=clock, rows_max=10 * _REQUESTS, flush_s=1.0)
            core = Core(
                catalog=catalog,
                engine=_Never(),
                features=Features(stores={}, clock=clock),
                request_log=log,
                clock=clock,
                deadline_default_s=30.0,
                deadline_max_s=60.0,
            )
            calls = []
            for number in range(_REQUESTS):
                call = Call({}, arrived_s=clock.monotonic(), caller=INSIDE)
                call.model_name, call.plan, call.rows, call.request_id = "digits", plan, 1, f"req_0123456789-{number}"
                call.request = InferRequest(served, 1, inputs, 0.0, request_id=call.request_id)
                call.result = InferResult(outputs)
                core.begin(call)
                core.succeeded(call)
                calls.append(call)
            began_s = time.thread_time()
            for call in calls:
                core.end(call)
            ended_s = time.thread_time()
            await log.stop()
            ends.append((ended_s - began_s) / _REQUESTS * 1e6)
            cuts.append((time.thread_time() - ended_s) / _REQUESTS * 1e6)
    return statistics.median(ends), statistics.median(cuts)


def chunk_of(sequence: int, *, output: str) -> prediction_log_pb2.RecordPredictionsRequest:
    """A chunk as batchers cut them where outputs are logged: less than a megabyte of them."""
    now_us = int(SystemClock().now().timestamp() * 1_000_000)
    group = prediction_log_pb2.PredictionGroup(
        model_name="digits",
        version="v1.0.0",
        deployment_name="main",
        request_times_us=range(now_us, now_us + _CHUNK),
        request_latencies_us=[2000] * _CHUNK,
        request_rows=[1] * _CHUNK,
        request_codes=[0] * (_CHUNK - 5) + [13] * 5,
        request_reasons=[0] * (_CHUNK - 5) + [error_reason_pb2.ERROR_REASON_MODEL_FAILED] * 5,
        request_ids=[f"req_0123456789ab-{sequence}-{place}" for place in range(_CHUNK)],
        request_users=[f"user-{place % 50}" for place in range(_CHUNK)],
        request_input_hashes=[
            sequence.to_bytes(16, "little") + place.to_bytes(16, "little") for place in range(_CHUNK)
        ],
        request_outputs=[output] * _CHUNK,
    )
    return message(sequence, group)


def server_cpu_s(pid: int) -> float:
    """CPU of a PostgreSQL so far: of its first process, and of all that it started."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if str(pid) in {stat.parent.name, fields[1]}:
                ticks += int(fields[11]) + int(fields[12])
                # Of those that have ended: its own children's.
                ticks += int(fields[13]) + int(fields[14]) if stat.parent.name == str(pid) else 0
    return ticks / os.sysconf("SC_CLK_TCK")


async def storing(engine: AsyncEngine, rows: int, *, server: int) -> None:
    """From chunks as they come over the wire to the acknowledgement of the last. `server`: PostgreSQL's process."""
    output = json.dumps({"label": [3], "probabilities": [[round(0.1 + n * 1e-7, 7) for n in range(95)]]})
    limits = RecorderLimits(flush_period_s=2.0, cells_max=4096, rows_max=100_000, sample_rate=1.0)
    recorder = Recorder(
        store=PostgresLogStore(engine),
        live=Live(),
        board=SilentBoard(),
        clock=SystemClock(),
        reason_name=reason_name,
        limits=limits,
    )
    chunks = [chunk_of(place + 1, output=output).SerializeToString() for place in range(rows // _CHUNK)]
    session = await recorder.open(chunk_from_proto(chunk_of(1, output="")).stream)
    running = asyncio.create_task(recorder.run(), name="recorder")
    acknowledgements = session.acknowledgements()
    durable = await anext(acknowledgements)
    began_s, cpu_s, server_s = time.monotonic(), time.process_time(), server_cpu_s(server)
    for place, body in enumerate(chunks):
        await session.take(chunk_from_proto(prediction_log_pb2.RecordPredictionsRequest.FromString(body)))
        # As much as batchers have under way: then they wait for acknowledgements.
        while place - durable > 25_000 // _CHUNK:
            recorder.hurry()
            durable = await anext(acknowledgements)
    while durable < len(chunks):
        recorder.hurry()
        durable = await anext(acknowledgements)
    wall_s, cpu, server_cpu = time.monotonic() - began_s, time.process_time() - cpu_s, server_cpu_s(server) - server_s
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with engine.connect() as connection:
        found = int((await connection.execute(text("SELECT count(*) FROM inference_logs"))).scalar_one())
    assert found == len(chunks) * _CHUNK, found
    print(
        f"stored with hash and {len(output)} bytes of output: {found / wall_s:,.0f} rows/s "
        f"({found:,} rows, each once), {cpu / found * 1e6:.1f} us of CPU of the monitor and "
        f"{server_cpu / found * 1e6:.1f} us of PostgreSQL each, load {os.getloadavg()[0]:.0f}"
    )


async def searching(engine: AsyncEngine, rows: int) -> None:
    """How long pages of 50 take among so many rows of a day."""
    now = SystemClock().now()
    async with engine.begin() as connection:
        await connection.execute(text("SET LOCAL statement_timeout = 0"))
        await connection.execute(
            text("""
                INSERT INTO inference_logs (request_id, model_id, version_id, deployment_id, latency_ms, error_message,
                                            "timestamp", user_id)
                SELECT 'searched-' || n, 'model-' || n % 20, CASE WHEN n % 10000 < 20 THEN 'v2.0.0' ELSE 'v1.0.0' END,
                       'main', 1, CASE WHEN n % 1000 < 20 THEN 'MODEL_FAILED' END,
                       CAST(:now AS timestamptz) - n * interval '1 day' / :rows, 'user-' || n / 20 % 5000
                FROM generate_series(1, :rows) AS n
            """),
            {"now": now, "rows": rows},
        )
        await connection.execute(text("ANALYZE inference_logs"))
    reader, day = PostgresLogReader(engine), (now - timedelta(days=1), now)
    for name, query in {
        "newest": LogQuery("model-1", *day),
        "by version (1 in 500)": LogQuery("model-1", *day, version="v2.0.0"),
        "by user (1 in 5000)": LogQuery("model-1", *day, user_id="user-77"),
        "failed": LogQuery("model-1", *day, errors_only=True),
        "by request id": LogQuery("model-1", *day, request_id="searched-21"),
    }.items():
        walls = []
        for _ in range(6):
            began_s = time.monotonic()
            found = await reader.newest(query, before=None, limit=51)
            walls.append((time.monotonic() - began_s) * 1000)
        print(
            f"search {name} among {rows:,} rows: {statistics.median(walls[1:]):.1f} ms "
            f"({walls[0]:.1f} ms the first time), {len(found)} rows"
        )


async def _run(rows: int, searched: int) -> None:
    logging.disable(logging.WARNING)  # that there is no monitor is no news
    gc.freeze()
    for name, recording in POLICIES.items():
        end_us, cut_us = await batcher_us(recording)
        print(f"batcher, {name}: {end_us:.2f} us of CPU a request, {cut_us:.2f} us to send it")
    if not rows:
        return
    with tempfile.TemporaryDirectory() as folder:
        path, port = Path(folder) / "postgres", free_port()
        part = postgres_part(port=port, data_dir=path, log_path=Path(folder) / "postgres.log")
        process = await Process.start(part, clock=SystemClock())
        try:
            await process.wait_ready()
            url = database_url(port=port, password=read_password(path), database="postgres")
            await migrate(url, service="monitor")
            engine = create_engine(url, schema="monitor")
            await PartitionKeeper(store=PostgresPartitionStore(engine), tables=TABLES, clock=SystemClock()).keep()
            await storing(engine, rows, server=process.pid)
            if searched:
                await searching(engine, searched)
            await engine.dispose()
        finally:
            await process.stop()


def main() -> None:
    """Prints figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000, help="Rows to store; 0: none, and no search.")
    parser.add_argument("--searched", type=int, default=1_000_000, help="Rows to search in; 0: no search.")
    arguments = parser.parse_args()
    asyncio.run(_run(arguments.rows, arguments.searched))


if __name__ == "__main__":
    main()
