"""Memory over time: what each process holds, and whether it stays flat."""

import contextlib
import statistics
from collections.abc import Mapping, Sequence

import psutil

_SETTLING_SHARE = 0.2
"""The beginning of a run, in which caches and buffers fill; it is not judged."""
_ENDS_SHARE = 0.2
"""What is compared: this much after the settling with this much at the end."""
_MIB = 1024 * 1024


def resident_mib(pid: int) -> float:
    """Of a process and what it started, in MiB; 0 where it is gone."""
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / _MIB


def growth(samples: Sequence[float]) -> float:
    """How much larger the end is than the beginning, as a share of it; medians, after the settling.

    Raises ValueError with fewer than ten samples, or where the process was gone.
    """
    if len(samples) < 10:
        raise ValueError(f"{len(samples)} samples of memory are too few; let the soak run longer")
    if min(samples) <= 0:
        raise ValueError("a process was gone during the soak")
    judged = samples[int(len(samples) * _SETTLING_SHARE) :]
    ends = max(1, int(len(judged) * _ENDS_SHARE))
    return statistics.median(judged[-ends:]) / statistics.median(judged[:ends]) - 1


def columns(samples: Sequence[Mapping[str, float]]) -> Mapping[str, Sequence[float]]:
    """Samples by process, out of processes by sample; a process that a sample lacks held nothing then."""
    names = {name: None for sample in samples for name in sample}
    return {name: [sample.get(name, 0.0) for sample in samples] for name in names}
