"""Samples of what hosts use, in PostgreSQL, summed up by minute."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.figures import Usage
from services.monitor.domain.window import minute_start

_ADD = text("""
    INSERT INTO host_usage AS usage
        (host, "timestamp", sample_count, cpu_percent_sum, memory_percent_sum, gpu_utilization_sum)
    VALUES (:host, :moment, 1, :cpu, :memory, :gpu)
    ON CONFLICT ("timestamp", host) DO UPDATE SET
        sample_count = usage.sample_count + 1,
        cpu_percent_sum = usage.cpu_percent_sum + :cpu,
        memory_percent_sum = usage.memory_percent_sum + :memory,
        gpu_utilization_sum = usage.gpu_utilization_sum + :gpu
""")
_AVERAGE = text("""
    SELECT sum(cpu_percent_sum) / sum(sample_count), sum(memory_percent_sum) / sum(sample_count),
           sum(gpu_utilization_sum) / sum(sample_count)
    FROM host_usage WHERE "timestamp" >= :first AND "timestamp" < :end
""")
_FORGET = text('DELETE FROM host_usage WHERE "timestamp" < :before')


class PostgresUsageStore:
    """A `UsageStore`."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, host: str, minute: int, usage: Usage) -> None:
        """Adds one sample to its minute."""
        values = {
            "host": host,
            "moment": minute_start(minute),
            "cpu": usage.cpu_percent,
            "memory": usage.memory_percent,
            "gpu": usage.gpu_utilization,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_ADD, values)

    async def average(self, first: int, end: int) -> Usage:
        """The mean over hosts and minutes; zeros without samples."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(_AVERAGE, {"first": minute_start(first), "end": minute_start(end)})
            cpu, memory, gpu = found.one()
        return Usage(cpu or 0.0, memory or 0.0, gpu or 0.0)

    async def forget(self, before: int) -> None:
        """Removes what is older."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"before": minute_start(before)})
