"""Protobuf ⇄ domain values."""

from datetime import datetime

from google.protobuf import json_format, timestamp_pb2
from infermesh.common.v1 import serving_pb2
from infermesh.deployer.v1 import backend_service_pb2
from infermesh.router.v1 import receiver_pb2, router_service_pb2, serving_table_pb2, traffic_pb2, traffic_rule_pb2

from services.common.names import SemanticVersion
from services.router.domain.access import Owner
from services.router.domain.backends import BackendUpdate, ReadyModel, ReadyVersion
from services.router.domain.conditions import EXACT, PREFIX, ConditionWish, RouteCondition
from services.router.domain.merge import ServingModel
from services.router.domain.resolve import Resolution
from services.router.domain.routing import GatewayState
from services.router.domain.rules import SPLIT_RULE, Change, ShownRule
from services.router.domain.shadows import Comparison, Shadow
from services.router.domain.table import TableStep
from services.router.domain.view import TrafficView, change_sentences
from services.router.domain.wishes import SplitWish
from services.router.engines.batchers import Session
from services.router.engines.changing import Call
from services.router.engines.traffic import Plan


def update_from_proto(message: backend_service_pb2.WatchBackendsResponse) -> BackendUpdate:
    """What the deployer says."""
    return BackendUpdate(
        revision=message.revision,
        full=message.full,
        models=tuple(ready_from_proto(model) for model in message.models),
        removed=tuple(message.removed_models),
    )


def ready_from_proto(message: serving_pb2.ServedModel) -> ReadyModel:
    """What is ready of a model, in ascending order of version."""
    versions = [
        ReadyVersion(served.version, served.deployment_name, served.SerializeToString(deterministic=True))
        for served in message.versions
    ]
    versions.sort(key=lambda one: SemanticVersion.parse(one.version))
    return ReadyModel(message.model_name, tuple(versions), message.team)


def serving_to_proto(model: ServingModel) -> serving_pb2.ServedModel:
    """What batchers are told of a model."""
    return serving_pb2.ServedModel(
        model_name=model.ready.model_name,
        default_version=model.default_version,
        versions=[serving_pb2.ServedVersion.FromString(version.served) for version in model.ready.versions],
        team=model.owner.team,
        shared_with=model.owner.shared_with,
        shadows=[
            serving_pb2.ShadowTarget(
                version=one.version, percent=one.percent, comparison=comparison_to_proto(one.comparison)
            )
            for one in model.shadows
        ],
        aliases=model.aliases,
        log_labels=model.log_labels,
    )


def serving_from_proto(message: serving_pb2.ServedModel) -> ServingModel:
    """What batchers were told of a model."""
    return ServingModel(
        ready=ready_from_proto(message),
        default_version=message.default_version,
        shadows=tuple(
            Shadow(one.version, one.percent, comparison_from_proto(one.comparison)) for one in message.shadows
        ),
        aliases=dict(message.aliases),
        log_labels=message.log_labels,
        owner=Owner(message.team, tuple(message.shared_with)),
    )


def comparison_to_proto(comparison: Comparison) -> serving_pb2.ShadowComparison:
    """How answers of copies are compared."""
    return serving_pb2.ShadowComparison(
        method=comparison.method,
        top_k=comparison.top_k,
        absolute_tolerance=comparison.absolute_tolerance,
        relative_tolerance=comparison.relative_tolerance,
    )


def comparison_from_proto(message: serving_pb2.ShadowComparison) -> Comparison:
    """How answers of copies are compared, with the defaults for what is absent."""
    absent = Comparison()
    return Comparison(
        method=message.method,
        top_k=message.top_k or absent.top_k,
        absolute_tolerance=(
            message.absolute_tolerance if message.HasField("absolute_tolerance") else absent.absolute_tolerance
        ),
        relative_tolerance=(
            message.relative_tolerance if message.HasField("relative_tolerance") else absent.relative_tolerance
        ),
    )


def condition_to_proto(condition: RouteCondition) -> traffic_rule_pb2.RouteCondition:
    """A condition of routing."""
    return traffic_rule_pb2.RouteCondition(
        attribute=condition.attribute,
        values=condition.values,
        match=PREFIX if condition.prefix else EXACT,
        version=condition.version,
    )


def shadow_to_proto(shadow: Shadow) -> traffic_rule_pb2.Shadow:
    """A version that gets copies."""
    return traffic_rule_pb2.Shadow(
        version=shadow.version, percent=shadow.percent, comparison=comparison_to_proto(shadow.comparison)
    )


def step_to_proto(step: TableStep) -> serving_table_pb2.WatchServingTableResponse:
    """A step of the serving table."""
    return serving_table_pb2.WatchServingTableResponse(
        revision=step.revision,
        full=step.full,
        models=[serving_to_proto(model) for model in step.models],
        removed_models=step.removed,
        revoked_keys=serving_table_pb2.RevokedKeys(key_ids=step.revoked) if step.revoked is not None else None,
    )


def call_from_proto(
    request: router_service_pb2.UpdateTrafficRequest
    | router_service_pb2.UndoTrafficRequest
    | router_service_pb2.RollBackRequest,
    *,
    actor: str,
) -> Call:
    """What all calls that change traffic have in common."""
    return Call(
        model_name=request.model_name,
        deployment_name=(
            request.deployment_name if isinstance(request, router_service_pb2.UpdateTrafficRequest) else ""
        ),
        etag=request.etag,
        reason=request.reason,
        request_id=request.request_id,
        actor=actor,
    )


