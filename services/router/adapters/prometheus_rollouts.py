"""The router's figures of divided traffic and of rollouts, for Prometheus."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.router.domain.ab_test import AbTestStatus
from services.router.domain.canary import CanaryStatus
from services.router.domain.figures import parts, standing, verdicts
from services.router.domain.rollouts import PAUSED, RUNNING, Rollout, RolloutKind
from services.router.domain.rules import Rule


class RolloutCollector(Collector):
    """A `RolloutBoard`, and what is read off rules and rollouts when somebody scrapes: on another thread, so it takes
    copies first."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        rules: Callable[[], Mapping[str, Rule]],
        running: Callable[[], Mapping[str, Rollout]],
    ) -> None:
        self._rules = rules
        self._running = running
        self._ended = Counter(
            "router_rollouts_ended_total",
            "Rollouts that this router ended, by kind and by how",
            ("kind", "status"),
            registry=registry,
        )
        # What has not happened yet is shown as 0: without, the first of each would be no growth to Prometheus.
        for canary in (CanaryStatus.PROMOTED, CanaryStatus.ROLLED_BACK, CanaryStatus.ABORTED):
            self._ended.labels(RolloutKind.CANARY, canary)
        for test in (AbTestStatus.COMPLETED, AbTestStatus.STOPPED, AbTestStatus.ROLLED_BACK):
            self._ended.labels(RolloutKind.AB_TEST, test)
        registry.register(self)

    def ended(self, kind: RolloutKind, status: str) -> None:
        """Counts a rollout that ended."""
        self._ended.labels(kind.value, status).inc()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges of this moment."""
        running = list(self._running().values())
        counts = GaugeMetricFamily("router_rollouts", "Rollouts that have not ended", labels=("kind", "status"))
        found = standing(running)
        for kind in RolloutKind:
            for status in (RUNNING, PAUSED):
                counts.add_metric((kind.value, status), found.get((kind, status), 0))
        yield counts
        judged = GaugeMetricFamily(
            "router_rollout_verdicts",
            "Limits of canaries and comparisons of A/B tests that run, by what they show so far",
            labels=("model", "version", "kind", "verdict"),
        )
        for one in verdicts(running):
            judged.add_metric((one.model, one.version, one.kind.value, one.verdict), one.count)
        yield judged
        traffic = GaugeMetricFamily(
            "router_traffic_percent",
            "How the traffic of models is divided: shares of what callers are answered by, and of what is copied",
            labels=("model", "version", "role"),
        )
        for part in parts(list(self._rules().values())):
            traffic.add_metric((part.model, part.version, part.role), part.percent)
        yield traffic
