"""The serving table between its protobuf and domain forms."""

import sys
from collections.abc import Iterable, Mapping, Sequence

from infermesh.common.v1 import serving_pb2

from services.batcher.domain.padding_check import check_padding, without_lengths
from services.batcher.domain.serving import (
    Backend,
    Batching,
    Padding,
    Protocol,
    ServedModel,
    ServedVersion,
    ShadowComparison,
    ShadowTarget,
)
from services.common.errors import MeshError, Reason, invalid
from services.common.feature_view_proto import views_from_proto
from services.common.schema_proto import mapping_from_proto, schema_from_proto

_DEFAULTS = Batching()
_BATCH_TIMEOUT_MAX_MS = 10_000.0
_FINITE_MAX = sys.float_info.max
_COMPARISON = ShadowComparison()
_METHODS = ("label", "top_k", "tolerance")
_PERCENT_MAX = 100
_TOP_K_MAX = 100
_GPUS_MAX = 10_000.0
_PROTOCOLS = frozenset(item.value for item in Protocol)


def models_from_proto(messages: Iterable[serving_pb2.ServedModel]) -> Mapping[str, ServedModel]:
    """The models by name. Raises INVALID_FIELD naming the model and the field."""
    models: dict[str, ServedModel] = {}
    for message in messages:
        if message.model_name in models:
            raise invalid("model_name", message.model_name, "each model once")
        models[message.model_name] = _model(message)
    return models


def _model(message: serving_pb2.ServedModel) -> ServedModel:
    if not message.model_name:
        raise invalid("model_name", "", "the model's name")
    try:
        _check_names("version", [item.version for item in message.versions])
        versions = {item.version: _version(message, item) for item in message.versions}
        shadows = tuple(_shadow(item) for item in message.shadows)
        _check_names("shadows.version", [item.version for item in shadows])
    except MeshError as error:
        raise MeshError(Reason.INVALID_FIELD, f"model {message.model_name}: {error.message}") from None
    return ServedModel(
        message.model_name,
        message.default_version,
        versions,
        message.team,
        shadows=shadows,
        aliases=dict(message.aliases),
        log_labels=message.log_labels,
        shared_with=tuple(message.shared_with),
    )


def _shadow(message: serving_pb2.ShadowTarget) -> ShadowTarget:
    if not 1 <= message.percent <= _PERCENT_MAX:
        raise invalid("shadows.percent", message.percent, f"1 to {_PERCENT_MAX}")
    return ShadowTarget(message.version, message.percent, _comparison(message.comparison))


def _comparison(message: serving_pb2.ShadowComparison) -> ShadowComparison:
    if message.method and message.method not in _METHODS:
        raise invalid("shadows.comparison.method", message.method, f"one of {', '.join(_METHODS)}, or empty")
    if message.top_k > _TOP_K_MAX:
        raise invalid("shadows.comparison.top_k", message.top_k, f"1 to {_TOP_K_MAX}, or 0 for {_COMPARISON.top_k}")
    absolute, relative = _COMPARISON.absolute_tolerance, _COMPARISON.relative_tolerance
    if message.HasField("absolute_tolerance"):
        absolute = _within("shadows.comparison.absolute_tolerance", message.absolute_tolerance, _FINITE_MAX)
    if message.HasField("relative_tolerance"):
        relative = _within("shadows.comparison.relative_tolerance", message.relative_tolerance, _FINITE_MAX)
    return ShadowComparison(message.method, message.top_k or _COMPARISON.top_k, absolute, relative)


def _version(model: serving_pb2.ServedModel, message: serving_pb2.ServedVersion) -> ServedVersion:
    schema, mapping = schema_from_proto(message.schema), mapping_from_proto(message.mapping)
    _check_names("schema.inputs.name", [spec.name for spec in schema.inputs])
    outputs = [spec.name for spec in schema.outputs]
    _check_names("schema.outputs.name", outputs)
    if not outputs:
        raise invalid("schema.outputs", outputs, "1 or more: predictions are made of them")
    for field, name in (
        ("mapping.output_tensor", mapping.output_tensor),
        ("mapping.probabilities_tensor", mapping.probabilities_tensor),
    ):
        if name and name not in outputs:
            raise invalid(field, name, f"one of the outputs: {', '.join(outputs)}")
    batching = _batching(message)
    if batching.padding is not None:
        check_padding(batching.padding, schema)
        schema = without_lengths(batching.padding, schema)
    return ServedVersion(
        model_name=model.model_name,
        version=message.version,
        deployment_name=message.deployment_name,
        schema=schema,
        mapping=mapping,
        batching=batching,
        backends=tuple(_backend(item) for item in message.backends if item.protocol in _PROTOCOLS),
        deterministic=message.deterministic,
        artifact_digest=message.artifact_digest,
        team=model.team,
        feature_views=views_from_proto(message.feature_views),
        reference_digest=message.reference_digest,
        gpus=_within("gpus", message.gpus, _GPUS_MAX),
        cold=message.cold,
    )


def _batching(message: serving_pb2.ServedVersion) -> Batching:
    if not message.HasField("batching"):
        return _DEFAULTS
    policy = message.batching
    return Batching(
        enabled=policy.enabled,
        max_batch_size=policy.max_batch_size or _DEFAULTS.max_batch_size,
        batch_timeout_ms=_within("batching.batch_timeout_ms", policy.batch_timeout_ms, _BATCH_TIMEOUT_MAX_MS),
        target_latency_ms=_within("batching.target_latency_ms", policy.target_latency_ms, _FINITE_MAX),
        padding=_padding(policy.padding) if policy.HasField("padding") else None,
    )


def _padding(message: serving_pb2.Padding) -> Padding:
    return Padding(
        value=message.value,
        input_values=tuple(sorted(message.input_values.items())),
        lengths_input=message.lengths_input,
        trim_outputs=tuple(message.trim_outputs),
        waste_max=message.waste_max if message.HasField("waste_max") else Padding().waste_max,
    )


def _backend(message: serving_pb2.Backend) -> Backend:
    return Backend(
        backend_id=message.backend_id,
        http_address=message.http_address,
        grpc_address=message.grpc_address,
        server_model_name=message.server_model_name,
        capacity=_within("backends.capacity", message.capacity, _FINITE_MAX) or 1.0,
        protocol=Protocol(message.protocol),
        server_model_version=message.server_model_version,
        signature_name=message.signature_name,
        credentials=message.credentials,
    )


def _check_names(field: str, names: Sequence[str]) -> None:
    if not all(names) or len(set(names)) != len(names):
        raise invalid(field, names, "names that differ, none of them empty")


def _within(field: str, value: float, allowed_max: float) -> float:
    if not 0 <= value <= allowed_max:  # NaN is in no range
        raise invalid(field, value, f"0 to {allowed_max:g}")
    return value
