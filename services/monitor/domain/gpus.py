"""What GPUs do, and what that means for a host and for the versions whose processes run on them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class GpuUse:
    """What one GPU of a host does. None: the driver does not say, as of the utilisation of a divided GPU."""

    index: int
    uuid: str
    name: str
    utilization_percent: float | None = None
    """Share of the time in which it computed."""
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None
    pids: frozenset[int] = frozenset()
    """The processes that compute on it."""


def utilization_percent(gpus: Sequence[GpuUse]) -> float | None:
    """The mean of those that say it; None where none does, which is not the same as idle ones."""
    said = [gpu.utilization_percent for gpu in gpus if gpu.utilization_percent is not None]
    return sum(said) / len(said) if said else None


def memory_percent(gpus: Sequence[GpuUse]) -> float | None:
    """The memory in use of all of them together, in percent; None where none says it."""
    said = [
        (gpu.memory_used_bytes, gpu.memory_total_bytes)
        for gpu in gpus
        if gpu.memory_used_bytes is not None and gpu.memory_total_bytes
    ]
    total = sum(size for _, size in said)
    return 100 * sum(used for used, _ in said) / total if total else None


def utilization_of(pids: Collection[int], gpus: Sequence[GpuUse]) -> float | None:
    """The mean of the GPUs on which any of these processes computes; None where they compute on none that says it."""
    return utilization_percent([gpu for gpu in gpus if not gpu.pids.isdisjoint(pids)])
