"""What becomes of an A/B test: pure functions of how it is, what was seen of it, and what time it is."""

import uuid
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from math import inf

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_version
from services.router.domain.ab_results import AbTestResults, Outcome, ended
from services.router.domain.ab_test import AbTest, AbTestPlan, AbTestStatus, SplitBefore
from services.router.domain.evidence import Evidence, VersionEvidence
from services.router.domain.rollouts import RolloutEvent, Severity
from services.router.domain.rules import Split, Strategy, with_weights
from services.router.domain.sequential import share_interval

ALPHA = 0.01
"""The probability that a test is ended for an error rate that no version has, over all versions and looks together."""
EVIDENCE_PATIENCE = timedelta(hours=1)
"""How long after the planned end the monitor is waited for, before the test ends without a conclusion."""
FOLLOWED_MIN_S = 60.0
"""How long a router must have asked for evidence itself before it gives up: see `canary_steps`."""
UNREADY_GRACE_S = 60.0
"""How long a version may be away, for a restart of its model server, before the test ends: its users get others."""
_EVENTS = uuid.UUID("7c3f5d0e-52a1-5f0c-9a55-3f1f0c6a0002")


@dataclass(frozen=True, slots=True)
class Excess:
    """A version whose error rate is proven to be above the limit."""

    version: str
    error_rate: float
    low: float
    requests: int


@dataclass(frozen=True, slots=True)
class AbLook:
    """What is known of a test at a moment."""

    now: datetime
    excess: Excess | None = None
    results: AbTestResults | None = None
    """What it shows, by evidence that reaches to the planned end; None: there is none such (yet)."""
    last: AbTestResults | None = None
    """The last that it showed; None: it has shown nothing."""
    unready: str = ""
    """The version that has not been ready for too long; empty: none."""
    followed_s: float = inf
    """For how long whoever looks has asked for evidence on it."""

    def given_up(self, test: AbTest) -> bool:
        """Whether evidence on the end has been waited for long enough."""
        return self.now >= test.ends_at + EVIDENCE_PATIENCE and self.followed_s >= FOLLOWED_MIN_S


@dataclass(frozen=True, slots=True)
class AbStep:
    """What happens next."""

    test: AbTest
    split: Split | None = None
    """What the model's split becomes. None: it stays."""
    why: str = ""
    """For the history of the traffic."""
    results: AbTestResults | None = None
    """What it shows from then on. None: what it showed."""
    events: tuple[RolloutEvent, ...] = ()


def started(
    *,
    test_id: str,
    name: str,
    model_name: str,
    plan: AbTestPlan,
    split: Split,
    labels: bool,
    now: datetime,
) -> AbStep:
    """A test; `split` is what holds. Each key keeps its version as far as the shares allow."""
    test = AbTest(
        test_id=test_id,
        name=name,
        model_name=model_name,
        plan=plan,
        before=SplitBefore(dict(split.weights), split.runs, split.strategy, split.sticky_header),
        started_at=now,
        status_reason="it runs until its time is over",
        labels_before=labels,
    )
    sticky = replace(split, strategy=Strategy.STICKY, sticky_header=plan.sticky_header)
    shown = ", ".join(f"{version} {share} %" for version, share in plan.versions.items())
    return AbStep(test, with_weights(sticky, plan.versions), f"A/B test {name}: {shown}")


def excess_of(plan: AbTestPlan, evidence: Evidence) -> Excess | None:
    """The first version beside the control whose error rate is proven above the limit, however often one looks."""
    if plan.error_rate_max <= 0.0:
        return None
    for version in plan.others:
        seen = evidence.versions.get(version, VersionEvidence(version))
        # Where fewer fail than may, nothing is to be proven.
        if seen.faults > plan.error_rate_max * seen.requests:
            low = share_interval(seen.faults, seen.requests, ALPHA / len(plan.others)).low
            if low > plan.error_rate_max:
                return Excess(version, seen.faults / seen.requests, low, seen.requests)
    return None


def decided(test: AbTest, look: AbLook, split: Split) -> AbStep | None:
    """What happens to it now by itself; None: nothing. `split` is what holds."""
    if not test.running:
        return None
    if look.excess is not None:
        return _rolled_back(test, look, look.excess, split)
    back = _as_before(test, split)
    if look.unready:
        why = f"{look.unready} has not been ready for {UNREADY_GRACE_S:g} s, so its users got another version"
        end = _End(AbTestStatus.STOPPED, why, Severity.CRITICAL, version=look.unready)
        return _ended(test, look.now, end, split=back, results=look.last)
    if look.now < test.ends_at:
        return None
    if look.results is not None:
        return _completed(test, look.now, look.results, split, said="its time is over")
    if look.given_up(test):
        why = "its time is over, and for an hour the monitor had no evidence on its end; the shares before it are back"
        return _ended(
            test, look.now, _End(AbTestStatus.COMPLETED, why, Severity.WARNING), split=back, results=look.last
        )
    return None


def stopped(
    test: AbTest, split: Split, *, now: datetime, actor: str, reason: str, last: AbTestResults | None
) -> AbStep:
    """Ends it without a conclusion; the shares before it come back. Raises ROLLOUT_STATE_INVALID."""
    _check_running(test, "stopped")
    end = _End(AbTestStatus.STOPPED, _by_hand("stopped", actor, reason))
    return _ended(test, now, end, split=_as_before(test, split), results=last)


