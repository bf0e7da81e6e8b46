"""What waits in the engine and what is on its way, by version."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client.core import GaugeMetricFamily, Metric

from services.batcher.telemetry.labels import LabelSets


def depth_metrics(depths: Callable[[], Mapping[str, int]], labels: LabelSets) -> Callable[[], Iterable[Metric]]:
    """`model_queue_depth`, from the requests that wait by model."""

    def collect() -> Iterable[Metric]:
        family = GaugeMetricFamily("model_queue_depth", "Requests that wait to be batched.", labels=("model",))
        by_label: dict[str, int] = {}
        for model, waiting in depths().items():
            label = labels.of_model(model)
            by_label[label] = by_label.get(label, 0) + waiting
        for label, waiting in by_label.items():
            family.add_metric((label,), waiting)
        return (family,)

    return collect
