"""Canaries and A/B tests, drawn so that they can be read at 80 columns and without colours."""

import io
import math
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.client.cli.ab_test_views import ab_test_shown, ab_tests_listed, is_known
from infermesh.client.cli.canary_views import canary_plan_shown, canary_shown, criteria_drawn, stage_bar
from infermesh.client.cli.figures import figure
from infermesh.client.cli.limits import limit_of
from infermesh.client.cli.traffic_views import plan_shown, traffic_shown
from infermesh.router.v1.ab_test_pb2 import AbTest
from infermesh.router.v1.canary_pb2 import Canary, CriterionResult
from infermesh.router.v1.router_service_pb2 import TrafficPlan
from infermesh.router.v1.traffic_pb2 import Traffic
from infermesh.router.v1.traffic_rule_pb2 import CanaryConfig, CanaryStage, RouteCondition, Shadow, SuccessCriteria
from rich.console import Console, RenderableType

NOW = datetime(2026, 2, 5, 10, tzinfo=UTC)


def drawn(view: RenderableType, *, width: int = 80) -> str:
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, highlight=False).print(view)
    return out.getvalue()


def at(minutes: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime((NOW + timedelta(minutes=minutes)).replace(tzinfo=None))
    return stamp


def canary(status: str = "running", stage: int = 1) -> Canary:
    stages = [CanaryStage(percent=percent, duration_minutes=30) for percent in (10, 50, 100)]
    made = Canary(
        model_name="digits",
        deployment_name="v1-1-0",
        version="v1.1.0",
        baseline_version="v1.0.0",
        status=status,
        stage=stage,
        percent=50,
        config=CanaryConfig(stages=stages),
    )
    made.stage_started_at.CopyFrom(at(-10))
    return made


def test_a_running_stage_says_how_long_it_still_lasts() -> None:
    running = canary()
    running.stage_ends_at.CopyFrom(at(20))
    assert "20m left, 10m gone" in drawn(canary_shown(running, NOW))
    assert "its time is over, 40m gone" in drawn(canary_shown(running, NOW + timedelta(minutes=30)))
    assert "its time does not run" in drawn(canary_shown(canary("paused"), NOW))


def test_a_held_stage_says_what_it_waits_for_and_until_when() -> None:
    held = canary()
    held.held_since.CopyFrom(at(-5))
    held.hold_ends_at.CopyFrom(at(60))
    held.evidence_error = "the monitor does not answer"
    shown = drawn(canary_shown(held, NOW), width=120)
    assert "held for 5m: not enough data; rolled back in 1h if that stays so" in shown
    assert "nothing is judged at the moment: the monitor does not answer" in shown


@pytest.mark.parametrize(
    ("status", "stage", "bar"),
    [
        ("running", 1, "✓ 10 % ─ ▶ 50 % ─ · 100 %"),
        ("paused", 0, "‖ 10 % ─ · 50 % ─ · 100 %"),
        ("rolled_back", 1, "✓ 10 % ─ ✗ 50 % ─ · 100 %"),
        ("promoted", 0, "✓ 10 % ─ ✓ 50 % ─ ✓ 100 %"),
    ],
)
def test_the_bar_of_stages(status: str, stage: int, bar: str) -> None:
    assert drawn(stage_bar(canary(status, stage))).strip() == bar


def test_what_was_rolled_back_says_why_and_how_to_try_again() -> None:
    gone = canary("rolled_back")
    gone.status_reason = "error_rate 5 % is above 1 %"
    record = gone.history.add(stage=1, percent=50, outcome="breached", started_at=at(-10), ended_at=at(-4))
    record.results.add(criterion="error_rate_max", limit=0.01, measured=0.05, request_count=800, verdict="breached")
    shown = drawn(canary_shown(gone, NOW), width=120)
    for words in (
        "error_rate 5 % is above 1 %",
        "infermesh canary start digits v1-1-0",
        "error_rate_max 5 %, to be ≤ 1 %",
        "6m",
    ):
        assert words in shown


@pytest.mark.parametrize(
    ("low", "value", "high", "limit", "order"),
    [(0.001, 0.002, 0.004, 0.01, "├●┤┃"), (0.008, 0.012, 0.02, 0.01, "├┃●┤"), (0.02, 0.03, 0.05, 0.01, "┃├●┤")],
)
def test_one_sees_on_which_side_of_the_limit_the_interval_is(
    low: float, value: float, high: float, limit: float, order: str
) -> None:
    result = CriterionResult(
        criterion="error_rate_max",
        low=low,
        measured=value,
        high=high,
        limit=limit,
        request_count=500,
        verdict="passing",
    )
    words, line = (drawn(text) for text in criteria_drawn([result]))
    assert f"to be ≤ {limit:.0%}".replace("%", " %") in words
    assert [mark for mark in line if mark in "├●┤┃"] == list(order)


@pytest.mark.parametrize(
    ("criterion", "limit", "before", "words", "value"),
    [
        ("error_rate_increase_max", 0.005, 0.001, "≤ 0.6 % (0.1 % + 0.5 %)", 0.006),
        ("latency_p95_ratio_max", 1.2, 95.0, "≤ 114 ms (1.2× of 95 ms)", 114),
        ("accuracy_decrease_max", 0.02, 0.94, "≥ 92 % (94 % − 2 %)", 0.92),
        ("metrics.ctr.decrease_max", 0.05, 0.03, "≥ 0.0285 (5 % below 0.03)", 0.0285),
        ("metrics.loss.decrease_max", 0.5, -2.0, "≥ -3 (50 % below -2)", -3),
        ("metrics.ctr.min", 0.1, 0.0, "≥ 0.1", 0.1),
        ("metrics.revenue.max", 9.0, 0.0, "≤ 9", 9),
        ("accuracy_min", 0.9, 0.0, "≥ 90 %", 0.9),
        ("latency_p99_max_ms", 120.0, 0.0, "≤ 120 ms", 120),
    ],
)
def test_a_limit_is_told_in_the_unit_of_what_is_measured(
    criterion: str, limit: float, before: float, words: str, value: float
) -> None:
    made = limit_of(CriterionResult(criterion=criterion, limit=limit, baseline=before, request_count=500))
    assert made.text() == words
    assert made.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("criterion", "words"),
    [
        ("latency_p95_ratio_max", "latency_p95_ratio_max –, to be ≤ 0.5× of the version before: waiting"),
        ("error_rate_increase_max", "error_rate_increase_max –, to be ≤ the version before + 50 %: waiting"),
        ("accuracy_decrease_max", "accuracy_decrease_max –, to be ≥ the version before − 50 %: waiting"),
        ("metrics.ctr.decrease_max", "metrics.ctr.decrease_max –, to be ≥ 50 % below the version before: waiting"),
    ],
)
def test_what_was_not_seen_yet_has_no_figures(criterion: str, words: str) -> None:
    said, line = criteria_drawn([CriterionResult(criterion=criterion, limit=0.5, verdict="waiting")])
    assert drawn(said).strip() == words
    assert "┃" not in line