def concluded(
    test: AbTest,
    split: Split,
    *,
    now: datetime,
    actor: str,
    reason: str,
    last: AbTestResults | None,
    promote: str = "",
) -> AbStep:
    """Ends it as if its time were over. Raises ROLLOUT_STATE_INVALID, INVALID_FIELD."""
    _check_running(test, "concluded")
    version = check_version(promote, "promote") if promote else ""
    if version and version not in test.plan.versions:
        raise invalid("promote", promote, f"a version of the test: {', '.join(test.plan.versions)}")
    results = last if last is not None else AbTestResults(control=test.plan.control)
    return _completed(test, now, results, split, said=_by_hand("concluded", actor, reason), promote=version)


def overtaken(test: AbTest, *, now: datetime, reason: str, last: AbTestResults | None) -> AbStep:
    """Ends it because someone else decided the model's shares meanwhile; those stay."""
    return _ended(test, now, _End(AbTestStatus.STOPPED, reason), split=None, results=last)


@dataclass(frozen=True, slots=True)
class _End:
    """How a test ends, and what people are told of it."""

    status: AbTestStatus
    why: str
    severity: Severity = Severity.INFO
    version: str = ""
    value: float = 0.0


def _completed(
    test: AbTest, now: datetime, results: AbTestResults, split: Split, *, said: str, promote: str = ""
) -> AbStep:
    final = ended(test.plan, results)
    winner = promote or (final.winner if test.plan.auto_promote else "")
    given = f"{winner} has all traffic" if winner else "the shares before it are back"
    why = f"{said}; {final.conclusion[:1].lower()}{final.conclusion[1:].rstrip('.')}; {given}"
    severity = Severity.WARNING if final.spoilt else Severity.INFO
    after = _all_for(winner, test, split) if winner else _as_before(test, split)
    end = _End(AbTestStatus.COMPLETED, why, severity, version=winner)
    return _ended(test, now, end, split=after, results=final)


def _rolled_back(test: AbTest, look: AbLook, excess: Excess, split: Split) -> AbStep:
    control = test.plan.control
    why = (
        f"{excess.version} failed {excess.error_rate:.2%} of {excess.requests} requests, for certain more than "
        f"{excess.low:.2%}, where at most {test.plan.error_rate_max:g} may fail; {control} has all traffic"
    )
    end = _End(AbTestStatus.ROLLED_BACK, why, Severity.CRITICAL, version=excess.version, value=excess.error_rate)
    return _ended(test, look.now, end, split=_all_for(control, test, split), results=look.last)


def _ended(test: AbTest, now: datetime, end: _End, *, split: Split | None, results: AbTestResults | None) -> AbStep:
    results = results if results is not None else AbTestResults(test.plan.control)
    if results.outcome is Outcome.WAITING:
        said = f"Not concluded: {end.why}."
        results = replace(results, outcome=Outcome.INCONCLUSIVE, winner="", conclusion=said)
    after = replace(test, status=end.status, status_reason=end.why)
    return AbStep(after, split, end.why, results, (_event(test, now, end, moved=split is not None),))


def _all_for(version: str, test: AbTest, split: Split) -> Split:
    """All traffic for one version, chosen as before the test."""
    before = replace(split, strategy=test.before.strategy, sticky_header=test.before.sticky_header)
    return with_weights(before, {version: 100})


def _as_before(test: AbTest, split: Split) -> Split:
    """The shares before the test: each key gets back the version that it had. The order of later versions is kept."""
    order = (*split.weights, *(version for version in test.before.weights if version not in split.weights))
    return replace(
        split,
        weights={version: test.before.weights.get(version, 0) for version in order},
        runs=test.before.runs,
        strategy=test.before.strategy,
        sticky_header=test.before.sticky_header,
    )


def _event(test: AbTest, now: datetime, end: _End, *, moved: bool) -> RolloutEvent:
    critical = end.severity is Severity.CRITICAL
    return RolloutEvent(
        # The same decision made twice is the same event.
        event_id=str(uuid.uuid5(_EVENTS, test.test_id)),
        kind="ab_test_ended",
        model_name=test.model_name,
        version=end.version or test.plan.control,
        subject=test.name,
        severity=end.severity,
        summary=f"the A/B test {test.name} of {test.model_name} has ended: {end.why}",
        time=now,
        probable_cause="the version behaves otherwise than the control; it stays deployed and can be asked by name"
        if critical
        else "",
        # Where someone else has moved the traffic, that is not for this to undo.
        undo_command=f"infermesh traffic undo {test.model_name}" if moved else "",
        value=end.value,
    )


def _check_running(test: AbTest, wish: str) -> None:
    if not test.running:
        raise MeshError(
            Reason.ROLLOUT_STATE_INVALID,
            f"the A/B test {test.name!r} of model {test.model_name!r} is {test.status} and cannot be {wish}",
            metadata={"model_name": test.model_name, "name": test.name, "status": test.status},
        )


def _by_hand(what: str, actor: str, reason: str) -> str:
    said = f"{what} by {actor or 'hand'}"
    return f"{said}: {reason}" if reason else said
