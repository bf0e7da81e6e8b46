"""Protobuf ⇄ domain values of canaries."""

from collections.abc import Sequence

from infermesh.router.v1 import canary_pb2, router_service_pb2, traffic_rule_pb2

from services.router.convert import timestamp
from services.router.domain.canary import CanaryConfig, CanaryStatus, StageRecord
from services.router.domain.canary_wish import CanaryWish, StageWish
from services.router.domain.criteria import CriterionResult, MetricCriterion, SuccessCriteria
from services.router.engines.canaries import CanaryView
from services.router.engines.changing import Call

_LIMITS = (
    "error_rate_max",
    "latency_p95_max_ms",
    "latency_p99_max_ms",
    "accuracy_min",
    "error_rate_increase_max",
    "latency_p95_ratio_max",
    "accuracy_decrease_max",
    "prediction_shift_max",
    "shadow_disagreement_max",
)

CanaryRequest = (
    router_service_pb2.PauseCanaryRequest
    | router_service_pb2.ResumeCanaryRequest
    | router_service_pb2.AbortCanaryRequest
    | router_service_pb2.PromoteCanaryRequest
)


def canary_call_from_proto(request: CanaryRequest, *, actor: str) -> Call:
    """What all calls that move a canary have in common."""
    return Call(model_name=request.model_name, etag=request.etag, reason=request.reason, actor=actor)


def canary_wish_from_proto(message: traffic_rule_pb2.CanaryConfig) -> CanaryWish:
    """A canary that is asked for."""
    return CanaryWish(
        stages=[StageWish(stage.percent, stage.duration_minutes) for stage in message.stages],
        criteria=_criteria_from_proto(message.success_criteria) if message.HasField("success_criteria") else None,
        hold_minutes_max=message.hold_minutes_max,
    )


def canary_to_proto(view: CanaryView) -> canary_pb2.Canary:
    """A canary and how far it is."""
    canary, rollout = view.canary, view.rollout
    shown = canary_pb2.Canary(
        canary_id=canary.canary_id,
        model_name=canary.model_name,
        deployment_name=canary.deployment_name,
        version=canary.version,
        baseline_version=canary.baseline_version,
        status=canary.status.value,
        config=_config_to_proto(canary.config),
        stage=canary.stage,
        percent=canary.percent,
        stage_started_at=timestamp(canary.stage_started_at),
        results=_results_to_proto(view.results),
        status_reason=canary.status_reason,
        created_by=rollout.created_by,
        created_at=timestamp(rollout.created_at),
        etag=rollout.etag,
        history=[_record_to_proto(record) for record in canary.history],
        evidence_error=view.evidence_error,
    )
    if canary.status is CanaryStatus.RUNNING:
        shown.stage_ends_at.CopyFrom(timestamp(canary.stage_ends_at))
    if rollout.ended_at is not None:
        shown.ended_at.CopyFrom(timestamp(rollout.ended_at))
    if canary.held_since is not None and canary.hold_ends_at is not None:
        shown.held_since.CopyFrom(timestamp(canary.held_since))
        shown.hold_ends_at.CopyFrom(timestamp(canary.hold_ends_at))
    return shown


def _criteria_from_proto(message: traffic_rule_pb2.SuccessCriteria) -> SuccessCriteria:
    """Only fields that are set are listed, zeros included."""
    limits = {field.name: value for field, value in message.ListFields() if field.name != "metrics"}
    metrics = tuple(
        MetricCriterion(**{field.name: value for field, value in metric.ListFields()}) for metric in message.metrics
    )
    return SuccessCriteria(metrics=metrics, **limits)


def _config_to_proto(config: CanaryConfig) -> traffic_rule_pb2.CanaryConfig:
    criteria = config.criteria
    return traffic_rule_pb2.CanaryConfig(
        enabled=True,
        stages=[
            traffic_rule_pb2.CanaryStage(percent=stage.percent, duration_minutes=stage.duration_s / 60)
            for stage in config.stages
        ],
        success_criteria=traffic_rule_pb2.SuccessCriteria(
            # What is None is not set.
            **{name: getattr(criteria, name) for name in _LIMITS},
            requests_min=criteria.requests_min,
            metrics=[
                traffic_rule_pb2.MetricCriterion(
                    name=metric.name, min=metric.min, max=metric.max, decrease_max=metric.decrease_max
                )
                for metric in criteria.metrics
            ],
        ),
        hold_minutes_max=config.hold_s / 60,
    )


def _record_to_proto(record: StageRecord) -> canary_pb2.CanaryStageRecord:
    return canary_pb2.CanaryStageRecord(
        stage=record.stage,
        percent=record.percent,
        started_at=timestamp(record.started_at),
        ended_at=timestamp(record.ended_at),
        outcome=record.outcome.value,
        results=_results_to_proto(record.results),
    )


def _results_to_proto(results: Sequence[CriterionResult]) -> list[canary_pb2.CriterionResult]:
    return [
        canary_pb2.CriterionResult(
            criterion=result.criterion,
            limit=result.limit,
            measured=result.measured,
            baseline=result.baseline,
            request_count=result.request_count,
            verdict=result.verdict.value,
            low=result.low,
            high=result.high,
        )
        for result in results
    ]
