"""A/B tests as JSON documents, and back."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import datetime
from typing import Any

from services.router.domain.ab_results import AbTestResults, Arm, Basis, Compared, Outcome, Verdict
from services.router.domain.ab_test import AbTest, AbTestPlan, AbTestStatus, SplitBefore
from services.router.domain.rollouts import Document, Rollout, RolloutKind
from services.router.domain.routing import Share
from services.router.domain.rules import Strategy

Object = Mapping[str, Any]


def ab_test_of(rollout: Rollout) -> AbTest:
    """The test that a rollout of that kind is."""
    read: Object = rollout.document
    before: Object = read["before"]
    return AbTest(
        test_id=rollout.rollout_id,
        name=rollout.name,
        model_name=rollout.model_name,
        plan=AbTestPlan(
            versions=dict(read["versions"]),
            duration_s=read["duration_s"],
            metrics=tuple(read["metrics"]),
            error_rate_max=read["rollback_on_error_rate"],
            auto_promote=read["auto_promote"],
            sticky_header=read["sticky_key_header"],
        ),
        before=SplitBefore(
            weights=dict(before["weights"]),
            runs=tuple(Share(version, places) for version, places in before["runs"]),
            strategy=Strategy(before["strategy"]),
            sticky_header=before["sticky_header"],
        ),
        started_at=datetime.fromisoformat(read["started_at"]),
        status=AbTestStatus(rollout.status),
        status_reason=read["status_reason"],
        labels_before=read["labels_before"],
    )


def new_rollout(test: AbTest, *, created_by: str, request_id: str, digest: str) -> Rollout:
    """A test that has just been started, to be stored."""
    return Rollout(
        rollout_id=test.test_id,
        model_name=test.model_name,
        name=test.name,
        kind=RolloutKind.AB_TEST,
        status=test.status.value,
        document=_document(test),
        created_at=test.started_at,
        updated_at=test.started_at,
        created_by=created_by,
        request_id=request_id,
        request_digest=digest,
    )


def with_ab_test(rollout: Rollout, test: AbTest, *, now: datetime, results: AbTestResults | None = None) -> Rollout:
    """`rollout` after its test has become this, to be stored; `results` are what it shows from then on, None: what it
    showed."""
    return replace(
        rollout,
        status=test.status.value,
        document=_document(test),
        updated_at=now,
        ended_at=None if test.running else now,
        results=rollout.results if results is None else shown(results),
    )


def shown(results: AbTestResults) -> Document:
    """What a test shows, as `Rollout.results`."""
    as_of = results.as_of.isoformat() if results.as_of is not None else None
    return {**asdict(results), "as_of": as_of}


def shown_by(rollout: Rollout) -> AbTestResults | None:
    """What it shows; None: nothing yet."""
    read: Object = rollout.results
    if not read:
        return None
    return AbTestResults(
        **{
            **read,
            "arms": tuple(Arm(**arm) for arm in read["arms"]),
            "comparisons": tuple(
                Compared(**{**row, "verdict": Verdict(row["verdict"])}) for row in read["comparisons"]
            ),
            "as_of": datetime.fromisoformat(read["as_of"]) if read["as_of"] is not None else None,
            "outcome": Outcome(read["outcome"]),
            "basis": Basis(read["basis"]),
        }
    )


def _document(test: AbTest) -> Document:
    plan, before = test.plan, test.before
    return {
        # Lists, because PostgreSQL orders the keys of an object as it likes.
        "versions": [[version, share] for version, share in plan.versions.items()],
        "duration_s": plan.duration_s,
        "metrics": list(plan.metrics),
        "rollback_on_error_rate": plan.error_rate_max,
        "auto_promote": plan.auto_promote,
        "sticky_key_header": plan.sticky_header,
        "before": {
            "weights": [[version, share] for version, share in before.weights.items()],
            "runs": [[run.version, run.percent] for run in before.runs],
            "strategy": before.strategy.value,
            "sticky_header": before.sticky_header,
        },
        "started_at": test.started_at.isoformat(),
        "status_reason": test.status_reason,
        "labels_before": test.labels_before,
    }
