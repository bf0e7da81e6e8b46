"""What becomes of a canary, case by case."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from services.common.errors import MeshError, Reason
from services.router.domain.canary import (
    EVIDENCE_LAG,
    STAGES_DEFAULT,
    Canary,
    CanaryConfig,
    CanaryStatus,
    Stage,
    StageOutcome,
)
from services.router.domain.canary_document import canary_of, new_rollout, results_of, shown, with_canary
from services.router.domain.canary_steps import (
    Look,
    Step,
    aborted,
    decided,
    next_look_s,
    overtaken,
    paused,
    promoted,
    resumed,
    split_after,
    stage_criteria,
    stage_shares,
    started,
)
from services.router.domain.criteria import UNBOUNDED, CriterionResult, MetricCriterion, SuccessCriteria, Verdict
from services.router.domain.rollouts import Severity
from services.router.domain.rules import Split, Strategy, with_weights
from tests.support.clock import NOON

OLD, OLDER, NEW = "v1.0.0", "v0.9.0", "v1.1.0"
CRITERIA = SuccessCriteria(error_rate_max=0.01, requests_min=50)
CONFIG = CanaryConfig(CRITERIA, (Stage(10, 60.0), Stage(50, 120.0), Stage(100, 0.0)), hold_s=600.0)


def result(verdict: Verdict, **more: Any) -> CriterionResult:
    base = CriterionResult("error_rate_max", 0.01, 0.042, 0.002, 812, verdict, 0.031, 0.056)
    return replace(base, **more)


GOOD, BAD, OPEN = result(Verdict.PASSING), result(Verdict.BREACHED), result(Verdict.WAITING)


def begun(config: CanaryConfig = CONFIG, split: Split | None = None, version: str = NEW) -> Step:
    return started(
        canary_id="0b0e2f5c-7f0f-4f5e-9d53-1c9e0b6d7a11",
        model_name="digits",
        deployment_name="new",
        version=version,
        config=config,
        split=split or Split({OLD: 100}),
        labels=False,
        now=NOON,
    )


def look(after_s: float, *results: CriterionResult, **more: Any) -> Look:
    now = NOON + timedelta(seconds=after_s)
    return Look(**{"now": now, "results": results or (GOOD,), "requests": 1000, "seen_until": now, **more})


def went(canary: Canary, seen: Look) -> Step:
    step = decided(canary, seen)
    assert step is not None
    return step


def test_it_begins_with_its_first_stage() -> None:
    step = begun()
    assert step.canary.status is CanaryStatus.RUNNING
    assert (step.canary.baseline_version, step.canary.percent) == (OLD, 10)
    assert step.shares == {NEW: 10, OLD: 90}
    assert not step.events
    assert step.canary.name == "canary-0b0e2f5c"


def test_it_takes_from_all_others_in_proportion_and_replaces_the_largest() -> None:
    step = begun(split=Split({OLDER: 30, OLD: 70}))
    assert step.canary.baseline_version == OLD
    assert step.shares == {NEW: 10, OLDER: 27, OLD: 63}
    half = stage_shares(replace(step.canary, stage=1))
    assert half == {NEW: 50, OLDER: 15, OLD: 35}


def test_a_version_that_had_a_share_keeps_its_place_in_the_order() -> None:
    step = begun(split=Split({OLD: 95, NEW: 5}))
    assert list((step.shares or {}).items()) == [(OLD, 90), (NEW, 10)]


def test_there_must_be_another_version_to_take_from() -> None:
    with pytest.raises(MeshError) as raised:
        begun(split=Split({NEW: 100, OLD: 0}))
    assert raised.value.reason is Reason.ROLLOUT_STATE_INVALID


def test_a_stage_passes_when_its_time_is_over_and_all_is_proven() -> None:
    canary = begun().canary
    assert decided(canary, look(59.9)) is None
    step = went(canary, look(60.0))
    assert (step.canary.stage, step.canary.percent, step.shares) == (1, 50, {NEW: 50, OLD: 50})
    assert step.canary.stage_started_at == NOON + timedelta(seconds=60)
    (record,) = step.canary.history
    assert (record.outcome, record.percent, record.results) == (StageOutcome.PASSED, 10, (GOOD,))
    assert step.results == ()
    assert not step.events


@pytest.mark.parametrize(
    "seen",
    [
        look(61.0, GOOD, OPEN),
        look(61.0, GOOD, requests=49),
        look(61.0, GOOD, complete=False),
        look(61.0, GOOD, seen_until=NOON + timedelta(seconds=58)),
        look(61.0, GOOD, seen_until=None),
        Look(NOON + timedelta(seconds=61)),
    ],
    ids=["a limit is open", "few requests", "incomplete", "late", "none yet", "away"],
)
def test_what_is_not_proven_is_held_and_in_the_end_rolled_back(seen: Look) -> None:
    canary = begun().canary
    assert decided(canary, seen) is None
    held_at = canary.stage_ends_at + EVIDENCE_LAG
    held = went(canary, replace(seen, now=held_at))
    assert (held.canary.status, held.canary.held_since, held.shares) == (CanaryStatus.RUNNING, held_at, None)
    (event,) = held.events
    assert (event.kind, event.severity) == ("canary_held", Severity.WARNING)
    assert "held" in event.summary
    assert decided(held.canary, replace(seen, now=held_at + timedelta(seconds=599))) is None
    over = went(held.canary, replace(seen, now=held_at + timedelta(seconds=600)))
    assert (over.canary.status, over.shares) == (CanaryStatus.ROLLED_BACK, {OLD: 100})
    assert over.canary.history[-1].outcome is StageOutcome.NOT_ENOUGH_DATA
    (failed,) = over.events
    assert (failed.kind, failed.severity) == ("canary_failed", Severity.CRITICAL)
    assert "10 minutes" in failed.summary


def test_a_held_stage_passes_once_it_is_proven() -> None:
    canary = begun().canary
    held = went(canary, look(70.0, OPEN)).canary
    step = went(held, look(200.0))
    assert (step.canary.stage, step.canary.held_since) == (1, None)
    # The alert that it is held is over.
    (event,) = step.events
    assert (event.kind, event.severity) == ("canary_held", Severity.INFO)


@pytest.mark.parametrize("after_s", [1.0, 61.0, 100.0])
def test_a_breach_rolls_back_at_any_moment(after_s: float) -> None:
    step = went(begun(split=Split({OLDER: 30, OLD: 70})).canary, look(after_s, GOOD, BAD, complete=False))
    assert (step.canary.status, step.canary.percent) == (CanaryStatus.ROLLED_BACK, 0)
    assert step.shares == {OLDER: 30, OLD: 70}
    assert step.canary.history[-1].outcome is StageOutcome.BREACHED
    assert step.results == (GOOD, BAD)
    for figure in ("error_rate_max 0.01", "0.042", "812", "0.031", "0.056", "0.002", "10 %"):
        assert figure in step.canary.status_reason
    (event,) = step.events
    assert (event.kind, event.severity, event.value) == ("canary_failed", Severity.CRITICAL, 0.042)
    assert event.undo_command == "infermesh traffic undo digits"
    assert step.canary.status_reason in event.summary


def test_all_stages_passed_means_all_traffic() -> None:
    second = went(begun().canary, look(60.0)).canary
    step = went(second, look(180.0))
    assert (step.canary.status, step.shares) == (CanaryStatus.PROMOTED, {NEW: 100, OLD: 0})
    assert [record.outcome for record in step.canary.history] == [
        StageOutcome.PASSED,
        StageOutcome.PASSED,
        StageOutcome.PROMOTED,
    ]
    assert [record.percent for record in step.canary.history] == [10, 50, 100]
    (event,) = step.events
    assert (event.kind, event.severity) == ("canary_promoted", Severity.INFO)
    assert event.undo_command == "infermesh rollback digits v1.0.0"


def test_a_last_stage_that_takes_time_is_judged_without_comparison() -> None:
    criteria = SuccessCriteria(
        error_rate_max=0.01, latency_p95_ratio_max=1.2, shadow_disagreement_max=0.1, requests_min=50
    )
    config = CanaryConfig(criteria, (Stage(50, 60.0), Stage(100, 60.0)))
    first = begun(config).canary
    assert stage_criteria(first) == criteria
    last = went(first, look(60.0))
    assert (last.canary.status, last.shares) == (CanaryStatus.RUNNING, {NEW: 100, OLD: 0})
    assert stage_criteria(last.canary) == SuccessCriteria(error_rate_max=0.01, requests_min=50)
    assert went(last.canary, look(90.0, BAD)).shares == {OLD: 100}
    done = went(last.canary, look(120.0))
    assert done.canary.status is CanaryStatus.PROMOTED
    assert [record.outcome for record in done.canary.history] == [StageOutcome.PASSED, StageOutcome.PASSED]


def test_a_single_stage_of_no_time_is_a_plain_change() -> None:
    step = begun(CanaryConfig(CRITERIA, (Stage(100, 0.0),)))
    assert (step.canary.status, step.shares) == (CanaryStatus.PROMOTED, {NEW: 100, OLD: 0})
    assert step.events[0].kind == "canary_promoted"


def test_a_stage_of_no_time_still_needs_its_requests() -> None:
    config = CanaryConfig(CRITERIA, (Stage(10, 0.0), Stage(100, 0.0)))
    canary = begun(config).canary
    assert decided(canary, look(1.0, requests=49)) is None
    assert went(canary, look(1.0, requests=50)).canary.status is CanaryStatus.PROMOTED


def test_a_version_that_cannot_answer_does_not_keep_its_share() -> None:
    canary = begun().canary
    assert decided(canary, look(5.0, unready_s=9.9)) is None
    step = went(canary, look(5.0, unready_s=10.0))
    assert (step.canary.status, step.shares) == (CanaryStatus.ROLLED_BACK, {OLD: 100})
    assert step.canary.history[-1].outcome is StageOutcome.ROLLED_BACK
    assert "not been ready for 10 s" in step.canary.status_reason


def test_a_paused_one_keeps_its_share_and_its_limits() -> None:
    held = went(begun().canary, look(70.0, OPEN)).canary
    step = paused(held, now=NOON, actor="ada", reason="lunch")
    assert (step.canary.status, step.shares, step.canary.held_since) == (CanaryStatus.PAUSED, None, None)
    assert step.canary.status_reason == "paused by ada: lunch"
    assert step.results is None
    assert [(event.kind, event.severity) for event in step.events] == [("canary_held", Severity.INFO)]
    for after_s in (61.0, 100_000.0):
        assert decided(step.canary, look(after_s)) is None
        assert decided(step.canary, Look(NOON + timedelta(seconds=after_s))) is None
    assert paused(step.canary, now=NOON, actor="", reason="").canary == step.canary
    assert went(step.canary, look(5.0, BAD)).canary.status is CanaryStatus.ROLLED_BACK
    assert went(step.canary, look(5.0, unready_s=20.0)).canary.status is CanaryStatus.ROLLED_BACK


def test_a_resumed_one_begins_its_stage_anew() -> None:
    now = NOON + timedelta(seconds=500)
    stopped = paused(begun().canary, now=NOON, actor="", reason="").canary
    shown = (GOOD,)
    step = resumed(stopped, now=now, actor="", reason="", results=shown)
    assert (step.canary.status, step.canary.stage_started_at, step.canary.stage) == (CanaryStatus.RUNNING, now, 0)
    assert (step.canary.history[-1].outcome, step.canary.history[-1].results) == (StageOutcome.RESTARTED, shown)
    assert (step.shares, step.results) == (None, ())
    assert decided(step.canary, look(559.0)) is None
    assert went(step.canary, look(560.0)).canary.stage == 1
    assert resumed(step.canary, now=now, actor="", reason="").canary == step.canary


def test_it_is_ended_by_hand() -> None:
    canary = paused(begun(split=Split({OLDER: 30, OLD: 70})).canary, now=NOON, actor="", reason="").canary
    up = promoted(canary, now=NOON, actor="ada", reason="good", results=(OPEN,))
    assert (up.canary.status, up.shares) == (CanaryStatus.PROMOTED, {NEW: 100, OLDER: 0, OLD: 0})
    assert (up.canary.status_reason, up.results) == ("promoted by ada: good", (OPEN,))
    down = aborted(canary, now=NOON, actor="", reason="")
    assert (down.canary.status, down.shares) == (CanaryStatus.ABORTED, {OLDER: 30, OLD: 70})
    assert down.canary.status_reason == "aborted by hand"
    assert (down.events[0].kind, down.events[0].severity) == ("rolled_back", Severity.INFO)
    taken = overtaken(canary, now=NOON, reason="someone rolled back")
    assert (taken.canary.status, taken.shares) == (CanaryStatus.ABORTED, None)


@pytest.mark.parametrize("status", [CanaryStatus.PROMOTED, CanaryStatus.ROLLED_BACK, CanaryStatus.ABORTED])
def test_what_has_ended_stays_ended(status: CanaryStatus) -> None:
    canary = replace(begun().canary, status=status)
    assert decided(canary, look(1000.0, BAD)) is None
    wishes: list[Callable[[], Step]] = [
        lambda: paused(canary, now=NOON, actor="", reason=""),
        lambda: resumed(canary, now=NOON, actor="", reason=""),
        lambda: promoted(canary, now=NOON, actor="", reason=""),
        lambda: aborted(canary, now=NOON, actor="", reason=""),
    ]
    for wish in wishes:
        with pytest.raises(MeshError) as raised:
            wish()
        assert raised.value.reason is Reason.ROLLOUT_STATE_INVALID
        assert status in raised.value.message


def test_when_it_must_be_looked_at_again() -> None:
    canary = begun().canary
    assert next_look_s(canary, NOON, most_s=100.0) == 60.0
    assert next_look_s(canary, NOON, most_s=1.0) == 1.0
    assert next_look_s(canary, NOON + timedelta(seconds=60), most_s=100.0) == 10.0
    assert next_look_s(canary, NOON + timedelta(seconds=80), most_s=7.0) == 7.0


def test_the_same_decision_is_the_same_event() -> None:
    canary = begun().canary
    one, two = went(canary, look(5.0, BAD)), went(canary, look(6.0, BAD))
    assert one.events[0].event_id == two.events[0].event_id
    assert one.events[0].event_id != aborted(canary, now=NOON, actor="", reason="").events[0].event_id


def test_it_comes_back_from_its_document() -> None:
    criteria = SuccessCriteria(
        error_rate_max=0.01, requests_min=7, metrics=(MetricCriterion("ctr", min=0.1), MetricCriterion("x", max=2.0))
    )
    config = CanaryConfig(criteria, STAGES_DEFAULT)
    canary = begun(config, Split({OLDER: 30, OLD: 70})).canary
    canary = went(canary, look(600.0, result(Verdict.PASSING, low=-UNBOUNDED, high=UNBOUNDED))).canary
    canary = replace(canary, held_since=NOON, labels_before=True)
    rollout = new_rollout(canary, now=NOON, created_by="ada", request_id="r", digest="d")
    assert canary_of(rollout) == canary
    assert list(canary_of(rollout).shares_before) == [OLDER, OLD]
    assert (rollout.running, rollout.created_by, rollout.ended_at) == (True, "ada", None)
    assert rollout.document["success_criteria"] == {
        "error_rate_max": 0.01,
        "requests_min": 7,
        "metrics": [{"name": "ctr", "min": 0.1}, {"name": "x", "max": 2.0}],
    }
    noted = replace(rollout, results=shown([GOOD, OPEN], evidence_error="away"))
    assert results_of(noted) == ((GOOD, OPEN), "away")
    ended = aborted(canary, now=NOON, actor="", reason="").canary
    stored = with_canary(noted, ended, now=NOON)
    assert (stored.running, stored.ended_at, canary_of(stored)) == (False, NOON, ended)
    assert results_of(stored) == ((GOOD, OPEN), "away")
    assert results_of(with_canary(noted, ended, now=NOON, results=())) == ((), "")


def test_who_is_in_the_canary_stays_in_and_afterwards_every_place_is_as_before() -> None:
    before = with_weights(Split({OLD: 100}, Strategy.STICKY, "x-user-id"), {OLDER: 30, OLD: 70})
    step = begun(CanaryConfig(CRITERIA, STAGES_DEFAULT), before)
    split, mine = before, set[int]()
    for stage in range(4):
        canary = replace(step.canary, stage=stage)
        split = split_after(Step(canary, stage_shares(canary)), split)
        own = _places(split, NEW)
        assert len(own) == STAGES_DEFAULT[stage].percent
        assert mine <= own
        mine = own
        back = split_after(aborted(canary, now=NOON, actor="", reason=""), split)
        assert (back.runs, back.positive) == (before.runs, before.positive)
        assert (back.strategy, back.sticky_header) == (Strategy.STICKY, "x-user-id")
    assert split_after(overtaken(canary, now=NOON, reason=""), split) is split


def _places(split: Split, version: str) -> set[int]:
    owners = [run.version for run in split.runs for _ in range(run.percent)]
    return {place for place, owner in enumerate(owners) if owner == version}
