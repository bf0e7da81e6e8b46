"""What an A/B test shows and concludes, and that looking at it all the time does not mislead."""

from datetime import UTC, datetime

import numpy as np
import pytest
from scipy import stats

from benchmarks.ab_test_world import ALPHA, MEAN, RATE, Side, peeked, significant_at_end, significant_now
from services.common.errors import MeshError, Reason
from services.router.domain.ab_results import AbTestResults, Basis, Outcome, Verdict, ended, results_of
from services.router.domain.ab_steps import excess_of
from services.router.domain.ab_test import AbTestPlan, AbTestWish, ab_test_digest, checked_plan
from services.router.domain.evidence import Evidence, Latencies, MetricSum, VersionEvidence

OLD, NEW, THIRD = "v1.0.0", "v2.0.0", "v10.0.0"
NOW = datetime(2026, 1, 15, tzinfo=UTC)


def plan(*metrics: str, versions: dict[str, int] | None = None, limit: float = 0.0) -> AbTestPlan:
    wish = AbTestWish("t", versions or {OLD: 50, NEW: 50}, metrics=metrics, rollback_on_error_rate=limit)
    return checked_plan(wish)


def binary(count: int, total: int) -> MetricSum:
    return MetricSum(count, float(total), float(total))


def values(count: int, mean: float, deviation: float) -> MetricSum:
    return MetricSum(count, count * mean, count * mean**2 + (count - 1) * deviation**2)


def seen(version: str, requests: int = 5000, faults: int = 0, **outcomes: MetricSum) -> VersionEvidence:
    moments = values(requests - faults, 20.0, 5.0)
    latencies = Latencies(counts={1000: requests - faults}, moments_ms=moments)
    return VersionEvidence(version, requests=requests, faults=faults, latencies=latencies, outcomes=outcomes)


def evidence(*versions: VersionEvidence) -> Evidence:
    return Evidence(NOW, NOW, {one.version: one for one in versions})


def verdicts(results: AbTestResults) -> dict[tuple[str, str], Verdict]:
    return {(row.metric, row.version): row.verdict for row in results.comparisons}


def test_the_control_is_the_largest_share_and_of_equal_ones_the_lower_version() -> None:
    assert plan().control == OLD
    assert plan(versions={NEW: 50, THIRD: 50}).control == NEW, "10 is more than 2"
    assert plan(versions={OLD: 20, NEW: 60, THIRD: 20}).control == NEW
    assert plan(versions={OLD: 20, NEW: 60, THIRD: 20}).others == (OLD, THIRD)


@pytest.mark.parametrize("over", [False, True])
def test_fewer_than_a_thousand_samples_a_side_conclude_nothing(over: bool) -> None:
    tested = plan("ctr")
    short = evidence(seen(OLD, ctr=binary(5000, 100)), seen(NEW, ctr=binary(999, 900)))
    results = results_of(tested, short, over=over)
    assert verdicts(results) == {("ctr", NEW): Verdict.WAITING}
    assert results.winner == ""
    assert "999 samples of ctr where at least 1000 a side are needed" in results.conclusion
    assert ended(tested, results).outcome is Outcome.INCONCLUSIVE
    enough = results_of(tested, evidence(seen(OLD, ctr=binary(5000, 100)), seen(NEW, ctr=binary(1000, 900))), over=over)
    assert enough.winner == NEW
    assert ended(tested, enough).outcome is Outcome.WINNER


def test_lower_is_better_for_latency_and_errors_and_higher_for_the_rest() -> None:
    tested = plan("latency", "error_rate", "accuracy", "spent")
    old = VersionEvidence(
        OLD,
        requests=5000,
        faults=50,
        latencies=Latencies(moments_ms=values(4950, 20.0, 5.0)),
        outcomes={"accuracy": binary(4000, 3600), "spent": values(3000, 10.0, 4.0)},
    )
    new = VersionEvidence(
        NEW,
        requests=5000,
        faults=400,
        latencies=Latencies(moments_ms=values(4600, 18.0, 5.0)),
        outcomes={"accuracy": binary(4000, 3200), "spent": values(3000, 12.0, 4.0)},
    )
    for over, basis in ((False, Basis.SEQUENTIAL), (True, Basis.FIXED_HORIZON)):
        results = results_of(tested, evidence(old, new), over=over)
        assert results.basis is basis
        assert verdicts(results) == {
            ("latency", NEW): Verdict.BETTER,
            ("error_rate", NEW): Verdict.WORSE,
            ("accuracy", NEW): Verdict.WORSE,
            ("spent", NEW): Verdict.BETTER,
        }
        assert results.winner == NEW
        assert results.conclusion == "v2.0.0 is significantly better in latency, and worse in error_rate, accuracy."
        assert [row.test for row in results.comparisons] == [
            "welch_t",
            "two_proportion_z",
            "two_proportion_z",
            "welch_t",
        ]
    assert results.comparisons[0].effect_size == pytest.approx(-0.4, rel=0.01)
    assert results.arms[1].error_rate == 0.08
    assert results.arms[1].outcomes["spent"] == pytest.approx(12.0)
    assert results.arms[1].outcome_counts == {"accuracy": 4000, "spent": 3000}


