"""Prometheus' text forms, written piece by piece on the loop that carries the requests.

Written in one go, what 200 busy versions have to say would keep every request waiting for 0.15 s. Exemplars are part of
OpenMetrics alone, which Prometheus asks for.
"""

import asyncio
from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

_END = b"# EOF\n"


async def exposition(registry: CollectorRegistry, accept: str = "") -> tuple[bytes, str]:
    """All families, and the type of what was written: what `accept`, the header of whoever asks, prefers. Pieces of one
    family that follow each other are written as one."""
    encode, content_type = choose_encoder(accept)
    parts: list[bytes] = []
    name = ""
    for metric in registry.collect():
        text = encode(_One(metric)).removesuffix(_END)
        if metric.name == name:
            # Without the lines HELP and TYPE, which may be there once.
            text = text.split(b"\n", 2)[2]
        name = metric.name
        parts.append(text)
        await asyncio.sleep(0)
    if content_type.startswith("application/openmetrics-text"):
        parts.append(_END)
    return b"".join(parts), content_type


class _One(Collector):
    """A registry of one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        """The family."""
        yield self._metric
