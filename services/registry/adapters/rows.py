"""Models and versions between their domain form and rows."""

import json
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import RowMapping

from services.common.feature_view import FeatureView
from services.common.schema import ModelSchema, PredictionMapping
from services.registry.domain.signatures import Signature
from services.registry.domain.version import (
    Artifact,
    Content,
    Lineage,
    Model,
    NewVersion,
    Stage,
    Version,
    precedence_key,
)

_SCHEMA = TypeAdapter(ModelSchema)
_MAPPING = TypeAdapter(PredictionMapping)
_LINEAGE = TypeAdapter(Lineage)
_SIGNATURE = TypeAdapter(Signature)
_VIEWS = TypeAdapter(tuple[FeatureView, ...])

Parameters = dict[str, object]


def version_parameters(new: NewVersion) -> Parameters:
    """The columns of a version about to be registered."""
    content = new.content
    return {
        "version": new.version,
        "precedence": precedence_key(new.version),
        "artifact_uri": new.artifact_uri,
        "artifact_digest": content.artifact.digest,
        "artifact_kind": content.artifact.kind,
        "artifact_filename": content.artifact.filename,
        "model_size_bytes": content.artifact.size_bytes,
        "framework_version": content.framework_version,
        "input_schema": json.dumps(content.input_schema),
        "output_schema": json.dumps(content.output_schema),
        "tensor_schema": _text(_SCHEMA, content.schema),
        "schema_source": content.schema_source,
        "prediction_mapping": _text(_MAPPING, content.mapping),
        "training_metrics": json.dumps(dict(content.metrics)),
        "training_metadata": json.dumps(content.metadata),
        "tags": list(content.tags),
        "lineage": _text(_LINEAGE, content.lineage),
        "status": new.stage.value,
        "model_card": new.model_card,
        "created_by": new.created_by,
        "request_id": new.request_id or None,
        "feature_views": _text(_VIEWS, content.feature_views),
        "reference_digest": content.reference_digest or None,
        "reference_rows": content.reference_rows,
    }


def version_of(row: RowMapping) -> Version:
    """The version that a row holds, joined with its model's name, framework, team and with the aliases."""
    values: dict[str, Any] = dict(row)
    artifact = Artifact(
        values["artifact_digest"], values["artifact_kind"], values["artifact_filename"], values["model_size_bytes"]
    )
    content = Content(
        framework=values["framework"],
        artifact=artifact,
        schema=_SCHEMA.validate_python(values["tensor_schema"]),
        schema_source=values["schema_source"],
        mapping=_MAPPING.validate_python(values["prediction_mapping"]),
        framework_version=values["framework_version"],
        input_schema=_doubles(values["input_schema"]),
        output_schema=_doubles(values["output_schema"]),
        metadata=_doubles(values["training_metadata"]),
        lineage=_LINEAGE.validate_python(_doubles(values["lineage"])),
        metrics=_doubles(values["training_metrics"]),
        tags=tuple(values["tags"]),
        feature_views=_VIEWS.validate_python(_doubles(values["feature_views"])),
        reference_digest=values["reference_digest"] or "",
        reference_rows=values["reference_rows"],
    )
    return Version(
        version_id=str(values["id"]),
        model_name=values["model_name"],
        version=values["version"],
        content=content,
        artifact_uri=values["artifact_uri"],
        stage=Stage(values["status"]),
        model_card=values["model_card"],
        request_id=values["request_id"] or "",
        created_by=values["created_by"],
        team=values["team"] or "",
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        revision=values["revision"],
        aliases=tuple(values["aliases"]),
        signature=_SIGNATURE.validate_python(values["signature"]) if values["signature"] is not None else None,
    )


def model_of(row: RowMapping) -> Model:
    """The model that a row holds, joined with its team, its versions and its aliases."""
    values: dict[str, Any] = dict(row)
    return Model(
        model_id=str(values["id"]),
        name=values["name"],
        description=values["description"],
        framework=values["framework"],
        created_by=values["created_by"],
        team=values["team"] or "",
        tags=tuple(values["tags"]),
        model_card=values["model_card"],
        latest_version=values["latest_version"] or "",
        version_count=values["version_count"],
        aliases=values["aliases"],
        created_at=values["created_at"],
        updated_at=values["updated_at"],
        revision=values["revision"],
        shared_with=tuple(values["shared_with"]),
    )


def _doubles(value: Any) -> Any:
    """JSON with every number a double, as it was sent: PostgreSQL keeps decimals and gives 1e300 back as an integer."""
    if isinstance(value, dict):
        return {key: _doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_doubles(item) for item in value]
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _text(adapter: TypeAdapter[Any], value: object) -> str:
    return adapter.dump_json(value).decode()
