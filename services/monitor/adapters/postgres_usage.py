"""Samples of what hosts use, in PostgreSQL, summed up by minute."""

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.monitor.adapters.database import transaction
from services.monitor.domain.figures import Usage
from services.monitor.domain.window import minute_start

_ADD = text("""
    INSERT INTO host_usage AS usage
        (host, "timestamp", sample_count, cpu_percent_sum, memory_percent_sum, gpu_sample_count, gpu_utilization_sum,
         gpu_memory_sample_count, gpu_memory_percent_sum)
    VALUES (:host, :moment, 1, :cpu, :memory, :gpus, :gpu, :gpu_memories, :gpu_memory)
    ON CONFLICT ("timestamp", host) DO UPDATE SET
        sample_count = usage.sample_count + 1,
        cpu_percent_sum = usage.cpu_percent_sum + :cpu,
        memory_percent_sum = usage.memory_percent_sum + :memory,
        gpu_sample_count = usage.gpu_sample_count + :gpus,
        gpu_utilization_sum = usage.gpu_utilization_sum + :gpu,
        gpu_memory_sample_count = usage.gpu_memory_sample_count + :gpu_memories,
        gpu_memory_percent_sum = usage.gpu_memory_percent_sum + :gpu_memory
""")
_AVERAGE = text("""
    SELECT sum(cpu_percent_sum) / sum(sample_count), sum(memory_percent_sum) / sum(sample_count),
           sum(gpu_utilization_sum) / nullif(sum(gpu_sample_count), 0),
           sum(gpu_memory_percent_sum) / nullif(sum(gpu_memory_sample_count), 0)
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
            "gpus": int(usage.gpu_utilization is not None),
            "gpu": usage.gpu_utilization or 0.0,
            "gpu_memories": int(usage.gpu_memory_percent is not None),
            "gpu_memory": usage.gpu_memory_percent or 0.0,
        }
        async with transaction(self._engine) as connection:
            await connection.execute(_ADD, values)

    async def average(self, first: int, end: int) -> Usage:
        """The mean over hosts and minutes; zeros without samples, and no GPU without those of one."""
        async with transaction(self._engine) as connection:
            found = await connection.execute(_AVERAGE, {"first": minute_start(first), "end": minute_start(end)})
            cpu, memory, gpu, gpu_memory = found.one()
        return Usage(cpu or 0.0, memory or 0.0, gpu, gpu_memory)

    async def forget(self, before: int) -> None:
        """Removes what is older."""
        async with transaction(self._engine) as connection:
            await connection.execute(_FORGET, {"before": minute_start(before)})
