"""What rules may say, what figures say of them, and what is usual."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import MeshError
from services.monitor.domain.aggregate import Cell
from services.monitor.domain.channels import ChannelSpec, Means, Offices, Silence, checked_channel, checked_silence
from services.monitor.domain.evidence import MetricSum
from services.monitor.domain.figures import Usage
from services.monitor.domain.judging import DriftSeen, Holds, Seen, Sighting, Verdict, burn_rate, judged
from services.monitor.domain.rounds import TRAFFIC_KEPT, Known, advanced
from services.monitor.domain.rules import BurnRate, Condition, DriftAtLeast, Happened, RuleSpec, Threshold, checked_rule
from services.monitor.domain.seasonal import compared_hours, deviation, last_hour
from services.monitor.domain.sights import Needs, needs_of, read_again_after_s
from services.monitor.domain.watches import WatchedBy
from services.monitor.domain.wording import summary_of
from tests.support.clock import NOON

ERRORS = Threshold("error_rate", ">", 0.05)
SPEC = RuleSpec("r", ERRORS, "warning")
BURN = BurnRate(0.999, "success", 0.0, 3600, 300, 14.4)
OPEN = Offices(email=True, secrets=True)
HOUR = 60


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        (replace(SPEC, name="No Name"), "alert_rule.name"),
        (replace(SPEC, severity="dire"), "alert_rule.severity"),
        (replace(SPEC, version="v1.0.0"), "alert_rule.version"),
        (replace(SPEC, model="Digits!"), "alert_rule.model_name"),
        (replace(SPEC, action="explode"), "alert_rule.rollout_action"),
        (replace(SPEC, channels=tuple(f"c{place}" for place in range(17))), "alert_rule.notification_channels"),
        (replace(SPEC, description="x" * 1001), "alert_rule.description"),
        (replace(SPEC, condition=replace(ERRORS, metric="no metric")), "alert_rule.threshold.metric"),
        (replace(SPEC, condition=replace(ERRORS, comparison="=")), "alert_rule.threshold.comparison"),
        (replace(SPEC, condition=replace(ERRORS, threshold=float("nan"))), "alert_rule.threshold.threshold"),
        (replace(SPEC, condition=replace(ERRORS, window_s=9)), "alert_rule.threshold.window_s"),
        (replace(SPEC, condition=replace(ERRORS, for_s=86_401)), "alert_rule.threshold.for_s"),
        (replace(SPEC, condition=replace(ERRORS, metric="cpu_percent"), model="digits"), "alert_rule.model_name"),
        (replace(SPEC, condition=replace(BURN, objective=1.0)), "alert_rule.burn_rate.objective"),
        (replace(SPEC, condition=replace(BURN, indicator="luck")), "alert_rule.burn_rate.indicator"),
        (replace(SPEC, condition=replace(BURN, indicator="latency")), "alert_rule.burn_rate.latency_ms"),
        (replace(SPEC, condition=replace(BURN, short_window_s=7200)), "alert_rule.burn_rate.short_window_s"),
        (replace(SPEC, condition=replace(BURN, burn_rate=1001.0)), "alert_rule.burn_rate.burn_rate"),
        (replace(SPEC, condition=Happened(())), "alert_rule.event.events"),
        (replace(SPEC, condition=Happened(("deployment_slept",))), "alert_rule.event.events"),
        (replace(SPEC, condition=DriftAtLeast("worse")), "alert_rule.drift.min_severity"),
    ],
)
def test_a_wrong_rule_is_refused_by_field(spec: RuleSpec, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        checked_rule(spec)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_what_a_rule_leaves_out_is_filled_in() -> None:
    bare = replace(SPEC, condition=replace(ERRORS, window_s=0, min_requests=0), action="", channels=("a", "a"))
    assert checked_rule(bare) == replace(SPEC, channels=("a",))
    assert checked_rule(replace(SPEC, condition=DriftAtLeast("high"))).condition == DriftAtLeast("high")


def cell(requests: int, *, errors: int = 0, reason: str = "INTERNAL", low: int = 0, latency_us: int = 0) -> Cell:
    made = Cell()
    made.counts.update({("request_count", ""): requests, ("error_count", reason): errors})
    made.counts.update(
        {("predictions_by_confidence", "low"): low, ("predictions_by_confidence", "high"): requests - low}
    )
    if latency_us:
        made.latency.add(np.full(requests, latency_us, dtype=np.int64))
    return made


def verdict(condition: Condition, *cells: Cell, **more: object) -> Verdict:
    lengths = [condition.window_s] if isinstance(condition, Threshold) else [3600, 300]
    windows = {length: Seen(60.0, found) for length, found in zip(lengths, cells, strict=False)}
    return judged(condition, Sighting(windows, **more))  # type: ignore[arg-type]


def test_a_threshold_holds_beyond_its_limit_and_not_at_it() -> None:
    assert verdict(ERRORS, cell(100, errors=6)) == Verdict(Holds.YES, 0.06)
    assert verdict(ERRORS, cell(100, errors=5)) == Verdict(Holds.NO, 0.05)
    assert verdict(replace(ERRORS, comparison=">="), cell(100, errors=5)).holds is Holds.YES
    assert verdict(ERRORS, cell(99, errors=99)).holds is Holds.UNDECIDED
    assert verdict(replace(ERRORS, metric="low_confidence_rate"), cell(100, low=21)) == Verdict(Holds.YES, 0.21)
    slow = verdict(Threshold("latency_p95_ms", ">", 200.0), cell(100, latency_us=250_000))
    assert slow.holds is Holds.YES
    assert slow.value == pytest.approx(250, rel=0.006)
    assert verdict(Threshold("latency_p95_ms", ">", 200.0), cell(100)).holds is Holds.UNDECIDED
    nothing = Threshold("request_count", "<", 1.0)
    assert verdict(nothing, cell(0)) == Verdict(Holds.YES, 0.0)
    assert verdict(Threshold("throughput_per_sec", ">", 1.0), cell(120)) == Verdict(Holds.YES, 2.0)


def test_outcomes_hosts_drift_and_seasons_are_judged_by_their_own_figures() -> None:
    ctr = Threshold("ctr", "<", 0.1, min_requests=10)
    seen = Seen(60.0, outcomes={"ctr": MetricSum(10, 0.5, 0.1)}, usage=Usage(cpu_percent=95.0))
    assert judged(ctr, Sighting({60: seen})) == Verdict(Holds.YES, 0.05)
    assert judged(replace(ctr, min_requests=11), Sighting({60: seen})).holds is Holds.UNDECIDED
    assert judged(Threshold("cpu_percent", ">", 90.0), Sighting({60: seen})) == Verdict(Holds.YES, 95.0)
    idle = Threshold("gpu_utilization", "<", 10.0)
    assert judged(idle, Sighting({60: seen})).holds is Holds.UNDECIDED, "no GPU is not an idle one"
    assert judged(idle, Sighting({60: Seen(60.0, usage=Usage(gpu_utilization=0.0))})) == Verdict(Holds.YES, 0.0)
    full = Threshold("gpu_memory_percent", ">", 90.0)
    assert judged(full, Sighting({60: Seen(60.0, usage=Usage(gpu_memory_percent=95.0))})) == Verdict(Holds.YES, 95.0)
    drift = DriftSeen("moderate", {"age": "high"})
    assert judged(DriftAtLeast("high"), Sighting(drift=drift)).holds is Holds.NO
    assert judged(DriftAtLeast("high", ("age",)), Sighting(drift=drift)) == Verdict(Holds.YES, 2.0)
    assert judged(DriftAtLeast("moderate"), Sighting()).holds is Holds.UNDECIDED
    odd = Threshold("traffic_deviation", ">", 5.0)
    assert judged(odd, Sighting(deviation=-6.0)) == Verdict(Holds.YES, 6.0)
    assert judged(odd, Sighting()).holds is Holds.UNDECIDED


def test_a_budget_must_burn_in_both_windows_and_faults_alone_burn_it() -> None:
    burning, calm = cell(1000, errors=20), cell(100, errors=0)
    assert burn_rate(BURN, burning) == pytest.approx(20)
    assert verdict(BURN, burning, burning).holds is Holds.YES
    # It mattered and is over; it is so and does not matter yet.
    assert verdict(BURN, burning, calm).holds is Holds.NO
    assert verdict(BURN, cell(1000, errors=1), cell(100, errors=50)).holds is Holds.NO
    assert verdict(BURN, cell(99, errors=99), cell(99, errors=99)).holds is Holds.UNDECIDED
    callers = cell(1000, errors=500, reason="SCHEMA_VIOLATION")
    assert verdict(BURN, callers, callers) == Verdict(Holds.NO, 0.0)
    slow = replace(BURN, indicator="latency", latency_ms=200.0)
    assert burn_rate(slow, cell(100, latency_us=250_000)) == pytest.approx(1000)
    assert burn_rate(slow, cell(100, latency_us=150_000)) == 0


def test_one_read_serves_all_rules() -> None:
    rules = [
        SPEC,
        replace(SPEC, condition=replace(ERRORS, metric="latency_p99_ms", window_s=300)),
        replace(SPEC, condition=BURN),
        replace(SPEC, condition=replace(ERRORS, metric="ctr")),
        replace(SPEC, condition=replace(ERRORS, metric="cpu_percent")),
    ]
    assert needs_of(rules) == Needs(
        frozenset({60, 300, 3600}), frozenset({300}), {60: frozenset({"ctr"})}, frozenset({60})
    )
    assert [read_again_after_s(length) for length in (60, 900, 3600, 86_400)] == [0, 0, 60, 1440]


def test_a_rule_on_traffic_watches_who_has_none_for_a_day() -> None:
    spec = RuleSpec("r", Threshold("request_count", "<", 1.0), "warning")
    by, known, now = WatchedBy("r", "m", "v1.0.0"), Known(1, {"r": spec}), NOON
    turned = advanced(known, {by: Verdict(Holds.NO, 5.0)}, busy={by}, now=now)
    assert by in turned.watches
    now += timedelta(minutes=5)
    turned = advanced(Known(1, {"r": spec}, turned.watches), {by: Verdict(Holds.YES, 0.0)}, busy=(), now=now)
    assert [alert.version for alert in turned.fired] == ["v1.0.0"]
    late = NOON + TRAFFIC_KEPT + timedelta(minutes=20)
    over = advanced(Known(1, {"r": spec}, turned.watches), {by: Verdict(Holds.YES, 0.0)}, busy=(), now=late)
    assert (over.ended, list(over.gone)) == ((turned.fired[0].alert_id,), [by])


def test_the_usual_is_that_of_the_same_hour_on_the_same_sort_of_day() -> None:
    monday = (4 * 24 + 10) * HOUR  # 5 January 1970 was one
    hours = compared_hours(monday + 28 * 24 * HOUR)
    assert len(hours) == 20
    assert all((hour // HOUR) % 24 == 10 for hour in hours)
    now = monday + 28 * 24 * HOUR
    usual = {hour: 1000 + 10 * (place % 5) for place, hour in enumerate(hours)}
    assert abs(deviation(now, {**usual, now: 1020}) or 0.0) < 1
    assert (deviation(now, {**usual, now: 3000}) or 0.0) > 5
    assert (deviation(now, {**usual, now: 0}) or 0.0) < -5
    # One odd day among them changes little.
    assert abs(deviation(now, {**usual, hours[3]: 100_000, now: 1020}) or 0.0) < 1
    assert deviation(now, {**dict(list(usual.items())[:6]), now: 3000}) is None
    assert deviation(now, {**dict.fromkeys(hours, 3), now: 3000}) is None


@given(st.integers(0, 10**8))
def test_the_last_hour_is_over(minute: int) -> None:
    hour = last_hour(minute + 200)
    assert hour % HOUR == 0
    assert minute + 200 - HOUR - 62 < hour <= minute + 200 - HOUR - 2


@pytest.mark.parametrize(
    ("spec", "secret", "field"),
    [
        (ChannelSpec("c", Means.SLACK), "", "notification_channel.slack.webhook_url"),
        (ChannelSpec("c", Means.SLACK), "http://hooks.example/token", "notification_channel.slack.webhook_url"),
        (ChannelSpec("c", Means.PAGER_DUTY), "token", "notification_channel.pager_duty.routing_key"),
        (ChannelSpec("c", Means.WEBHOOK, "http://a.example/"), "", "notification_channel.webhook.url"),
        (ChannelSpec("c", Means.WEBHOOK, "https://10.0.0.1/"), "", "notification_channel.webhook.url"),
        (
            ChannelSpec("c", Means.WEBHOOK, "https://a.example/"),
            "token" * 200,
            "notification_channel.webhook.signing_secret",
        ),
        (ChannelSpec("c", Means.EMAIL), "", "notification_channel.email.addresses"),
        (ChannelSpec("c", Means.EMAIL, addresses=("ann",)), "", "notification_channel.email.addresses[0]"),
        (ChannelSpec("C!", Means.EMAIL, addresses=("a@b.example",)), "", "notification_channel.name"),
        (
            ChannelSpec("c", Means.EMAIL, addresses=("a@b.example",), min_severity="x"),
            "",
            "notification_channel.min_severity",
        ),
    ],
)
def test_a_wrong_channel_is_refused_by_field_without_its_secret(spec: ChannelSpec, secret: str, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        checked_channel(spec, secret, OPEN)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert "token" not in str(caught.value)
    with pytest.raises(MeshError, match="INFERMESH_MONITOR"):
        checked_channel(ChannelSpec("c", Means.PAGER_DUTY), "k" * 32, Offices())


def test_slack_shows_its_host_alone() -> None:
    spec, secret = checked_channel(ChannelSpec("c", Means.SLACK), "https://hooks.slack.com/services/token", OPEN)
    assert (spec.target, secret) == ("hooks.slack.com", "https://hooks.slack.com/services/token")
    assert spec.min_severity == "info"


@pytest.mark.parametrize(
    ("silence", "field"),
    [
        (Silence("", "", "", "", NOON, NOON + timedelta(hours=1)), "silence.rule_name"),
        (Silence("", "r", "", "", NOON, NOON), "silence.end_time"),
        (Silence("", "r", "", "", NOON, NOON + timedelta(days=30, seconds=1)), "silence.end_time"),
        (Silence("", "r", "", "", NOON - timedelta(hours=2), NOON - timedelta(hours=1)), "silence.end_time"),
        (Silence("", "r", "", "x" * 1001, NOON, NOON + timedelta(hours=1)), "silence.reason"),
    ],
)
def test_a_wrong_silence_is_refused_by_field(silence: Silence, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        checked_silence(silence, now=NOON)
    assert [violation.field for violation in caught.value.violations] == [field]


def test_summaries_say_the_values_with_their_units() -> None:
    slow = replace(SPEC, condition=Threshold("latency_p95_ms", ">", 200.0, 300))
    assert summary_of(slow, "digits", "v1.0.0", 312.456) == (
        "digits v1.0.0: the 95th percentile of the latency is 312.5 ms over 5 min, above 200 ms"
    )
    assert summary_of(replace(SPEC, condition=BURN), "digits", "v1.0.0", 20.0) == (
        "digits v1.0.0 burns the error budget of 0.999 20 times as fast as it may, over 1 h and 5 min; "
        "the limit is 14.4"
    )
