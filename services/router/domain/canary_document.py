"""Canaries as JSON documents, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from datetime import datetime
from typing import Any

from services.router.domain.canary import (
    Canary,
    CanaryConfig,
    CanaryStatus,
    Stage,
    StageOutcome,
    StageRecord,
)
from services.router.domain.criteria import CriterionResult, MetricCriterion, SuccessCriteria, Verdict
from services.router.domain.rollouts import Document, Json, Rollout, RolloutKind
from services.router.domain.routing import Share

Object = Mapping[str, Any]


def canary_of(rollout: Rollout) -> Canary:
    """The canary that a rollout of that kind is."""
    read: Object = rollout.document
    held_since = read["held_since"]
    return Canary(
        canary_id=rollout.rollout_id,
        name=rollout.name,
        model_name=rollout.model_name,
        deployment_name=read["deployment_name"],
        version=read["version"],
        baseline_version=read["baseline_version"],
        config=CanaryConfig(
            criteria=_criteria(read["success_criteria"]),
            stages=tuple(Stage(percent, duration_s) for percent, duration_s in read["stages"]),
            hold_s=read["hold_s"],
        ),
        shares_before=dict(read["shares_before"]),
        places_before=tuple(Share(version, places) for version, places in read["places_before"]),
        stage_started_at=datetime.fromisoformat(read["stage_started_at"]),
        status=CanaryStatus(rollout.status),
        status_reason=read["status_reason"],
        stage=read["stage"],
        held_since=datetime.fromisoformat(held_since) if held_since is not None else None,
        labels_before=read["labels_before"],
        history=tuple(_record(record) for record in read["history"]),
    )


def new_rollout(canary: Canary, *, now: datetime, created_by: str, request_id: str, digest: str) -> Rollout:
    """A canary that has just been started, to be stored."""
    fresh = Rollout(
        rollout_id=canary.canary_id,
        model_name=canary.model_name,
        name=canary.name,
        kind=RolloutKind.CANARY,
        status=canary.status,
        document={},
        created_at=now,
        updated_at=now,
        created_by=created_by,
        request_id=request_id,
        request_digest=digest,
    )
    return with_canary(fresh, canary, now=now)


def with_canary(
    rollout: Rollout, canary: Canary, *, now: datetime, results: Sequence[CriterionResult] | None = None
) -> Rollout:
    """`rollout` after its canary has become this, to be stored; `results` are what it shows from then on, None: what it
    showed."""
    return replace(
        rollout,
        status=canary.status.value,
        document=_document(canary),
        updated_at=now,
        ended_at=None if canary.running else now,
        results=rollout.results if results is None else shown(results),
    )


def shown(results: Sequence[CriterionResult], *, evidence_error: str = "") -> Document:
    """What a canary shows, as `Rollout.results`."""
    return {"results": _results_to_json(results), "evidence_error": evidence_error}


def results_of(rollout: Rollout) -> tuple[tuple[CriterionResult, ...], str]:
    """What it shows, and why nothing is judged."""
    read: Object = rollout.results
    return _results(read.get("results", [])), read.get("evidence_error", "")


def _document(canary: Canary) -> Document:
    return {
        "deployment_name": canary.deployment_name,
        "version": canary.version,
        "baseline_version": canary.baseline_version,
        "stages": [[stage.percent, stage.duration_s] for stage in canary.config.stages],
        "success_criteria": _criteria_to_json(canary.config.criteria),
        "hold_s": canary.config.hold_s,
        # A list, because PostgreSQL orders the keys of an object as it likes.
        "shares_before": [[version, share] for version, share in canary.shares_before.items()],
        "places_before": [[run.version, run.percent] for run in canary.places_before],
        "labels_before": canary.labels_before,
        "status_reason": canary.status_reason,
        "stage": canary.stage,
        "stage_started_at": canary.stage_started_at.isoformat(),
        "held_since": canary.held_since.isoformat() if canary.held_since is not None else None,
        "history": [
            {
                "stage": record.stage,
                "percent": record.percent,
                "started_at": record.started_at.isoformat(),
                "ended_at": record.ended_at.isoformat(),
                "outcome": record.outcome.value,
                "results": _results_to_json(record.results),
            }
            for record in canary.history
        ],
    }


def _record(read: Object) -> StageRecord:
    return StageRecord(
        stage=read["stage"],
        percent=read["percent"],
        started_at=datetime.fromisoformat(read["started_at"]),
        ended_at=datetime.fromisoformat(read["ended_at"]),
        outcome=StageOutcome(read["outcome"]),
        results=_results(read["results"]),
    )


def _criteria_to_json(criteria: SuccessCriteria) -> Document:
    """In the words of `infermesh.router.v1.SuccessCriteria`."""
    metrics = [{name: value for name, value in asdict(one).items() if value is not None} for one in criteria.metrics]
    return {**{name: value for name, value in asdict(criteria).items() if value is not None}, "metrics": metrics}


def _criteria(read: Object) -> SuccessCriteria:
    known = {field.name for field in fields(SuccessCriteria)}
    metrics = tuple(MetricCriterion(**metric) for metric in read.get("metrics", ()))
    return SuccessCriteria(**{**{name: value for name, value in read.items() if name in known}, "metrics": metrics})


def _results_to_json(results: Sequence[CriterionResult]) -> Sequence[Json]:
    return [asdict(result) for result in results]


def _results(read: Sequence[Object]) -> tuple[CriterionResult, ...]:
    return tuple(CriterionResult(**{**one, "verdict": Verdict(one["verdict"])}) for one in read)
