"""The memory of a Triton on this machine and of the models in it, from /proc."""

import asyncio
from collections.abc import Iterable

import psutil

from services.deployer.adapters.triton_processes import TritonProcesses
from services.deployer.domain.memory import ServerMemory


class TritonMemory:
    """A `MemoryMeter`."""

    def __init__(self, processes: TritonProcesses) -> None:
        self._processes = processes
        self._lock = asyncio.Lock()

    async def read(self, models: Iterable[str] | None = None) -> ServerMemory | None:
        """Of the server and of these models, or of all; None where it runs elsewhere, is down, or may not be looked
        at."""
        wanted = frozenset(models) if models is not None else None
        async with self._lock:
            return await asyncio.to_thread(self._read, wanted)

    def _read(self, wanted: frozenset[str] | None) -> ServerMemory | None:
        server, copies = self._processes.server(), self._processes.copies()
        if server is None or copies is None:
            return None
        own = _bytes_of(server)
        if own is None:
            return None
        asked = {name: found for name, found in copies.items() if wanted is None or name in wanted}
        return ServerMemory(own, {name: sum(_bytes_of(one) or 0.0 for one in found) for name, found in asked.items()})


def _bytes_of(process: psutil.Process) -> float | None:
    """Its proportional share of the memory: pages that several processes map count for each by its part."""
    try:
        return float(process.memory_full_info().pss)
    except psutil.Error:
        return None
