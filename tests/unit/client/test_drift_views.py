"""Drift reports and baselines for people."""

import io

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.cli.drift_views import baseline_shown, baselines_listed, report_shown, reports_listed
from infermesh.monitor.v1 import drift_pb2
from rich.console import Console, RenderableType

HOUR = drift_pb2.ReferenceWindow(start_time=Timestamp(seconds=1_769_000_400), end_time=Timestamp(seconds=1_769_004_000))


def drawn(view: RenderableType) -> str:
    out = io.StringIO()
    Console(file=out, width=100, highlight=False).print(view)
    return out.getvalue()


def bins(*pairs: tuple[str, float, float]) -> list[drift_pb2.DistributionBin]:
    return [drift_pb2.DistributionBin(label=label, baseline_share=b, window_share=w) for label, b, w in pairs]


def report() -> drift_pb2.DriftReport:
    return drift_pb2.DriftReport(
        report_id="dr_1",
        model_name="digits",
        version="v1.0.0",
        baseline_id="bl_1",
        window=HOUR,
        row_count=12_000,
        severity="high",
        domain_classifier_auc=0.81,
        expected_accuracy=0.9,
        realised_accuracy=0.7,
        outcome_count=250,
        anomalies=["accuracy"],
        features=[
            drift_pb2.FeatureDrift(
                feature="town",
                severity="high",
                psi=0.75,
                chi_squared=99,
                p_value=1e-9,
                bins=bins(("[Bath]", 1.0, 0.5), ("Rome", 0.0, 0.5)),
            ),
            drift_pb2.FeatureDrift(
                feature="age",
                severity="none",
                ks_statistic=0.034,
                p_value=0.4,
                missing_fraction=0.125,
                bins=bins(("< 1", 0.5, 0.5), ("≥ 1", 0.5, 0.5)),
            ),
        ],
    )


def test_a_report_shows_the_worst_first_with_both_distributions_on_one_scale() -> None:
    text = drawn(report_shown(report(), features_max=20))
    lines = text.splitlines()
    (town,) = [line for line in lines if line.startswith("town") and "high" in line]
    assert "PSI 0.750" in town
    assert "█▁" in town
    assert "▅▅" in town, "half of what the highest bar of both is"
    (age,) = [line for line in lines if line.startswith("age")]
    assert "KS 0.034" in age
    assert "12.5 %" in age
    assert "12,000 predictions" in text
    assert "AUC 0.81" in text
    assert "realised accuracy 70 % of 250 outcomes" in " ".join(text.split())
    assert "[Bath]" in text, "what the bars stand for, and no markup of it"


def test_a_report_shows_no_more_features_than_asked_for() -> None:
    text = drawn(report_shown(report(), features_max=1))
    assert "and 1 more" in text
    assert not [line for line in text.splitlines() if line.startswith("age")]


def test_lists_say_what_drifts_and_what_there_is_none_of() -> None:
    text = " ".join(drawn(reports_listed([report()])).split())
    assert "dr_1" in text
    assert "town, accuracy" in text
    assert "no drift reports" in drawn(reports_listed([]))
    assert "no baselines" in drawn(baselines_listed([]))


def test_a_baseline_says_where_it_comes_from_and_why_it_failed() -> None:
    failed = drift_pb2.Baseline(
        baseline_id="bl_1", version="v1.0.0", status="failed", status_message="it has 9 rows", sample_uri="s3://b/a.csv"
    )
    text = " ".join(drawn(baselines_listed([failed])).split())
    assert "s3://b/a.csv it has 9 rows" in text
    traffic = drift_pb2.Baseline(baseline_id="bl_2", status="active", row_count=1200, reference_window=HOUR)
    assert "traffic from 2026-01-21 13:00:00 to 2026-01-21 14:00:00" in drawn(baseline_shown(traffic))
