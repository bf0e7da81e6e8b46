"""What batching learned is told at a few sizes, whatever the sizes of the batches that it learned from."""

import pytest

from services.batcher.domain.adaptive import Learned
from services.batcher.domain.latency_model import CurvePoint, LatencyModel
from services.batcher.telemetry.labels import LabelSets
from services.batcher.telemetry.policy_families import SIZES, at_sizes, policy_metrics, shown


def known(*curve: CurvePoint) -> Learned:
    """What some policy knows."""
    return Learned(curve=curve, in_flight_per_backend=2, share=0.5, rows_max=32, trials=7, moves=3, searching=False)


CURVE = (CurvePoint(1.0, 0.001, 0.002), CurvePoint(3.0, 0.003, 0.004), CurvePoint(16.0, 0.016, 0.017))


def test_the_curve_is_told_at_the_same_sizes_for_all() -> None:
    told = {size: (point.expected_s, point.p95_s) for size, point in at_sizes(CURVE)}
    assert told == {
        1: (0.001, 0.002),
        4: (pytest.approx(0.004), pytest.approx(0.005)),
        16: (pytest.approx(0.016), pytest.approx(0.017)),
    }


@pytest.mark.parametrize(
    ("curve", "sizes"),
    [((), []), ((CurvePoint(2.0, 1.0, 1.0),), []), ((CurvePoint(4.0, 1.0, 2.0),), [4])],
)
def test_nothing_is_told_beyond_what_was_seen(curve: tuple[CurvePoint, ...], sizes: list[int]) -> None:
    assert [size for size, _ in at_sizes(curve)] == sizes


def test_a_learned_curve_is_told_as_it_was_learned() -> None:
    model = LatencyModel()
    for _ in range(200):
        for rows in (1, 2, 4, 8, 16, 32):
            model.observe(rows, 0.001 + 0.0001 * rows)
    told = {size: point.expected_s for size, point in at_sizes(list(model.curve()))}
    assert told[4] == pytest.approx(0.0014, rel=0.1)
    assert told[16] == pytest.approx(0.0026, rel=0.1)
    assert set(told) <= set(SIZES)


def test_gauges_name_what_they_are_and_leave_out_who_has_no_labels() -> None:
    learned = {("a", "v1.0.0"): known(*CURVE), ("b", "v1.0.0"): known()}
    samples = [
        sample for family in policy_metrics(lambda: learned, LabelSets(versions_max=1))() for sample in family.samples
    ]
    assert {sample.labels["model"] for sample in samples} == {"a"}
    told = {(sample.name, sample.labels.get("rows", "")): sample.value for sample in samples}
    assert told["model_batching_in_flight", ""] == 2
    assert told["model_batching_gather_share", ""] == 0.5
    assert told["model_batching_trials_total", ""] == 7
    assert told["model_batching_expected_ms", "4"] == pytest.approx(4.0)
    assert told["model_batching_p95_ms", "16"] == pytest.approx(17.0)


def test_people_are_told_the_same() -> None:
    assert shown(known(*CURVE))["expected_ms_by_rows"] == {"1": 1.0, "4": 4.0, "16": 16.0}
