"""Models and versions between their protobuf and domain forms."""

from collections.abc import Callable, Mapping, Sequence

from google.protobuf import struct_pb2
from infermesh.registry.v1 import model_pb2, model_version_pb2, registry_service_pb2

from services.common.errors import FieldViolation, MeshError
from services.common.feature_view import FeatureView
from services.common.feature_view_proto import views_from_proto, views_to_proto
from services.common.grpc.identity import Identity
from services.common.schema import ModelSchema
from services.common.schema_proto import mapping_from_proto, mapping_to_proto, schema_from_proto, schema_to_proto
from services.registry.convert.values import object_from_proto, object_to_proto, timestamp
from services.registry.domain.registration import JSON_BYTES_MAX, Registration
from services.registry.domain.signatures import Signature
from services.registry.domain.version import JsonObject, Lineage, Model, Version

_OBJECT_BYTES_MAX = 6 * JSON_BYTES_MAX
"""No JSON within its bound is larger on the wire: a digit and a comma become eleven bytes."""
_LINEAGE_TEXTS = (
    "training_run",
    "dataset",
    "dataset_uri",
    "code_commit",
    "code_repository",
    "parent_version",
    "trained_by",
)


def registration_from_proto(
    message: registry_service_pb2.CreateModelRequest, caller: Identity
) -> tuple[Registration, Sequence[FieldViolation]]:
    """What is asked for, and what of it the domain cannot even say."""
    schema: ModelSchema | None = None
    violations: list[FieldViolation] = []
    try:
        schema = schema_from_proto(message.schema) if message.HasField("schema") else None
    except MeshError as error:
        violations = [FieldViolation(f"schema.{one.field}", one.description) for one in error.violations]
    views: tuple[FeatureView, ...] = ()
    try:
        views = views_from_proto(message.feature_views)
    except MeshError as error:
        violations += error.violations
    asked = Registration(
        name=message.name,
        version=message.version,
        artifact_uri=message.artifact_uri,
        framework=message.framework,
        framework_version=message.framework_version,
        artifact_digest=message.artifact_digest,
        input_schema=_bounded("input_schema", message.input_schema, violations),
        output_schema=_bounded("output_schema", message.output_schema, violations),
        schema=schema,
        mapping=mapping_from_proto(message.mapping),
        metadata=_bounded("metadata", message.metadata, violations),
        description=message.description,
        lineage=_lineage_from_proto(message.lineage),
        stage=message.stage,
        model_card=message.model_card,
        feature_views=views,
        reference=(
            [object_from_proto(one) for one in message.reference_sample.instances]
            if message.HasField("reference_sample")
            else None
        ),
        signature=message.signature,
        request_id=message.request_id,
        created_by=caller.user,
        team=caller.team,
    )
    return asked, violations


def _bounded(name: str, value: struct_pb2.Struct, violations: list[FieldViolation]) -> JsonObject:
    """The object; empty, and a violation, where it is far too large: only to read it would take seconds, in which
    nobody else is answered."""
    size = value.ByteSize()
    if size <= _OBJECT_BYTES_MAX:
        return object_from_proto(value)
    violations.append(FieldViolation(name, f"is {size} bytes; allowed: at most {JSON_BYTES_MAX} of JSON"))
    return {}


def version_to_proto(
    version: Version, path_of: Callable[[str], str], uri_of: Callable[[str], str] = lambda _digest: ""
) -> model_version_pb2.ModelVersion:
    """The wire form of a version; `path_of` and `uri_of` say where the copy of a digest lies."""
    content = version.content
    path = path_of(content.artifact.digest)
    return model_version_pb2.ModelVersion(
        model_name=version.model_name,
        version=version.version,
        version_id=version.version_id,
        stage=version.stage,
        framework=content.framework,
        framework_version=content.framework_version,
        artifact_uri=version.artifact_uri,
        artifact_digest=content.artifact.digest,
        artifact_path=path,
        stored_uri=uri_of(content.artifact.digest),
        artifact_kind=content.artifact.kind,
        artifact_filename=content.artifact.filename,
        model_size_bytes=content.artifact.size_bytes,
        input_schema=object_to_proto(content.input_schema),
        output_schema=object_to_proto(content.output_schema),
        schema=schema_to_proto(content.schema),
        schema_source=content.schema_source,
        mapping=mapping_to_proto(content.mapping),
        metadata=object_to_proto(content.metadata),
        training_metrics=content.metrics,
        tags=content.tags,
        lineage=_lineage_to_proto(content.lineage),
        aliases=version.aliases,
        model_card=version.model_card,
        team=version.team,
        created_by=version.created_by,
        created_at=timestamp(version.created_at),
        updated_at=timestamp(version.updated_at),
        etag=version.etag,
        feature_views=views_to_proto(content.feature_views),
        signature=_signature_to_proto(version.signature),
        reference_digest=content.reference_digest,
        reference_rows=content.reference_rows,
    )


def model_to_proto(model: Model) -> model_pb2.Model:
    """The wire form of a model."""
    return model_pb2.Model(
        model_id=model.model_id,
        name=model.name,
        description=model.description,
        framework=model.framework,
        created_by=model.created_by,
        team=model.team,
        tags=model.tags,
        latest_version=model.latest_version,
        version_count=model.version_count,
        aliases=model.aliases,
        shared_with=model.shared_with,
        model_card=model.model_card,
        created_at=timestamp(model.created_at),
        updated_at=timestamp(model.updated_at),
        etag=model.etag,
    )


def _signature_to_proto(signature: Signature | None) -> model_version_pb2.Signature | None:
    if signature is None:
        return None
    return model_version_pb2.Signature(
        kind=signature.kind,
        verified=signature.verified,
        signer=signature.signer,
        problem=signature.problem,
        checked_at=timestamp(signature.checked_at),
    )


def _lineage_from_proto(message: model_version_pb2.Lineage) -> Lineage:
    texts: Mapping[str, str] = {name: getattr(message, name) for name in _LINEAGE_TEXTS}
    return Lineage(**texts, hyperparameters=object_from_proto(message.hyperparameters))


def _lineage_to_proto(lineage: Lineage) -> model_version_pb2.Lineage | None:
    if lineage == Lineage():
        return None
    texts: Mapping[str, str] = {name: getattr(lineage, name) for name in _LINEAGE_TEXTS}
    hyperparameters = object_to_proto(lineage.hyperparameters) if lineage.hyperparameters else None
    return model_version_pb2.Lineage(**texts, hyperparameters=hyperparameters)
