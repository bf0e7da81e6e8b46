"""The registry over the real PostgreSQL and real files, asked by gRPC."""

import hashlib
import json
from pathlib import Path

import pytest
from infermesh.common.v1 import schema_pb2
from infermesh.registry.v1 import registry_service_pb2

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.common.schema_proto import mapping_from_proto, schema_from_proto
from services.registry.settings import RegistrySettings
from tests.support.registry_driving import DIGITS, NEW, OLD, Registry, digits

GetSample = registry_service_pb2.GetReferenceSampleRequest
GetModel = registry_service_pb2.GetModelRequest
GetVersion = registry_service_pb2.GetModelVersionRequest
ListModels = registry_service_pb2.ListModelsRequest
ListVersions = registry_service_pb2.ListModelVersionsRequest
DIGITS_SCHEMA = ModelSchema(
    inputs=(TensorSpec("X", DataType.FP32, (64,)),),
    outputs=(TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
)


def read(path: Path) -> bytes:
    return path.read_bytes()


async def test_a_version_is_all_that_its_artifact_and_its_caller_say(
    registry: Registry, settings: RegistrySettings
) -> None:
    made = await registry.calls.CreateModel(digits(OLD))
    content = read(DIGITS / f"digits-{OLD}.onnx")
    assert (made.model_name, made.version, made.stage, made.framework) == ("digits", OLD, "draft", "onnx")
    assert made.artifact_digest == hashlib.sha256(content).hexdigest()
    assert (made.model_size_bytes, made.artifact_kind) == (len(content), "file")
    assert made.artifact_filename == f"digits-{OLD}.onnx"
    # It is compressed, so nobody can load it from where it lies.
    assert made.artifact_path == ""
    assert made.stored_uri.startswith((settings.data_dir / "artifacts" / "sha256").as_uri())
    (copy,) = (settings.data_dir / "artifacts" / "sha256").glob("*/*")
    assert copy.as_uri().startswith(made.stored_uri)
    assert copy.stat().st_size < len(content)
    assert schema_from_proto(made.schema) == DIGITS_SCHEMA
    assert made.schema_source == "artifact"
    names = tuple(str(digit) for digit in range(10))
    assert mapping_from_proto(made.mapping) == PredictionMapping("label", "probabilities", names)
    assert dict(made.input_schema) == {"X": "array<float>"}
    assert dict(made.output_schema) == {"label": "int", "probabilities": "array<float>"}
    assert made.training_metrics["accuracy"] > 0.9
    assert list(made.tags) == ["example", "vision"]
    assert (made.lineage.dataset, made.lineage.hyperparameters["C"]) == ("scikit-learn digits", 0.1)
    assert made.metadata["training_date"] == "2026-02-01"
    model = await registry.calls.GetModel(GetModel(model_name="digits"))
    assert model.description.startswith("Handwritten digits")
    assert (model.framework, model.latest_version, model.version_count) == ("onnx", OLD, 1)


async def test_what_is_registered_is_there_after_a_restart(registry: Registry) -> None:
    made = [await registry.calls.CreateModel(digits(version)) for version in (OLD, NEW)]
    await registry.stop()
    await registry.start()
    for version in made:
        assert await registry.calls.GetModelVersion(GetVersion(model_name="digits", version=version.version)) == version
    latest = await registry.calls.GetModelVersion(GetVersion(model_name="digits", version="latest"))
    assert latest.version == NEW
    listed = await registry.calls.ListModelVersions(ListVersions(model_name="digits"))
    assert [version.version for version in listed.versions] == [NEW, OLD]
    models = await registry.calls.ListModels(ListModels())
    assert [(model.name, model.latest_version, model.version_count) for model in models.models] == [("digits", NEW, 2)]


async def test_the_same_again_is_the_same_registration(registry: Registry) -> None:
    made = await registry.calls.CreateModel(digits(OLD, request_id="wish-1"))
    assert await registry.calls.CreateModel(digits(OLD, request_id="wish-1")) == made
    assert await registry.calls.CreateModel(digits(OLD)) == made


async def test_limits_and_categories_can_be_added_to_what_the_artifact_states(registry: Registry) -> None:
    call = digits(OLD, input_schema={"X": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 16}}})
    made = await registry.calls.CreateModel(call)
    (spec,) = made.schema.inputs
    assert (spec.data_type, list(spec.shape)) == (schema_pb2.DATA_TYPE_FP32, [64])
    assert (spec.minimum, spec.maximum) == (0, 16)


async def test_a_reference_sample_is_checked_kept_and_given_out(registry: Registry) -> None:
    instances = [{"X": [float(number)] * 64} for number in range(3)]
    made = await registry.calls.CreateModel(digits(OLD, reference_sample={"instances": instances}))
    assert made.reference_rows == 3
    body = await registry.calls.GetReferenceSample(GetSample(model_name="digits", version="latest"))
    assert body.content_type == "application/json"
    assert json.loads(body.data) == {"instances": instances}
    assert hashlib.sha256(body.data).hexdigest() == made.reference_digest
    assert await registry.calls.CreateModel(digits(OLD, reference_sample={"instances": instances})) == made
    with pytest.raises(MeshError, match="registered with another reference_sample"):
        await registry.calls.CreateModel(digits(OLD))


async def test_a_reference_sample_that_does_not_fit_is_refused_and_nothing_is_registered(registry: Registry) -> None:
    sample = {"instances": [{"X": [0.0] * 64}, {"X": [0.0] * 63}, {"Y": 1}]}
    with pytest.raises(MeshError) as caught:
        await registry.calls.CreateModel(digits(OLD, reference_sample=sample))
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    fields = {item.field: item.description for item in caught.value.violations}
    assert sorted(fields) == [f"reference_sample.instances[{place}" for place in ("1].X", "2].X", "2].Y")]
    assert "expected X FP32[64]" in fields["reference_sample.instances[1].X"]
    models = await registry.calls.ListModels(ListModels())
    assert list(models.models) == []


async def test_a_version_without_a_reference_sample_says_how_to_get_one(registry: Registry) -> None:
    made = await registry.calls.CreateModel(digits(OLD))
    assert (made.reference_digest, made.reference_rows) == ("", 0)
    with pytest.raises(MeshError, match="register a new one with reference_sample") as caught:
        await registry.calls.GetReferenceSample(GetSample(model_name="digits", version=OLD))
    assert caught.value.reason is Reason.ARTIFACT_NOT_FOUND
