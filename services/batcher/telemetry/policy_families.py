"""What batching has learned of each version, as gauges and on the operators' page."""

from collections.abc import Callable, Iterator, Mapping, Sequence

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from services.batcher.domain.adaptive import Learned
from services.batcher.domain.latency_model import CurvePoint
from services.batcher.telemetry.labels import OTHERS, LabelSets

SIZES = (1, 4, 16, 64, 256, 1024)
"""Rows at which the learned curve is told: always the same ones, so that their number is bounded."""
_LABELS = ("model", "version")


def policy_metrics(
    learned: Callable[[], Mapping[tuple[str, str], Learned]], labels: LabelSets
) -> Callable[[], Iterator[Metric]]:
    """`model_batching_…`. Versions beyond the bound of labels are left out: what they learned cannot be added up."""

    def collect() -> Iterator[Metric]:
        limit = GaugeMetricFamily(
            "model_batching_in_flight", "Batches at a time for a backend of capacity 1, as learned.", labels=_LABELS
        )
        share = GaugeMetricFamily(
            "model_batching_gather_share",
            "Of the callers around, how many make a batch that waits for no more; 0: none waits.",
            labels=_LABELS,
        )
        rows = GaugeMetricFamily("model_batching_rows_max", "The most rows of a batch, as learned.", labels=_LABELS)
        trials = CounterMetricFamily("model_batching_trials", "Ways of sending that were tried.", labels=_LABELS)
        moves = CounterMetricFamily("model_batching_moves", "Ways of sending that were better.", labels=_LABELS)
        usual = GaugeMetricFamily(
            "model_batching_expected_ms", "What a batch of so many rows usually takes.", labels=(*_LABELS, "rows")
        )
        slow = GaugeMetricFamily(
            "model_batching_p95_ms", "What 95 % of such batches do not exceed.", labels=(*_LABELS, "rows")
        )
        for key, one in learned().items():
            label = labels.of(*key)
            if label == OTHERS:
                continue
            limit.add_metric(label, one.in_flight_per_backend)
            share.add_metric(label, one.share)
            rows.add_metric(label, one.rows_max)
            trials.add_metric(label, one.trials)
            moves.add_metric(label, one.moves)
            for size, point in at_sizes(one.curve):
                usual.add_metric((*label, str(size)), point.expected_s * 1000)
                slow.add_metric((*label, str(size)), point.p95_s * 1000)
        yield from (limit, share, rows, trials, moves, usual, slow)

    return collect


def shown(one: Learned) -> dict[str, object]:
    """What was learned, for people."""
    return {
        "in_flight_per_backend": one.in_flight_per_backend,
        "gather_share": one.share,
        "rows_max": one.rows_max,
        "trials": one.trials,
        "moves": one.moves,
        "searching": one.searching,
        "run_at_a_time": round(one.slots, 2),
        "expected_ms_by_rows": {str(size): round(point.expected_s * 1000, 3) for size, point in at_sizes(one.curve)},
    }


def at_sizes(curve: Sequence[CurvePoint]) -> Iterator[tuple[int, CurvePoint]]:
    """The curve at each of SIZES that lies within it, by linear interpolation."""
    for size in SIZES:
        for low, high in zip(curve, [*curve[1:], *curve[-1:]], strict=True):
            if low.rows <= size <= high.rows:
                span = high.rows - low.rows
                part = (size - low.rows) / span if span else 0.0
                yield (
                    size,
                    CurvePoint(
                        float(size),
                        low.expected_s + part * (high.expected_s - low.expected_s),
                        low.p95_s + part * (high.p95_s - low.p95_s),
                    ),
                )
                break
