"""Every error that the registry's contract names and that can happen now, as a client gets it."""

from pathlib import Path
from typing import Any

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.registry.v1 import (
    registry_service_pb2,
    registry_service_pb2_grpc,
)

from services.common.errors import Code, MeshError, Reason
from services.registry.servicers.registry import RegistryServicer
from tests.support.registry_driving import DIGITS, NEW, OLD, Registry, digits
from tests.support.registry_onnx import model, tensor

GetVersion = registry_service_pb2.GetModelVersionRequest


def write(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


async def refused(registry: Registry, reason: Reason, **change: Any) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await registry.calls.CreateModel(digits(OLD, **change))
    assert caught.value.reason is reason, caught.value
    return caught.value


async def test_a_version_never_changes(registry: Registry) -> None:
    made = await registry.calls.CreateModel(digits(OLD, request_id="first"))
    other = (DIGITS / f"digits-{NEW}.onnx").as_uri()
    error = await refused(registry, Reason.VERSION_EXISTS, artifact_uri=other)
    assert (error.code, error.metadata["differs"]) == (Code.ALREADY_EXISTS, "artifact")
    assert OLD in error.message
    await refused(registry, Reason.VERSION_EXISTS, metadata={"accuracy": 1})
    await refused(registry, Reason.REQUEST_ID_REUSED, version="v9.0.0", request_id="first")
    assert await registry.calls.GetModelVersion(GetVersion(model_name="digits", version=OLD)) == made
    assert (await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))).version_count == 1


async def test_artifacts_that_cannot_be_taken(registry: Registry, tmp_path: Path) -> None:
    missing = (tmp_path / "nothing.onnx").as_uri()
    assert "nothing.onnx" in (await refused(registry, Reason.ARTIFACT_NOT_FOUND, artifact_uri=missing)).message
    unknown = f"artifact://sha256/{'0' * 64}"
    await refused(registry, Reason.ARTIFACT_NOT_FOUND, artifact_uri=unknown)
    text = write(tmp_path / "notes.txt", b"not a model")
    assert "notes.txt" in (await refused(registry, Reason.ARTIFACT_INVALID, artifact_uri=text)).message
    pickled = write(tmp_path / "model.pkl", b"\x80\x04\x95\x00\x00\x00\x00\x00\x00\x00\x00.")
    await refused(registry, Reason.ARTIFACT_INVALID, artifact_uri=pickled)
    error = await refused(registry, Reason.ARTIFACT_CORRUPT, artifact_digest="0" * 64)
    assert error.code is Code.DATA_LOSS
    for framework in ("tensorflow", "sklearn", "python"):
        error = await refused(registry, Reason.ARTIFACT_INVALID, framework=framework)
        assert "it is an ONNX file" in error.message
    with pytest.raises(MeshError) as caught:
        await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    assert caught.value.reason is Reason.MODEL_NOT_FOUND


async def test_schemas_that_do_not_fit(registry: Registry, tmp_path: Path) -> None:
    error = await refused(registry, Reason.SCHEMA_MISMATCH, input_schema={"X": "string", "Y": "int"})
    assert [violation.field for violation in error.violations] == ["input_schema.Y", "input_schema.X"]
    assert "array" not in error.violations[0].description
    assert "FP32 of shape [64]" in error.violations[1].description
    exact = {"inputs": [{"name": "X", "data_type": "DATA_TYPE_FP64", "shape": [64]}]}
    error = await refused(registry, Reason.SCHEMA_MISMATCH, schema=exact)
    assert [violation.field for violation in error.violations] == ["schema.inputs.X"]
    open_ended = write(tmp_path / "open.onnx", model([tensor("X", None)]).SerializeToString())
    error = await refused(registry, Reason.SCHEMA_REQUIRED, artifact_uri=open_ended, metadata={})
    assert "input 'X'" in error.message
    await refused(registry, Reason.INVALID_FIELD, metadata={"class_names": ["only", "two"]})


async def test_every_wrong_field_is_named_at_once(registry: Registry) -> None:
    unspecified = {"inputs": [{"name": "X"}]}
    error = await refused(
        registry,
        Reason.INVALID_FIELD,
        name="No Spaces",
        version="one",
        artifact_uri="",
        stage="done",
        schema=unspecified,
    )
    fields = {violation.field for violation in error.violations}
    assert fields == {"name", "version", "artifact_uri", "stage", "schema.inputs[0].data_type"}


@pytest.mark.parametrize(
    ("request_", "reason"),
    [
        (registry_service_pb2.GetModelRequest(model_name="rose"), Reason.MODEL_NOT_FOUND),
        (GetVersion(model_name="rose", version="v1.0.0"), Reason.MODEL_NOT_FOUND),
        (GetVersion(model_name="digits", version="v7.7.7"), Reason.VERSION_NOT_FOUND),
        (GetVersion(model_name="digits", version="v1.0"), Reason.INVALID_FIELD),
        (registry_service_pb2.ListModelVersionsRequest(model_name="rose"), Reason.MODEL_NOT_FOUND),
        (registry_service_pb2.ListModelsRequest(page_size=1001), Reason.INVALID_FIELD),
        (registry_service_pb2.ListModelsRequest(page_token="made-up"), Reason.INVALID_PAGE_TOKEN),
        (registry_service_pb2.ListModelsRequest(name_prefix="\0"), Reason.INVALID_FIELD),
        (registry_service_pb2.SearchModelsRequest(metrics=["accuracy"]), Reason.INVALID_FIELD),
        (registry_service_pb2.UpdateModelRequest(update_mask=FieldMask(paths=["name"])), Reason.INVALID_FIELD),
        (registry_service_pb2.GetAliasRequest(model_name="digits", alias="best"), Reason.ALIAS_NOT_FOUND),
        (registry_service_pb2.DeleteAliasRequest(model_name="digits", alias="best"), Reason.ALIAS_NOT_FOUND),
        (
            registry_service_pb2.SetAliasRequest(model_name="digits", alias="best", version="v7.7.7"),
            Reason.VERSION_NOT_FOUND,
        ),
        (
            registry_service_pb2.SetStageRequest(model_name="digits", version="v1.0.0", stage="deprecated"),
            Reason.STAGE_TRANSITION_INVALID,
        ),
        (
            registry_service_pb2.SetStageRequest(model_name="digits", version="v1.0.0", stage="active", etag="old"),
            Reason.ETAG_MISMATCH,
        ),
    ],
)
async def test_what_is_asked_wrongly(registry: Registry, request_: Any, reason: Reason) -> None:
    await registry.calls.CreateModel(digits(OLD))
    method = getattr(registry.calls, type(request_).__name__.removesuffix("Request"))
    with pytest.raises(MeshError) as caught:
        await method(request_)
    assert caught.value.reason is reason, caught.value


def test_no_call_of_the_contract_is_left_out() -> None:
    base = registry_service_pb2_grpc.RegistryServiceServicer
    for method in registry_service_pb2.DESCRIPTOR.services_by_name["RegistryService"].methods:
        assert getattr(RegistryServicer, method.name) is not getattr(base, method.name), method.name
