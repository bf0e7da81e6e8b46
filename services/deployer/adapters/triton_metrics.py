"""How busy the GPUs of Triton servers are, by the servers' own metrics."""

import asyncio
from collections.abc import Mapping

import httpx
from prometheus_client.parser import text_string_to_metric_families

_TIMEOUT_S = 2.0
_METRIC = "nv_gpu_utilization"


class TritonGpuUsage:
    """A `GpuUsage`. Close it when done."""

    def __init__(self, metrics_addresses: Mapping[str, str]) -> None:
        self._addresses = metrics_addresses
        self._client = httpx.AsyncClient(
            trust_env=False, timeout=_TIMEOUT_S, limits=httpx.Limits(max_keepalive_connections=0, max_connections=16)
        )

    async def close(self) -> None:
        """Closes what is open."""
        await self._client.aclose()

    async def sample(self) -> Mapping[str, float]:
        """The mean of each server's GPUs."""
        names = list(self._addresses)
        found = await asyncio.gather(*(self._percent(self._addresses[name]) for name in names))
        return {name: percent for name, percent in zip(names, found, strict=True) if percent is not None}

    async def _percent(self, address: str) -> float | None:
        try:
            answer = await self._client.get(f"http://{address}/metrics")
            return gpu_percent(answer.text) if answer.status_code == httpx.codes.OK else None
        except (httpx.HTTPError, ValueError):
            return None


def gpu_percent(metrics: str) -> float | None:
    """The mean utilisation of all GPUs in a server's metrics; None where it reports none. Raises ValueError."""
    shares = [
        sample.value
        for family in text_string_to_metric_families(metrics)
        if family.name == _METRIC
        for sample in family.samples
    ]
    return 100 * sum(shares) / len(shares) if shares else None