def test_the_history_says_what_decided_and_not_what_did_not() -> None:
    ended = canary("aborted")
    for outcome, verdict in (("aborted", "waiting"), ("not_enough_data", "waiting"), ("breached", "breached")):
        record = ended.history.add(outcome=outcome, percent=10)
        record.results.add(criterion="error_rate_max", limit=0.01, verdict=verdict)
    shown = [
        line for line in drawn(canary_shown(ended, NOW), width=120).splitlines() if "10 %" in line and "─" not in line
    ]
    assert ["error_rate_max" in line for line in shown] == [False, True, True]


def test_an_interval_without_an_end_goes_on() -> None:
    result = CriterionResult(
        criterion="latency_p95_max_ms", low=20, measured=30, high=1e300, limit=120, request_count=9, verdict="waiting"
    )
    _, line = (drawn(text) for text in criteria_drawn([result]))
    assert [mark for mark in line if mark in "├●┤┃▶"] == ["├", "●", "┃", "▶"]


def test_limits_from_below_say_so_and_nothing_is_drawn_of_nothing() -> None:
    words, line = criteria_drawn([CriterionResult(criterion="metrics.ctr.min", limit=0.1, verdict="waiting")])
    assert "to be ≥ 0.1" in words
    assert "●" not in line
    assert "0 samples" in line


