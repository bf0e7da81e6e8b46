"""A monitor over a real PostgreSQL, and a batcher's end of the log."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from infermesh.monitor.v1 import (
    evidence_service_pb2_grpc,
    monitor_service_pb2_grpc,
    prediction_log_pb2,
    prediction_log_pb2_grpc,
    rollout_event_service_pb2_grpc,
)
from pydantic import SecretStr

from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import Monitor, build

StartMonitor = Callable[[], Awaitable["RunningMonitor"]]


class RunningMonitor:
    """A started monitor and a channel to it."""

    def __init__(self, monitor: Monitor) -> None:
        self.monitor = monitor
        self.channel: grpc.aio.Channel = open_channel(f"127.0.0.1:{monitor.server.port}")
        self.metrics = monitor_service_pb2_grpc.MonitorServiceStub(self.channel)
        self.evidence = evidence_service_pb2_grpc.EvidenceServiceStub(self.channel)
        self.events = rollout_event_service_pb2_grpc.RolloutEventServiceStub(self.channel)
        self.log = prediction_log_pb2_grpc.PredictionLogServiceStub(self.channel)

    async def stop(self) -> None:
        """Drains and stops."""
        await self.channel.close()
        await self.monitor.lifecycle.stop()

    async def send(self, *chunks: prediction_log_pb2.RecordPredictionsRequest) -> int:
        """Sends chunks, ends its half of the stream, and returns the last acknowledgement."""

        async def requests() -> AsyncIterator[prediction_log_pb2.RecordPredictionsRequest]:
            for chunk in chunks:
                yield chunk

        acknowledged = -1
        async with asyncio.timeout(10):
            async for answer in self.log.RecordPredictions(requests()):
                acknowledged = answer.acknowledged_sequence
        return acknowledged


@pytest.fixture
def now() -> datetime:
    """A past moment that is well inside its minute, so that a test's requests share one: some seconds after it are past
    too, whenever a test starts."""
    return (SystemClock().now().astimezone(UTC) - timedelta(seconds=10)).replace(second=5, microsecond=0)


@pytest.fixture
def settings(database_url: str) -> MonitorSettings:
    """Settings of a monitor on free ports."""
    return MonitorSettings(
        port=0,
        metrics_port=0,
        database_url=SecretStr(database_url),
        flush_period_s=0.2,
        log_sample_rate=1.0,
        shutdown_grace_s=3.0,
        host_sample_period_s=1.0,
    )


@pytest.fixture
async def start_monitor(settings: MonitorSettings) -> AsyncIterator[StartMonitor]:
    """Starts monitors on the same database; stops them at the end."""
    async with AsyncExitStack() as stack:

        async def start() -> RunningMonitor:
            monitor = build(settings, clock=SystemClock())
            await monitor.lifecycle.start()
            running = RunningMonitor(monitor)
            stack.push_async_callback(running.stop)
            return running

        yield start


@pytest.fixture
async def monitor(start_monitor: StartMonitor) -> RunningMonitor:
    """One monitor."""
    return await start_monitor()
