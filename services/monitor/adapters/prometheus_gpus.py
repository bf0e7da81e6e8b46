"""What this host's GPUs do, for Prometheus; without samples where there are none."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily

from services.monitor.domain.gpus import GpuUse

_LABELS = ("host", "gpu", "uuid", "name")


def gpu_families(gpus: Sequence[GpuUse], *, host: str) -> Iterator[GaugeMetricFamily]:
    """A sample a GPU of what it says."""
    busy = GaugeMetricFamily(
        "host_gpu_utilization", "Share of the time in which a GPU computed, in percent", labels=_LABELS
    )
    used = GaugeMetricFamily("host_gpu_memory_used_bytes", "Memory of a GPU that is in use", labels=_LABELS)
    total = GaugeMetricFamily("host_gpu_memory_total_bytes", "Memory that a GPU has", labels=_LABELS)
    for gpu in gpus:
        labels = (host, str(gpu.index), gpu.uuid, gpu.name)
        for family, value in (
            (busy, gpu.utilization_percent),
            (used, gpu.memory_used_bytes),
            (total, gpu.memory_total_bytes),
        ):
            if value is not None:
                family.add_metric(labels, value)
    yield from (busy, used, total)
