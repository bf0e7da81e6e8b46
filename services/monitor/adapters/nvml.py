"""This host's GPUs, by NVIDIA's management library (NVML), which comes with the driver."""

import contextlib
import ctypes
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import pynvml

from services.common.telemetry.logging import get_logger
from services.monitor.domain.gpus import GpuUse

log = get_logger(__name__)

T = TypeVar("T")


class _Process(Protocol):
    pid: int


class NvmlGpus:
    """A `GpuProbe`. Without a driver there are no GPUs; with one that stops answering there are none until it does."""

    def __init__(self, library: Path | None = None) -> None:
        """`library`: where NVML is, if the loader does not find it by its name."""
        self._library = library
        self._started = False
        self._said = ""

    def sample(self) -> Sequence[GpuUse]:
        """All GPUs now, in the driver's order."""
        try:
            if not self._started:
                self._load()
                pynvml.nvmlInit()
                self._started = True
            found = [_use(index) for index in range(pynvml.nvmlDeviceGetCount())]
        except (pynvml.NVMLError, OSError) as error:
            self._missing(error)
            return ()
        self._said = ""
        return found

    def close(self) -> None:
        """Lets go of the driver."""
        if self._started:
            self._started = False
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()

    def _load(self) -> None:
        # pynvml asks for the library by its name alone, which then is the one that is loaded already.
        if self._library is not None:
            ctypes.CDLL(str(self._library))

    def _missing(self, error: Exception) -> None:
        # A reset driver forgets who began: the next sample begins anew.
        self.close()
        if (words := str(error)) != self._said:
            self._said = words
            log.info("GPUs are not read", why=words)


def _use(index: int) -> GpuUse:
    gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
    rates = _known(lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu))
    memory = _known(lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu))
    processes: Sequence[_Process] = _known(lambda: pynvml.nvmlDeviceGetComputeRunningProcesses(gpu)) or ()
    return GpuUse(
        index=index,
        uuid=pynvml.nvmlDeviceGetUUID(gpu),
        name=pynvml.nvmlDeviceGetName(gpu),
        utilization_percent=None if rates is None else float(rates.gpu),
        memory_used_bytes=None if memory is None else int(memory.used),
        memory_total_bytes=None if memory is None else int(memory.total),
        pids=frozenset(int(process.pid) for process in processes),
    )


def _known(ask: Callable[[], T]) -> T | None:
    """What the driver answers; None where this GPU does not have it, or this process may not see it."""
    try:
        return ask()
    except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_NoPermission):
        return None
