"""From sums to the figures that people read."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.monitor.domain.aggregate import Cell
from services.monitor.domain.measures import BY_CLASS, BY_CONFIDENCE, ERRORS, REQUESTS

CONFIDENCES = ("high", "medium", "low")


@dataclass(frozen=True)
class Figures:
    """The figures of one cell over `seconds` of time. Latencies are in milliseconds."""

    request_count: int
    error_count: int
    error_rate: float
    latency_p50_ms: float
    latency_p95_ms: float
    latency_p99_ms: float
    latency_avg_ms: float
    throughput_per_sec: float
    predictions_by_class: Mapping[str, float]
    predictions_by_confidence: Mapping[str, float]


@dataclass(frozen=True)
class Usage:
    """What hosts used on average, in percent of what they have."""

    cpu_percent: float = 0.0
    memory_percent: float = 0.0
    gpu_utilization: float | None = None
    """Share of the time in which the GPUs computed. None: there is none, or it cannot be read."""
    gpu_memory_percent: float | None = None


def figures(cell: Cell, *, seconds: float) -> Figures:
    """The figures of `cell`. All zero where it counted nothing."""
    requests = cell.counts[REQUESTS]
    errors = sum(_by_dimension(cell, ERRORS).values())
    latency = cell.latency
    confidences = _shares(_by_dimension(cell, BY_CONFIDENCE))
    return Figures(
        request_count=requests,
        error_count=errors,
        error_rate=errors / requests if requests else 0.0,
        latency_p50_ms=latency.quantile_us(0.50) / 1000,
        latency_p95_ms=latency.quantile_us(0.95) / 1000,
        latency_p99_ms=latency.quantile_us(0.99) / 1000,
        latency_avg_ms=latency.mean_us / 1000,
        throughput_per_sec=requests / seconds if seconds > 0 else 0.0,
        predictions_by_class=_shares(_by_dimension(cell, BY_CLASS)),
        # All three are shown as soon as one is known: a missing "low" would read as not measured.
        predictions_by_confidence={name: confidences.get(name, 0.0) for name in CONFIDENCES} if confidences else {},
    )


def _by_dimension(cell: Cell, name: str) -> dict[str, int]:
    return {value: count for (measure, value), count in sorted(cell.counts.items()) if measure == name}


def _shares(counts: Mapping[str, int]) -> dict[str, float]:
    total = sum(counts.values())
    return {value: count / total for value, count in counts.items()} if total else {}
