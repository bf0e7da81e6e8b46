"""How many backends each version has in which state, and how often one was set aside."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.batcher.engines.placement import Placement
from services.batcher.telemetry.labels import LabelSets

STATES = ("up", "slow_start", "ejected", "resting", "down")
_LABELS = ("model", "version")
_Placements = Callable[[], Mapping[tuple[str, str], Placement]]


def backend_metrics(
    placements: _Placements, monotonic: Callable[[], float], labels: LabelSets
) -> Callable[[], Iterable[Metric]]:
    """`model_backends` and `model_backend_ejections_total`."""

    def collect() -> Iterable[Metric]:
        now_s = monotonic()
        backends = GaugeMetricFamily(
            "model_backends",
            "Backends of a version by state: up, slow_start (a growing share), ejected (fails or takes longer than the"
            " others), resting (cannot run the version), down (its server does not answer).",
            labels=(*_LABELS, "state"),
        )
        ejections = CounterMetricFamily(
            "model_backend_ejections", "How often a backend was set aside for how it did beside others.", labels=_LABELS
        )
        states: Counter[tuple[str, str, str]] = Counter()
        totals: Counter[tuple[str, str]] = Counter()
        for (model, version), placement in placements().items():
            label = labels.of(model, version)
            totals[label] += placement.ejections
            for view in placement.views(now_s):
                states[(*label, view.state)] += 1
        for label, total in totals.items():
            ejections.add_metric(label, total)
            for state in STATES:
                backends.add_metric((*label, state), states[(*label, state)])
        return (backends, ejections)

    return collect
