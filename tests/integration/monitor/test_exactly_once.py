"""What was acknowledged is counted once, whatever dies or reconnects."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from infermesh.monitor.v1 import monitor_service_pb2, prediction_log_pb2, prediction_log_pb2_grpc

from services.common.clock import SystemClock
from services.common.database import create_engine
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.engines.keeper import PartitionKeeper
from services.supervisor.parts.part import Part
from services.supervisor.parts.probes import grpc_ready
from services.supervisor.process import Process
from tests.integration.monitor.conftest import RunningMonitor, StartMonitor
from tests.support.monitor_log import group_message, message
from tests.support.parts import free_port
from tests.support.waiting import eventually

Request = prediction_log_pb2.RecordPredictionsRequest


def counted(database_url: str) -> int:
    with psycopg.connect(database_url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(metric_value), 0)::bigint, (SELECT coalesce(sum(request_count), 0)::bigint"
            " FROM monitor.latency_sketches) FROM monitor.model_metrics WHERE metric_name = 'request_count'"
        ).fetchone()
    assert row is not None
    assert row[0] == row[1], "counts and sketches are stored together"
    return int(row[0])


async def test_a_chunk_sent_again_is_acknowledged_and_not_counted(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    chunks = [message(sequence, group_message([1000] * 10, at=now)) for sequence in (1, 2)]
    assert await monitor.send(*chunks) == 2
    assert await monitor.send(*chunks, message(3, group_message([1000], at=now))) == 3
    assert counted(database_url) == 21


async def test_a_restarted_batcher_begins_a_new_epoch(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    chunk = group_message([1000] * 10, at=now)
    assert await monitor.send(message(1, chunk)) == 1
    assert await monitor.send(message(1, chunk, epoch=now)) == 1
    assert counted(database_url) == 20


async def test_two_connections_of_one_batcher_count_once(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    chunks = [message(sequence, group_message([1000], at=now)) for sequence in range(1, 51)]
    one, other = await asyncio.gather(monitor.send(*chunks), monitor.send(*chunks))
    assert (one, other) == (50, 50)
    assert counted(database_url) == 50


async def test_another_monitor_taking_over_counts_once(
    start_monitor: StartMonitor, now: datetime, database_url: str
) -> None:
    one, other = await start_monitor(), await start_monitor()
    chunks = [message(sequence, group_message([1000], at=now)) for sequence in range(1, 6)]
    assert await one.send(*chunks[:2]) == 2
    assert await other.send(*chunks) == 5
    # The first one remembers position 2: it looks again before it says so.
    assert await one.send(message(6, group_message([1000], at=now))) == 6
    assert counted(database_url) == 6


async def test_a_connection_that_outlived_another_monitors_turn_ends_and_counts_nothing(
    start_monitor: StartMonitor, now: datetime, database_url: str
) -> None:
    one, other = await start_monitor(), await start_monitor()
    chunks = [message(sequence, group_message([1000], at=now)) for sequence in range(1, 6)]
    taken_over = asyncio.Event()

    async def requests() -> AsyncIterator[Request]:
        yield chunks[0]
        await taken_over.wait()
        yield message(6, group_message([1000], at=now))

    answers = aiter(one.log.RecordPredictions(requests()))
    while (await anext(answers)).acknowledged_sequence < 1:
        pass
    assert await other.send(*chunks) == 5
    taken_over.set()
    with pytest.raises(MeshError, match="send from the last acknowledgement on"):
        await anext(answers)
    assert counted(database_url) == 5


async def test_a_stop_stores_and_acknowledges_what_came(
    start_monitor: StartMonitor, now: datetime, database_url: str
) -> None:
    monitor = await start_monitor()
    hold = asyncio.Event()

    async def requests() -> AsyncIterator[Request]:
        yield message(1, group_message([1000] * 7, at=now))
        await hold.wait()

    answers = aiter(monitor.log.RecordPredictions(requests()))
    acknowledged = [(await anext(answers)).acknowledged_sequence]
    stopping = asyncio.create_task(monitor.monitor.lifecycle.stop())
    acknowledged.append((await anext(answers)).acknowledged_sequence)
    with pytest.raises(MeshError) as caught:
        await anext(answers)
    hold.set()
    await stopping
    assert caught.value.reason is Reason.SHUTTING_DOWN
    assert acknowledged == [0, 1]
    assert counted(database_url) == 7


async def test_an_ununderstood_group_does_not_stop_the_log(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    bad_name = group_message([1000], at=now, model="No Such Name")
    bad_columns = group_message([1000], at=now, codes=[0, 0, 0])
    assert await monitor.send(message(1, bad_name, bad_columns, group_message([1000], at=now))) == 1
    assert counted(database_url) == 1


async def test_a_database_that_is_away_costs_time_and_nothing_else(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    assert await monitor.send(message(1, group_message([1000], at=now))) == 1
    server_url, _, database = database_url.replace("+psycopg", "").rpartition("/")
    with psycopg.connect(f"{server_url}/postgres", autocommit=True) as admin:
        admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS false')
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [database])
        sending = asyncio.create_task(monitor.send(message(2, group_message([1000] * 5, at=now))))
        await eventually(lambda: monitor.monitor.lifecycle.unready() == ["database takes the log"])
        assert not sending.done()
        with pytest.raises(MeshError) as caught:
            await monitor.metrics.GetModelMetrics(monitor_service_pb2.GetModelMetricsRequest(model_name="digits"))
        assert caught.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        admin.execute(f'ALTER DATABASE "{database}" ALLOW_CONNECTIONS true')
    assert await sending == 2
    assert counted(database_url) == 6
    assert monitor.monitor.lifecycle.unready() == []


async def test_a_missing_partition_holds_the_log_until_it_is_made(
    monitor: RunningMonitor, now: datetime, database_url: str
) -> None:
    tables = [PartitionedTable("model_metrics", 90)]
    with psycopg.connect(database_url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(f'DROP TABLE monitor."{tables[0].partition(now.date())}"')
    sending = asyncio.create_task(monitor.send(message(1, group_message([1000], at=now))))
    await eventually(lambda: monitor.monitor.lifecycle.unready() == ["database takes the log"])
    engine = create_engine(database_url, schema="monitor")
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=tables, clock=SystemClock()).keep()
    await engine.dispose()
    assert await sending == 1
    assert counted(database_url) == 1


@asynccontextmanager
async def monitor_process(database_url: str, tmp_path: Path, port: int) -> AsyncIterator[Process]:
    """`python -m services.monitor`, ready."""
    part = Part(
        name="monitor",
        argv=(sys.executable, "-m", "services.monitor"),
        env={
            "PATH": os.defpath,
            "INFERMESH_MONITOR_PORT": str(port),
            "INFERMESH_MONITOR_METRICS_PORT": "0",
            "INFERMESH_MONITOR_DATABASE_URL": database_url,
            "INFERMESH_MONITOR_FLUSH_PERIOD_S": "0.1",
        },
        cwd=tmp_path,
        ports={"grpc": port},
        ready=grpc_ready("127.0.0.1", port),
        ready_timeout_s=20,
        log_path=tmp_path / "monitor.log",
    )
    process = await Process.start(part, clock=SystemClock())
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.stop()


async def test_killed_and_restarted_nothing_is_lost_nor_counted_twice(
    now: datetime, database_url: str, tmp_path: Path
) -> None:
    port, chunk_count = free_port(), 200
    acknowledged = 0

    async def send_rest(*, kill_at: int, process: Process) -> None:
        """Sends what is not acknowledged, as a batcher does; kills the monitor once it acknowledged enough."""
        nonlocal acknowledged

        async def requests() -> AsyncIterator[Request]:
            for sequence in range(acknowledged + 1, chunk_count + 1):
                yield message(sequence, group_message([1000] * 3, at=now))
                await asyncio.sleep(0.002)

        async with open_channel(f"127.0.0.1:{port}") as channel:
            stub = prediction_log_pb2_grpc.PredictionLogServiceStub(channel)
            async for answer in stub.RecordPredictions(requests()):
                acknowledged = answer.acknowledged_sequence
                if kill_at <= acknowledged < chunk_count:
                    os.kill(process.pid, signal.SIGKILL)

    for kill_at in (20, 90, chunk_count):
        async with monitor_process(database_url, tmp_path, port) as process:
            with suppress(MeshError):
                await send_rest(kill_at=kill_at, process=process)
        assert acknowledged >= kill_at
    assert acknowledged == chunk_count
    assert counted(database_url) == 3 * chunk_count
