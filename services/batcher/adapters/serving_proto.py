"""The serving table between its protobuf and domain forms."""

from collections.abc import Iterable, Mapping

from infermesh.common.v1 import serving_pb2

from services.batcher.domain.serving import Backend, Batching, ServedModel, ServedVersion
from services.common.errors import MeshError, Reason, invalid
from services.common.schema_proto import mapping_from_proto, schema_from_proto

_DEFAULTS = Batching()


def models_from_proto(messages: Iterable[serving_pb2.ServedModel]) -> Mapping[str, ServedModel]:
    """The models by name. Raises INVALID_FIELD naming the model and the field."""
    return {message.model_name: _model(message) for message in messages}


def _model(message: serving_pb2.ServedModel) -> ServedModel:
    if not message.model_name:
        raise invalid("model_name", "", "the model's name")
    try:
        versions = {item.version: _version(message, item) for item in message.versions}
    except MeshError as error:
        raise MeshError(Reason.INVALID_FIELD, f"model {message.model_name}: {error.message}") from None
    return ServedModel(message.model_name, message.default_version, versions, message.team)


def _version(model: serving_pb2.ServedModel, message: serving_pb2.ServedVersion) -> ServedVersion:
    return ServedVersion(
        model_name=model.model_name,
        version=message.version,
        deployment_name=message.deployment_name,
        schema=schema_from_proto(message.schema),
        mapping=mapping_from_proto(message.mapping),
        batching=_batching(message),
        backends=tuple(_backend(item) for item in message.backends),
        deterministic=message.deterministic,
        artifact_digest=message.artifact_digest,
        team=model.team,
    )


def _batching(message: serving_pb2.ServedVersion) -> Batching:
    if not message.HasField("batching"):
        return _DEFAULTS
    policy = message.batching
    return Batching(
        enabled=policy.enabled,
        max_batch_size=policy.max_batch_size or _DEFAULTS.max_batch_size,
        batch_timeout_ms=policy.batch_timeout_ms,
        target_latency_ms=policy.target_latency_ms,
    )


def _backend(message: serving_pb2.Backend) -> Backend:
    return Backend(
        backend_id=message.backend_id,
        http_address=message.http_address,
        grpc_address=message.grpc_address,
        server_model_name=message.server_model_name,
        capacity=message.capacity or 1.0,
    )
