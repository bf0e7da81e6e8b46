"""CPU that models use on the Tritons of this machine, out of /proc."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from services.common.clock import Clock
from services.deployer.adapters.triton_processes import TritonProcesses
from services.deployer.domain.usage import CopyUse


@dataclass(frozen=True, slots=True)
class _Read:
    at_s: float
    cpu_s: float


class ProcCopyUsage:
    """A `CopyUsage`. What a copy's own children use does not count."""

    def __init__(self, http_addresses: Mapping[str, str], *, clock: Clock) -> None:
        self._clock = clock
        self._servers = {name: TritonProcesses(address) for name, address in http_addresses.items()}
        self._before: dict[psutil.Process, _Read] = {}

    async def sample(self) -> Mapping[str, Mapping[str, CopyUse]]:
        """Since the sample before; one at a time."""
        return await asyncio.to_thread(self._sample)

    def _sample(self) -> Mapping[str, Mapping[str, CopyUse]]:
        found: dict[str, dict[str, CopyUse]] = {}
        reads: dict[psutil.Process, _Read] = {}
        for server, processes in self._servers.items():
            copies = processes.copies()
            if copies is None:
                continue
            models = found.setdefault(server, {})
            for model, running in copies.items():
                for process in running:
                    try:
                        times = process.cpu_times()
                    except psutil.Error:
                        continue
                    reads[process] = read = _Read(self._clock.monotonic(), times.user + times.system)
                    models[model] = _plus(models.get(model, CopyUse()), self._before.get(process), read)
        self._before = reads
        return found


def _plus(use: CopyUse, before: _Read | None, read: _Read) -> CopyUse:
    # Of a process that was not there before, most of its time went into loading.
    if before is None or read.at_s <= before.at_s:
        return use
    cores = (read.cpu_s - before.cpu_s) / (read.at_s - before.at_s)
    return CopyUse(use.cores + cores, use.copies + 1)
