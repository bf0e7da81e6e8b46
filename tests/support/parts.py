"""Real parts for tests, started by the launchers that `make run` uses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process


def free_port() -> int:
    """A port that nothing listens on."""
    return free_ports(1)[0]


@asynccontextmanager
async def running(part: Part) -> AsyncIterator[Process]:
    """The part, started and ready; stopped at the end."""
    process = await Process.start(part, clock=SystemClock())
    try:
        await process.wait_ready()
        yield process
    finally:
        await process.stop()
