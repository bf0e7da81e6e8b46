"""Keeps the house: partitions ahead of time, nothing past its retention, and samples of what the host uses."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.monitor.domain.figures import Usage
from services.monitor.domain.gpus import GpuUse, memory_percent, utilization_of, utilization_percent
from services.monitor.domain.partitions import PartitionedTable, plan
from services.monitor.domain.rollup import HOURS_A_ROUND_MAX, hours_due
from services.monitor.domain.window import minute_of
from services.monitor.ports import Board, GpuProbe, HostProbe, ModelProbe, PartitionStore, RollupStore, UsageStore

log = get_logger(__name__)

_PARTITIONS_PERIOD_S = 600.0
_ROLLUP_PERIOD_S = 300.0
_HOUSEKEEPING_PERIOD_S = 60.0
_FIRST_SAMPLE_S = 1.0


class PartitionKeeper:
    """Makes daily partitions before they are needed and drops those past retention."""

    def __init__(self, *, store: PartitionStore, tables: Sequence[PartitionedTable], clock: Clock) -> None:
        self._store = store
        self._tables = tables
        self._clock = clock

    async def keep(self) -> None:
        """One round. Raises MeshError where the database does not answer."""
        today = self._clock.now().date()
        for table in self._tables:
            todo = plan(table, await self._store.existing(table.name), today=today)
            for day in todo.create:
                await self._store.create(table.name, table.partition(day), day)
            for partition in todo.drop:
                await self._store.drop(partition)
                log.info("partition dropped: past retention", partition=partition, days=table.retention_days)

    async def run(self) -> None:
        """A round every ten minutes; there is room for days of failures."""
        while True:
            await self._clock.sleep(_PARTITIONS_PERIOD_S)
            try:
                await self.keep()
            except MeshError as error:
                log.warning("partitions not looked after; tried again later", reason=error.message)


class Housekeeper:
    """Lets the other engines remove what they need no more, one after the other, every minute."""

    def __init__(self, *, jobs: Mapping[str, Callable[[], Awaitable[None]]], clock: Clock) -> None:
        self._jobs = jobs
        self._clock = clock

    async def keep(self) -> None:
        """One round. What fails does not keep the others from their turn; it is tried again in the next round."""
        for name, job in self._jobs.items():
            try:
                await job()
            except MeshError as error:
                log.warning("housekeeping failed; tried again later", job=name, reason=error.message)

    async def run(self) -> None:
        """A round every minute."""
        while True:
            await self._clock.sleep(_HOUSEKEEPING_PERIOD_S)
            await self.keep()


class RollupKeeper:
    """Rolls up hours once they have settled, so that long windows need not be added up from minutes."""

    def __init__(self, *, store: RollupStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def keep(self) -> int:
        """One round; how many hours it rolled up. Raises MeshError where the database does not answer."""
        until = await self._store.until()
        due = hours_due(until=until, now=minute_of(self._clock.now())) if until else range(0)
        for hour in due:
            await self._store.roll_up(hour)
        return len(due)

    async def run(self) -> None:
        """A round every five minutes, at once after a full one: there may be more."""
        while True:
            try:
                if await self.keep() == HOURS_A_ROUND_MAX:
                    continue
            except MeshError as error:
                log.warning("hours not rolled up; tried again later", reason=error.message)
            await self._clock.sleep(_ROLLUP_PERIOD_S)


class HostWatch:
    """Samples what this host and its GPUs use, for `resource_usage`, and what each model uses on it, for Prometheus."""

    def __init__(
        self,
        *,
        probe: HostProbe,
        models: ModelProbe,
        gpus: GpuProbe,
        board: Board,
        store: UsageStore,
        host: str,
        period_s: float,
        retention_days: int,
        clock: Clock,
    ) -> None:
        self._probe = probe
        self._models = models
        self._gpus = gpus
        self._board = board
        self._store = store
        self._host = host
        self._period_s = period_s
        self._retention = timedelta(days=retention_days)
        self._clock = clock

    async def run(self) -> None:
        """A sample every period; once a day's worth of samples, forgets the old ones."""
        self._probe.sample()  # the first one has nothing to compare with
        taken = 0
        while True:
            models, gpus = await asyncio.to_thread(lambda: (self._models.sample(), self._gpus.sample()))
            self._board.gpus(gpus)
            self._board.models([replace(use, gpu_utilization=utilization_of(use.pids, gpus)) for use in models])
            # The first one soon, so that a mesh that has just started has figures.
            await self._clock.sleep(self._period_s if taken else min(_FIRST_SAMPLE_S, self._period_s))
            try:
                await self._keep(
                    _with_gpus(self._probe.sample(), gpus), forget=taken % max(1, round(86_400 / self._period_s)) == 0
                )
            except MeshError as error:
                log.warning("a sample of the host's usage is lost", reason=error.message)
            taken += 1

    async def _keep(self, usage: Usage, *, forget: bool) -> None:
        now = self._clock.now()
        await self._store.add(self._host, minute_of(now), usage)
        if forget:
            await self._store.forget(minute_of(now - self._retention))


def _with_gpus(usage: Usage, gpus: Sequence[GpuUse]) -> Usage:
    return replace(usage, gpu_utilization=utilization_percent(gpus), gpu_memory_percent=memory_percent(gpus))
