"""Predictions while the monitor's database is slow or dead: none is late, none fails; what is dropped is counted."""

import secrets
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from infermesh.monitor.v1 import monitor_service_pb2

from services.common.clock import SystemClock
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.batcher_faces_calls import asking, digits_request, scraped
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

HELD_MAX = 200
ASKED = 600


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """A database that answers nobody who writes the log."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", "")) as connection:
        await connection.execute("LOCK TABLE monitor.log_streams IN ACCESS EXCLUSIVE MODE")
        yield


@asynccontextmanager
async def gone(url: str) -> AsyncIterator[None]:
    """A database that ends every connection and takes none."""
    plain = url.replace("+psycopg", "")
    name, other = plain.rpartition("/")[2], plain.rpartition("/")[0] + "/postgres"
    async with await psycopg.AsyncConnection.connect(other, autocommit=True) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false'.encode())
        await connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        try:
            yield
        finally:
            await connection.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true'.encode())


async def ask(stub: Any, count: int) -> list[float]:
    """Predictions one after the other, each within two seconds; how long each took."""
    clock, prefix, took = SystemClock(), secrets.token_hex(4), []
    for number in range(count):
        began_s = clock.monotonic()
        await stub.Predict(digits_request(request_id=f"{prefix}-{number}"), timeout=2.0)
        took.append(clock.monotonic() - began_s)
    return took


@pytest.mark.timeout(150)
@pytest.mark.parametrize("trouble", [locked, gone])
async def test_predictions_go_on_and_what_is_dropped_is_counted(
    monitor: RunningMonitor, database_url: str, tmp_path: Path, trouble: Any
) -> None:
    router, address = FakeRouter(full_table(served_model("v1.0.0"))), f"127.0.0.1:{monitor.monitor.server.port}"
    async with serving(router=router) as neighbours:
        part = batcher_part(
            tmp_path, router=neighbours, monitor=address, settings={"log_rows_max": HELD_MAX, "log_flush_ms": 20}
        )
        async with running(part), asking(part) as stub:
            await ask(stub, 50)
            await eventually(lambda: counted(monitor, 50), what="the log is stored")
            before = await ask(stub, 100)
            await eventually(lambda: counted(monitor, 150), what="the log is stored")
            async with trouble(database_url):
                during = await ask(stub, ASKED)
                metrics = await scraped(part)
                dropped = int(metrics["batcher_prediction_log_dropped_total"])
                assert dropped >= ASKED - HELD_MAX - 50, "no more is held than may be"
                assert metrics["batcher_prediction_log_held"] <= HELD_MAX
            usual, slow = statistics.median(before), statistics.median(during)
            print(f"{trouble.__name__}: {usual * 1000:.1f} ms before, {slow * 1000:.1f} ms during, {dropped} dropped")
            assert slow < 3 * usual + 0.01
            await eventually(lambda: counted(monitor, 150 + ASKED - dropped), timeout_s=60, what="the rest is stored")
            await ask(stub, 1)
            await eventually(lambda: told(monitor, dropped), timeout_s=60, what="what was dropped is told")
            await eventually(lambda: counted(monitor, 151 + ASKED - dropped), what="each once")


async def counted(monitor: RunningMonitor, requests: int) -> bool:
    answer = await monitor.metrics.GetModelMetrics(monitor_service_pb2.GetModelMetricsRequest(model_name="digits"))
    assert answer.metrics.request_count <= requests, "something was counted twice"
    return bool(answer.metrics.request_count == requests)


async def told(monitor: RunningMonitor, dropped: int) -> bool:
    health = await monitor.metrics.GetLogHealth(monitor_service_pb2.GetLogHealthRequest())
    return bool(health.stored and health.dropped_count == dropped)
