"""The limiter's figures for Prometheus."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from services.limiter.engines.limits import Limiter


class LimiterCollector(Collector):
    """Reads what the limiter counts. Scrapes come on another thread: they read copies."""

    def __init__(self, registry: CollectorRegistry, limiter: Limiter) -> None:
        self._limiter = limiter
        registry.register(self)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts of this moment."""
        yield CounterMetricFamily(
            "limiter_unjudged",
            "Calls that were let through because Redis did not answer",
            value=self._limiter.unjudged,
        )
        calls = CounterMetricFamily(
            "limiter_calls",
            "Calls that were judged, by whose limit and what came of it",
            labels=("limit", "outcome"),
        )
        for (kind, allowed), count in dict(self._limiter.judged.by_kind).items():
            calls.add_metric((kind, "allowed" if allowed else "refused"), count)
        yield calls
        refused = CounterMetricFamily("limiter_refused", "Calls that a team's limit refused", labels=("team",))
        for team, count in dict(self._limiter.judged.refused).items():
            refused.add_metric((team,), count)
        yield refused