def wish_from_proto(request: router_service_pb2.UpdateTrafficRequest) -> SplitWish:
    """What is asked of the traffic, but for a canary."""
    return SplitWish(
        weights=dict(request.traffic_split),
        strategy=request.routing_strategy,
        sticky_header=request.sticky_key_header,
        conditions=tuple(
            ConditionWish(one.attribute, tuple(one.values), one.match, one.version) for one in request.conditions
        ),
        shadows=tuple(
            Shadow(one.version, one.percent or 100, comparison_from_proto(one.comparison)) for one in request.shadows
        ),
        clear=tuple(request.clear),
    )


def view_to_proto(view: TrafficView) -> traffic_pb2.Traffic:
    """The traffic of a model."""
    shown = traffic_pb2.Traffic(
        model_name=view.model_name,
        traffic_split=view.split,
        effective_split=view.effective,
        routing_strategy=view.strategy.value,
        sticky_key_header=view.sticky_header,
        conditions=[condition_to_proto(one) for one in view.route_conditions],
        shadows=[shadow_to_proto(one) for one in view.shadows],
        ready_versions=view.ready,
        explicit=view.rule is not None,
        status_conditions=[
            traffic_pb2.TrafficCondition(type=one.kind, status=str(one.holds), reason=one.reason, message=one.message)
            for one in view.conditions
        ],
        revision=view.revision,
        etag=view.etag,
    )
    if view.rule is not None:
        shown.governing_rule = view.rule.governing or SPLIT_RULE
        shown.updated_at.CopyFrom(timestamp(view.rule.updated_at))
        shown.updated_by = view.rule.updated_by
        shown.reason = view.rule.reason
    return shown


def plan_to_proto(plan: Plan) -> router_service_pb2.TrafficPlan:
    """What a change would do."""
    return router_service_pb2.TrafficPlan(
        before=view_to_proto(plan.before),
        after=view_to_proto(plan.after),
        moved_percent=plan.moved_percent,
        changes=plan.changes,
    )


def change_to_proto(change: Change) -> traffic_pb2.TrafficChange:
    """A change that happened."""
    return traffic_pb2.TrafficChange(
        change_id=change.change_id,
        model_name=change.model_name,
        deployment_name=change.deployment_name,
        time=timestamp(change.time),
        action=change.action,
        actor=change.actor,
        reason=change.reason,
        before=change.before.positive,
        after=change.after.positive,
        routing_strategy=change.after.strategy.value,
        sticky_key_header=change.after.sticky_header,
        etag=change.etag,
        changes=change_sentences(change.before, change.after),
    )


def rule_to_proto(rule: ShownRule) -> traffic_rule_pb2.TrafficRule:
    """A rule."""
    shown = traffic_rule_pb2.TrafficRule(
        rule_id=rule.rule_id,
        model_name=rule.model_name,
        rule_name=rule.rule_name,
        rule_type=rule.rule_type,
        version_weights=rule.weights,
        routing_strategy=rule.strategy,
        sticky_key_header=rule.sticky_header,
        conditions=[condition_to_proto(one) for one in rule.conditions],
        start_time=timestamp(rule.start_time),
        status=rule.status,
        auto_promote=rule.auto_promote,
        created_by=rule.created_by,
        created_at=timestamp(rule.created_at),
        updated_at=timestamp(rule.updated_at),
    )
    if rule.end_time is not None:
        shown.end_time.CopyFrom(timestamp(rule.end_time))
    if rule.success_criteria:
        json_format.Parse(rule.success_criteria, shown.success_criteria, ignore_unknown_fields=True)
    return shown


def resolution_to_proto(resolution: Resolution, *, revision: int) -> router_service_pb2.ResolveRouteResponse:
    """Where a request would go."""
    return router_service_pb2.ResolveRouteResponse(
        version=resolution.version,
        decided_by=resolution.decided_by.value,
        explanation=resolution.explanation,
        split=resolution.split,
        revision=revision,
    )


def gateway_to_proto(state: GatewayState, *, newest: int) -> receiver_pb2.Gateway:
    """A gateway that is connected."""
    return receiver_pb2.Gateway(
        gateway_id=state.gateway_id,
        acknowledged_revision=state.acknowledged_revision,
        current=state.acknowledged_revision >= newest,
        error_message=state.error_message,
    )


def batcher_to_proto(session: Session, *, newest: int) -> receiver_pb2.Batcher:
    """A batcher that is connected."""
    return receiver_pb2.Batcher(
        batcher_id=session.batcher_id,
        address=session.address,
        acknowledged_revision=session.acknowledged_revision,
        current=session.acknowledged_revision >= newest,
        error_message=session.error_message,
        connected_at=timestamp(session.connected_at),
        connected=True,
    )


def missed_to_proto(name: str, address: str) -> receiver_pb2.Batcher:
    """A batcher that gateways send to although it is not connected."""
    return receiver_pb2.Batcher(batcher_id=name, address=address)


def timestamp(moment: datetime) -> timestamp_pb2.Timestamp:
    """A moment."""
    stamp = timestamp_pb2.Timestamp()
    stamp.FromDatetime(moment)
    return stamp
