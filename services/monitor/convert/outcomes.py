"""Between protobuf and outcomes."""

from datetime import datetime

from google.protobuf.struct_pb2 import Value
from infermesh.monitor.v1 import outcome_pb2

from services.common.errors import invalid
from services.monitor.convert.moments import moment_from_proto
from services.monitor.domain.outcomes import (
    Outcome,
    OutcomeKey,
    Truth,
    check_instance,
    check_metrics,
    check_observed,
    check_request_id,
    check_truth,
)


def outcome_from_proto(message: outcome_pb2.Outcome, *, field: str, now: datetime) -> Outcome:
    """The outcome that a message states. Raises INVALID_FIELD with the path below `field` of what is wrong."""
    observed = moment_from_proto(
        message.observed_time, given=message.HasField("observed_time"), field=f"{field}.observed_time"
    )
    truth = _truth(message.ground_truth, f"{field}.ground_truth") if message.HasField("ground_truth") else None
    metrics = check_metrics(dict(message.metrics), f"{field}.metrics")
    if truth is None and not metrics:
        raise invalid(f"{field}.metrics", {}, "at least one metric where there is no ground_truth")
    return Outcome(
        OutcomeKey(
            check_request_id(message.request_id, f"{field}.request_id"),
            check_instance(message.instance_index, f"{field}.instance_index"),
        ),
        truth,
        metrics,
        check_observed(observed or now, now, f"{field}.observed_time"),
    )


def outcome_to_proto(outcome: Outcome) -> outcome_pb2.Outcome:
    """The outcome as the contract prints it."""
    message = outcome_pb2.Outcome(
        request_id=outcome.key.request_id,
        instance_index=outcome.key.instance_index,
        metrics=outcome.metrics,
    )
    truth = outcome.truth
    if isinstance(truth, bool):
        message.ground_truth.bool_value = truth
    elif isinstance(truth, str):
        message.ground_truth.string_value = truth
    elif truth is not None:
        message.ground_truth.number_value = truth
    message.observed_time.FromDatetime(outcome.observed_at)
    if outcome.predicted is not None:
        message.model_name = outcome.predicted.model
        message.version = outcome.predicted.version
    return message


def _truth(value: Value, field: str) -> Truth:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return check_truth(value.string_value, field)
    if kind == "number_value":
        return check_truth(value.number_value, field)
    if kind == "bool_value":
        return value.bool_value
    if kind in ("null_value", None):
        return None
    raise invalid(field, kind.removesuffix("_value"), "the name of a class, a number, true or false")