def test_a_plan_of_a_canary_without_words_shows_what_the_mesh_does() -> None:
    shown = drawn(canary_plan_shown(TrafficPlan(changes=["a canary begins"]), (), None))
    for words in ("1 %", "10m", "50 %", "1h", "+1h 40m", "error_rate_max 1 %", "a canary begins"):
        assert words in shown
    limits = SuccessCriteria(latency_p95_ratio_max=1.2)
    limits.metrics.add(name="ctr", decrease_max=0.05)
    named = drawn(canary_plan_shown(TrafficPlan(), [CanaryStage(percent=100)], limits))
    assert "latency_p95_ratio_max 1.2×, ctr.decrease_max 5 %" in named
    assert "nothing would change" in named


def test_a_plan_shows_who_gains_and_who_loses() -> None:
    plan = TrafficPlan(
        before=Traffic(traffic_split={"v1.0.0": 100}),
        after=Traffic(traffic_split={"v1.0.0": 60, "v1.1.0": 40}),
        moved_percent=40,
        changes=["v1.1.0 gets 40 %"],
    )
    rows = {line.split()[0]: line.split() for line in drawn(plan_shown(plan)).splitlines() if line.startswith("v")}
    assert rows["v1.0.0"][1:7] == ["100", "%", "60", "%", "-40", "%"]
    assert rows["v1.1.0"][1:7] == ["0", "%", "40", "%", "+40", "%"]


def test_traffic_shows_conditions_and_copies() -> None:
    traffic = Traffic(
        model_name="digits",
        traffic_split={"v1.0.0": 100},
        routing_strategy="sticky",
        sticky_key_header="x-user-id",
        conditions=[RouteCondition(attribute="region", values=["eu", "us"], version="v1.1.0")],
        shadows=[Shadow(version="v1.1.0", percent=10)],
        governing_rule="forest",
    )
    shown = drawn(traffic_shown(traffic))
    for words in ("sticky by x-user-id", "region=eu,us → v1.1.0", "v1.1.0 10 %", "decided by  forest"):
        assert words in shown


def comparison(ab: AbTest, **values: object) -> None:
    given = {"metric": "ctr", "version": "v1.1.0", "control_value": 0.03, "version_value": 0.04, **values}
    ab.results.comparisons.add(**given)


def test_intervals_share_one_axis_with_zero_on_it() -> None:
    test = AbTest(model_name="digits", name="forest", versions={"v1.0.0": 50, "v1.1.0": 50}, status="running")
    test.results.control = "v1.0.0"
    comparison(
        test,
        difference_low=0.004,
        difference_high=0.016,
        sequential_low=-0.002,
        sequential_high=0.022,
        verdict="waiting",
    )
    lines = drawn(ab_test_shown(test, NOW)).splitlines()
    (fixed,) = [line for line in lines if line.startswith("95 %")]
    (sequential,) = [line for line in lines if line.startswith("sequential")]
    zero = fixed.index("│")
    assert sequential[zero] == "│"
    assert fixed.index("├") > zero > sequential.index("├")
    assert fixed.index("●") == sequential.index("●")
    assert all(len(line) <= 80 for line in lines)


