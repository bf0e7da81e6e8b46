"""What the engine has under way, what it refused, and what each of its backends has: read when somebody scrapes."""

from collections.abc import Iterator
from dataclasses import fields

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.batcher.engines.counters import Counters, Depth
from services.batcher.engines.engine import Engine
from services.batcher.telemetry.labels import OTHERS, LabelSets
from services.common.clock import Clock

_VERSION = ("model", "version")
_BACKEND = (*_VERSION, "backend")


class EngineFamilies:
    """The families of an engine. Versions beyond the bound of labels are counted together, their backends not."""

    def __init__(self, engine: Engine, labels: LabelSets, clock: Clock) -> None:
        self._engine = engine
        self._labels = labels
        self._clock = clock

    def collect(self) -> Iterator[Metric]:
        """All, as of now."""
        yield from self._depths()
        yield from self._backends()
        yield from _events(self._engine.counters)
        held = self._engine.bytes_held
        yield GaugeMetricFamily("batcher_input_bytes", "Input bytes of requests not answered yet.", value=held)

    def _depths(self) -> Iterator[Metric]:
        by_model: dict[str, int] = {}
        by_version: dict[tuple[str, str], Depth] = {}
        for (model, version), depth in self._engine.depths().items():
            label = self._labels.of_model(model)
            by_model[label] = by_model.get(label, 0) + depth.requests_waiting
            total = by_version.setdefault(self._labels.of(model, version), Depth())
            total.requests_waiting += depth.requests_waiting
            total.requests_in_flight += depth.requests_in_flight
            total.rows_waiting += depth.rows_waiting
            total.batches_in_flight += depth.batches_in_flight
            total.rows_in_flight += depth.rows_in_flight
        queue = GaugeMetricFamily("model_queue_depth", "Requests that wait to be batched.", labels=("model",))
        for label, waiting in by_model.items():
            queue.add_metric((label,), waiting)
        yield queue
        for name, text, field in (
            (
                "model_requests_waiting",
                "Requests that wait: to be batched, or until their version is loaded.",
                "requests_waiting",
            ),
            ("model_requests_in_flight", "Requests at model servers.", "requests_in_flight"),
            ("model_rows_waiting", "Rows that wait to be batched.", "rows_waiting"),
            ("model_rows_in_flight", "Rows at model servers.", "rows_in_flight"),
            ("model_batches_in_flight", "Batches at model servers.", "batches_in_flight"),
        ):
            family = GaugeMetricFamily(name, text, labels=_VERSION)
            for labels, depth in by_version.items():
                family.add_metric(labels, getattr(depth, field))
            yield family

    def _backends(self) -> Iterator[Metric]:
        slots = GaugeMetricFamily("model_backend_slots", "Batches that it may have at a time.", labels=_BACKEND)
        batches = GaugeMetricFamily("model_backend_batches", "Batches that it has.", labels=_BACKEND)
        expected = GaugeMetricFamily(
            "model_backend_expected_ms", "How long it would take to finish one more row, in ms.", labels=_BACKEND
        )
        now_s = self._clock.monotonic()
        for key, placement in self._engine.placements().items():
            model, version = self._labels.of(*key)
            if (model, version) == OTHERS:
                continue
            for view in placement.views(now_s):
                labels = (model, version, view.backend_id)
                slots.add_metric(labels, view.slots)
                batches.add_metric(labels, view.batches)
                expected.add_metric(labels, view.expected_s * 1000)
        yield from (slots, batches, expected)


def _events(counters: Counters) -> Iterator[Metric]:
    """What happened to requests, whatever their version; their errors by version are `model_errors_total`."""
    family = CounterMetricFamily(
        "batcher_engine_events",
        "Requests and rows admitted, batches sent, and what became of those that were not answered.",
        labels=("event",),
    )
    for field in fields(counters):
        family.add_metric((field.name,), getattr(counters, field.name))
    yield family
