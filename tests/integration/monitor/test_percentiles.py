"""Percentiles of many batchers' requests over days, by the monitor's own answers over PostgreSQL, against all requests
at once; and for how long they are kept."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import numpy.typing as npt
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.monitor.v1 import model_metrics_pb2, monitor_service_pb2

from services.common.database import create_engine
from services.monitor.adapters.postgres_rollup import PostgresRollupStore
from services.monitor.domain.sketch import GROWTH
from services.monitor.engines.keeper import RollupKeeper
from services.monitor.settings import MonitorSettings
from services.monitor.wiring import build
from tests.integration.monitor.conftest import RunningMonitor
from tests.support.clock import ShiftedClock
from tests.support.monitor_log import group_message, message

ERROR = (GROWTH - 1) / 2
BATCHERS = 3
DAYS = 3
STEPS = {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}


@dataclass(frozen=True)
class Answered:
    """A request of a version, and when it was answered."""

    version: str
    at: datetime
    latency_us: int


def stamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


@asynccontextmanager
async def running(settings: MonitorSettings, clock: ShiftedClock) -> AsyncIterator[RunningMonitor]:
    monitor = build(settings, clock=clock)
    await monitor.lifecycle.start()
    made = RunningMonitor(monitor)
    try:
        yield made
    finally:
        await made.stop()


async def roll_up(settings: MonitorSettings, clock: ShiftedClock) -> int:
    engine = create_engine(settings.database_url.get_secret_value(), schema="monitor")
    try:
        return await RollupKeeper(store=PostgresRollupStore(engine), clock=clock).keep()
    finally:
        await engine.dispose()


def requests_of_a_day(random: np.random.Generator, until: datetime) -> list[Answered]:
    """Requests of the hours before a moment, with latencies of a heavy tail."""
    size = 400
    latencies = np.clip(2_000 * (1 + random.pareto(1.1, size)), 1, 2**32 - 1).astype(np.int64)
    seconds = random.integers(1, 20 * 3600, size)
    versions = random.choice(["v1.0.0", "v2.0.0"], size, p=[0.9, 0.1])
    return [
        Answered(str(version), until - timedelta(seconds=int(second)), int(latency))
        for version, second, latency in zip(versions, seconds, latencies, strict=True)
    ]


async def send(monitor: RunningMonitor, answered: Sequence[Answered], day: int, random: np.random.Generator) -> None:
    """Each batcher tells of its share, in chunks of some dozen requests, a group for each version and minute."""
    batchers = random.integers(0, BATCHERS, len(answered))
    for batcher in range(BATCHERS):
        mine = [answered[place] for place in np.flatnonzero(batchers == batcher).tolist()]
        chunks = [mine[first : first + 50] for first in range(0, len(mine), 50)]
        messages = [
            message(
                number,
                *(group_message([one.latency_us], at=one.at, version=one.version) for one in chunk),
                batcher_id=f"batcher-{day}-{batcher}",
            )
            for number, chunk in enumerate(chunks, start=1)
        ]
        assert await monitor.send(*messages) == len(messages)


def check(figures: model_metrics_pb2.Metrics, latencies_us: npt.NDArray[np.int64], what: object) -> None:
    assert figures.request_count == len(latencies_us), what
    for share, got_ms in ((50, figures.latency.p50), (95, figures.latency.p95), (99, figures.latency.p99)):
        exact_ms = float(np.percentile(latencies_us, share, method="inverted_cdf")) / 1000
        # Answers are in milliseconds with three digits.
        assert abs(got_ms - exact_ms) <= ERROR * exact_ms + 0.000501, (what, share)
    assert figures.latency.avg == pytest.approx(float(latencies_us.mean()) / 1000, abs=0.000501), what


def within(answered: Sequence[Answered], version: str, first: datetime, end: datetime) -> npt.NDArray[np.int64]:
    return np.array(
        [one.latency_us for one in answered if version in ("", one.version) and first <= one.at < end], dtype=np.int64
    )


async def test_any_window_and_granularity_has_the_percentiles_of_all_its_requests(settings: MonitorSettings) -> None:
    random = np.random.default_rng(2024)
    clock = ShiftedClock()
    answered: list[Answered] = []
    async with running(settings, clock) as monitor:
        for day in range(DAYS):
            clock.ahead = timedelta(days=day)
            some = requests_of_a_day(random, clock.now() - timedelta(minutes=1))
            answered += some
            await send(monitor, some, day, random)
            if day == 1:
                # The third day stays in minutes, and what comes late for the second goes to minutes and hours.
                assert await roll_up(settings, clock) > 20
        await compare(monitor, answered, clock.now(), random)
        assert await roll_up(settings, clock) > 20
        await compare(monitor, answered, clock.now(), random)


async def compare(
    monitor: RunningMonitor, answered: Sequence[Answered], now: datetime, random: np.random.Generator
) -> None:
    """Windows of any length and edges, then every step of every granularity."""
    oldest = min(one.at for one in answered)
    whole_minute = now.replace(second=0, microsecond=0)
    span_minutes = (whole_minute - oldest) // timedelta(minutes=1)
    for _ in range(12):
        first, end = sorted(random.choice(span_minutes, 2, replace=False).tolist())
        begin, over = whole_minute - timedelta(minutes=end), whole_minute - timedelta(minutes=first)
        version = str(random.choice(["", "v1.0.0", "v2.0.0"]))
        expected = within(answered, version, begin, over)
        answer = await monitor.metrics.GetModelMetrics(
            monitor_service_pb2.GetModelMetricsRequest(
                model_name="digits", version=version, start_time=stamp(begin), end_time=stamp(over)
            )
        )
        if len(expected):
            check(answer.metrics, expected, (begin, over, version))
        else:
            assert answer.metrics.request_count == 0
    for granularity, length in STEPS.items():
        points = await all_points(monitor, granularity, oldest if granularity != "minute" else now - STEPS["day"], now)
        assert sum(point.metrics.request_count for point in points) == len(
            within(answered, "", points[0].start_time.ToDatetime(tzinfo=UTC), now)
        )
        for point in points:
            begin = point.start_time.ToDatetime(tzinfo=UTC)
            check(point.metrics, within(answered, "", begin, begin + length), (granularity, begin))


async def all_points(
    monitor: RunningMonitor, granularity: str, start: datetime, end: datetime
) -> list[model_metrics_pb2.MetricPoint]:
    found: list[model_metrics_pb2.MetricPoint] = []
    request = monitor_service_pb2.ListMetricPointsRequest(
        model_name="digits", granularity=granularity, start_time=stamp(start), end_time=stamp(end)
    )
    while True:
        answer = await monitor.metrics.ListMetricPoints(request)
        found.extend(answer.points)
        if not answer.next_page_token:
            return found
        request.page_token = answer.next_page_token


async def test_they_are_kept_for_ninety_days(settings: MonitorSettings) -> None:
    random = np.random.default_rng(7)
    clock = ShiftedClock(timedelta(days=-88))
    async with running(settings, clock) as monitor:
        answered = requests_of_a_day(random, clock.now() - timedelta(minutes=1))
        await send(monitor, answered, 0, random)
        clock.ahead += timedelta(hours=2)
        await roll_up(settings, clock)
    latencies = np.array([one.latency_us for one in answered], dtype=np.int64)
    for ahead, kept in ((timedelta(), True), (timedelta(days=3), False)):
        clock.ahead = ahead
        # A start looks after the partitions before anything else.
        async with running(settings, clock) as monitor:
            now = clock.now()
            answer = await monitor.metrics.GetModelMetrics(
                monitor_service_pb2.GetModelMetricsRequest(
                    model_name="digits", start_time=stamp(now - timedelta(days=90)), end_time=stamp(now)
                )
            )
            if kept:
                check(answer.metrics, latencies, "after 89 days")
            else:
                assert answer.metrics.request_count == 0