def test_the_control_wins_where_all_others_are_worse() -> None:
    three = plan("ctr", versions={OLD: 40, NEW: 30, THIRD: 30})
    bad, good = binary(3000, 300), binary(4000, 800)
    lost = results_of(
        three, evidence(seen(OLD, 4000, ctr=good), seen(NEW, 3000, ctr=bad), seen(THIRD, 3000, ctr=bad)), over=True
    )
    assert lost.winner == OLD
    even = binary(3000, 600)
    undecided = results_of(
        three, evidence(seen(OLD, 4000, ctr=good), seen(NEW, 3000, ctr=bad), seen(THIRD, 3000, ctr=even)), over=True
    )
    assert undecided.winner == ""
    assert ended(three, undecided).conclusion == "Inconclusive: no significant difference in ctr."


def test_several_comparisons_are_corrected_for() -> None:
    one, two = plan("ctr"), plan("ctr", "latency", "error_rate")
    both = evidence(seen(OLD, ctr=binary(5000, 500)), seen(NEW, ctr=binary(5000, 565)))
    alone = results_of(one, both, over=True)
    assert alone.comparisons[0].p_value == pytest.approx(0.0348, abs=0.001)
    assert alone.comparisons[0].verdict is Verdict.BETTER
    among = results_of(two, both, over=True)
    assert among.comparisons[0].p_value_adjusted == pytest.approx(3 * alone.comparisons[0].p_value)
    assert among.comparisons[0].verdict is Verdict.NO_DIFFERENCE
    assert among.comparisons[0].sequential_low < alone.comparisons[0].sequential_low, "each has its part of 5 %"


def test_shares_that_are_not_the_tests_conclude_nothing() -> None:
    tested = plan("ctr")
    off = evidence(seen(OLD, 10_000, ctr=binary(5000, 500)), seen(NEW, 9_000, ctr=binary(5000, 900)))
    for over in (False, True):
        results = results_of(tested, off, over=over)
        assert results.sample_ratio_mismatch
        assert results.sample_ratio_p_value < 0.001
        assert results.winner == ""
        assert "shares of requests are not those of the test" in results.conclusion
        assert ended(tested, results).outcome is Outcome.INCONCLUSIVE
    # Looked at all the time, p < 0.001 comes by chance; only what holds at all times is believed.
    slightly = evidence(seen(OLD, 5150, ctr=binary(5000, 500)), seen(NEW, 4815, ctr=binary(5000, 900)))
    assert not results_of(tested, slightly, over=False).sample_ratio_mismatch
    assert results_of(tested, slightly, over=True).sample_ratio_mismatch


def test_a_log_with_gaps_concludes_nothing() -> None:
    tested, both = plan("ctr"), (seen(OLD, ctr=binary(5000, 500)), seen(NEW, ctr=binary(5000, 900)))
    versions = {one.version: one for one in both}
    assert results_of(tested, Evidence(NOW, NOW, versions, dropped=500), over=True).winner == NEW
    gaps = results_of(tested, Evidence(NOW, NOW, versions, dropped=600), over=True)
    assert (gaps.winner, ended(tested, gaps).outcome) == ("", Outcome.INCONCLUSIVE)
    assert gaps.conclusion == (
        "Nothing can be concluded: batchers dropped 600 requests from their log, and 10000 were seen."
    )


def test_an_error_rate_above_the_limit_is_proven_and_the_controls_is_its_own_affair() -> None:
    tested = plan(limit=0.05)
    assert excess_of(tested, evidence(seen(OLD, 1000), seen(NEW, 1000, 60))) is None, "may be chance"
    excess = excess_of(tested, evidence(seen(OLD, 1000), seen(NEW, 1000, 150)))
    assert excess is not None
    assert (excess.version, excess.error_rate) == (NEW, 0.15)
    assert 0.05 < excess.low < 0.15
    assert excess_of(tested, evidence(seen(OLD, 1000, 150), seen(NEW, 1000))) is None
    assert excess_of(plan(), evidence(seen(OLD, 1000), seen(NEW, 1000, 1000))) is None, "no limit"


