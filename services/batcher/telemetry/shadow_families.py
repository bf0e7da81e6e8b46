"""What became of shadow copies, by shadow version."""

from collections.abc import Callable, Iterable, Iterator, Mapping

from prometheus_client.core import CounterMetricFamily, Metric

from services.batcher.domain.shadow_sums import CopyCounts
from services.batcher.telemetry.labels import LabelSets

_LABELS = ("model", "version", "result")


def shadow_metrics(
    counts: Callable[[], Mapping[tuple[str, str], CopyCounts]], labels: LabelSets
) -> Callable[[], Iterable[Metric]]:
    """`model_shadow_copies_total`."""

    def collect() -> Iterator[Metric]:
        family = CounterMetricFamily(
            "model_shadow_copies",
            "Copies of requests for a shadow version: sent, of these answered or failed, of the answered disagreed; "
            "and dropped, which were never sent.",
            labels=_LABELS,
        )
        summed: dict[tuple[str, str], CopyCounts] = {}
        for (model, version), one in counts().items():
            total = summed.setdefault(labels.of(model, version), CopyCounts())
            total.answered += one.answered
            total.disagreed += one.disagreed
            total.failed += one.failed
            total.dropped += one.dropped
        for label, total in summed.items():
            for result in ("sent", "answered", "failed", "disagreed", "dropped"):
                family.add_metric((*label, result), getattr(total, result))
        yield family

    return collect