def test_too_few_samples_have_no_interval_and_a_mismatch_says_so() -> None:
    test = AbTest(model_name="digits", name="forest", versions={"v1.0.0": 50, "v1.1.0": 50}, status="running")
    comparison(test, version_samples=20, control_samples=30, verdict="waiting")
    comparison(test, sequential_low=-math.inf, sequential_high=math.inf, difference_low=math.nan, difference_high=1)
    test.results.sample_ratio_mismatch, test.results.sample_ratio_p_value = True, 1e-9
    test.results.conclusion, test.results.outcome = "nothing can be concluded", "inconclusive"
    shown = drawn(ab_test_shown(test, NOW))
    assert "20 and 30 samples; too few for an interval" in shown
    assert "├" not in shown
    assert "p = 1e-09" in shown
    assert "inconclusive: nothing can be concluded" in shown


def test_the_end_of_a_test_is_told_ahead_and_afterwards() -> None:
    test = AbTest(model_name="digits", name="forest", status="running", auto_promote=True)
    test.end_time.CopyFrom(at(60 * 30))
    assert "in 1d 6h" in drawn(ab_test_shown(test, NOW))
    assert "a significant winner gets all traffic" in drawn(ab_test_shown(test, NOW))
    test.status = "completed"
    assert "ended" in drawn(ab_test_shown(test, NOW))
    assert "ab-test create" in drawn(ab_tests_listed([]))


@pytest.mark.parametrize(
    ("outcome", "winner", "words"),
    [
        ("waiting", "", "so far: it runs"),
        ("waiting", "v1.1.0", "so far v1.1.0 is ahead: it runs"),
        ("winner", "v1.1.0", "winner v1.1.0: it runs"),
        ("inconclusive", "", "inconclusive: it runs"),
    ],
)
def test_what_can_be_concluded(outcome: str, winner: str, words: str) -> None:
    test = AbTest(model_name="digits", name="forest", status="running")
    test.results.outcome, test.results.winner, test.results.conclusion = outcome, winner, "it runs"
    assert words in drawn(ab_test_shown(test, NOW)).splitlines()


def test_tiny_probabilities_are_not_nothing_and_corrections_only_told_where_made() -> None:
    test = AbTest(model_name="digits", name="forest", status="running")
    comparison(test, difference_low=0.1, difference_high=0.2, p_value=0.0, p_value_adjusted=0.0, test="welch_t")
    comparison(test, difference_low=0.1, difference_high=0.2, p_value=0.03, p_value_adjusted=0.06, test="welch_t")
    comparison(test, difference_low=0.1, difference_high=0.2, p_value=0.03, test="welch_t")
    said = [line for line in drawn(ab_test_shown(test, NOW)).splitlines() if line.startswith("Welch's t")]
    assert [line.split(", effect")[0] for line in said] == [
        "Welch's t, p < 1e-300, corrected < 1e-300",
        "Welch's t, p = 0.03, corrected = 0.06",
        "Welch's t, p = 0.03",
    ]


@pytest.mark.parametrize(
    ("low", "high", "known"),
    [
        (0, 0, False),
        (-1, 1, True),
        (-math.inf, 1, True),
        (-math.inf, math.inf, False),
        (math.nan, 1, False),
        (-1e300, 1e300, False),
    ],
)
def test_which_intervals_say_something(low: float, high: float, known: bool) -> None:
    assert is_known(low, high) == known


@pytest.mark.parametrize(
    ("metric", "value", "signed", "text"),
    [
        ("error_rate", 0.0125, False, "1.25 %"),
        ("latency_p95_max_ms", 1234.5, False, "1,234 ms"),
        ("latency", -0.5, True, "-0.5 ms"),
        ("latency_p95_ratio_max", 1.2, False, "1.2×"),
        ("metrics.ctr.decrease_max", 0.05, False, "5 %"),
        ("metrics.ctr.min", 0.031, False, "0.031"),
        ("ctr", 0.00001, True, "+1.00e-05"),
        ("ctr", -0.0, True, "0"),
        ("ctr", math.nan, False, "–"),
        ("ctr", math.inf, False, "∞"),
    ],
)
def test_figures(metric: str, value: float, signed: bool, text: str) -> None:
    assert figure(metric, value, signed=signed) == text