@pytest.mark.parametrize(
    ("wish", "field"),
    [
        (AbTestWish("", {OLD: 50, NEW: 50}), "name"),
        (AbTestWish("Test", {OLD: 50, NEW: 50}), "name"),
        (AbTestWish("split", {OLD: 50, NEW: 50}), "name"),
        (AbTestWish("canary-1", {OLD: 50, NEW: 50}), "name"),
        (AbTestWish("t", {OLD: 100}), "versions"),
        (AbTestWish("t", {OLD: 50, NEW: 40}), "versions"),
        (AbTestWish("t", {f"v{number}.0.0": 5 for number in range(20)}), "versions"),
        (AbTestWish("t", {OLD: 100, NEW: 0}), "versions['v1.0.0']"),
        (AbTestWish("t", {OLD: 50, "1.0.0": 50}), "versions"),
        (AbTestWish("t", {OLD: 50, "new": 50}), "versions['new']"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, duration_days=91), "duration_days"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, duration_days=float("nan")), "duration_days"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, metrics=("c t r",)), "metrics[0]"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, metrics=("ctr", "ctr")), "metrics[1]"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, rollback_on_error_rate=1.1), "rollback_on_error_rate"),
        (AbTestWish("t", {OLD: 50, NEW: 50}, sticky_key_header="x-mesh-user"), "sticky_key_header"),
    ],
)
def test_a_test_that_makes_no_sense_is_refused_by_field(wish: AbTestWish, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        checked_plan(wish)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in caught.value.violations] == [field]


def test_what_was_left_out_has_the_defaults_of_the_contract() -> None:
    made = checked_plan(AbTestWish("t", {NEW: 10, "1.0.0": 90}))
    assert dict(made.versions) == {OLD: 90, NEW: 10}
    assert (made.duration_s, made.metrics, made.sticky_header) == (604_800.0, ("latency", "error_rate"), "x-user-id")
    assert not made.waits_for_outcomes
    assert plan("latency", "ctr").waits_for_outcomes
    assert ab_test_digest("m", AbTestWish("t", {OLD: 50, NEW: 50})) == ab_test_digest(
        "m", AbTestWish("t", {NEW: 50, OLD: 50})
    )


@pytest.mark.parametrize(("metric", "rate"), [(RATE, 0.1), (RATE, 0.005), (MEAN, 0.0)])
def test_looking_all_the_time_finds_differences_that_are_none_in_at_most_one_test_of_twenty(
    metric: str, rate: float
) -> None:
    runs = 2000
    found = peeked(metric, 0.0, runs=runs, seed=31, rate=rate)
    print(f"{metric} {rate}: {found.sequential:.2%} of {runs} at any of 91 looks, {found.fixed_horizon:.2%} at the end")
    assert found.sequential * runs <= stats.binom.ppf(0.5, runs, ALPHA)
    assert found.fixed_horizon * runs <= stats.binom.ppf(0.9999, runs, ALPHA)


def test_a_difference_of_two_points_is_found() -> None:
    found = peeked(RATE, 0.02, runs=1000, seed=32)
    print(f"10 % against 12 %, 10,000 a side: {found.sequential:.1%} on the way, {found.fixed_horizon:.1%} at the end")
    assert found.sequential > 0.9
    assert found.fixed_horizon > 0.97


@pytest.mark.parametrize(("metric", "effect"), [(RATE, 0.03), (RATE, 0.0), (MEAN, 0.08)])
def test_the_simulation_of_peeking_decides_as_the_router_does(metric: str, effect: float) -> None:
    random, runs = np.random.default_rng(33), 40
    sides = Side.empty(runs), Side.empty(runs)
    for side, more in zip(sides, (0.0, effect), strict=True):
        side.take(metric, (0.1 if metric == RATE else 0.0) + more, 2500, random)
    now, at_end = significant_now(metric, *sides), significant_at_end(metric, *sides)
    for run in range(runs):
        old, new = (MetricSum(side.count, float(side.total[run]), float(side.squares[run])) for side in sides)
        both = evidence(seen(OLD, value=old), seen(NEW, value=new))
        found = [results_of(plan("value"), both, over=over).comparisons[0].verdict for over in (False, True)]
        assert [verdict is not Verdict.NO_DIFFERENCE for verdict in found] == [now[run], at_end[run]]
