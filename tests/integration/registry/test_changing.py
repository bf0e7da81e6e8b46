"""What may change about models and versions, over gRPC and the real PostgreSQL; and who sees whose."""

import asyncio
from pathlib import Path

import onnx
import psycopg
import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.registry.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_pb2,
    model_version_pb2,
    registry_service_pb2,
)

from services.common.errors import MeshError, Reason
from services.common.grpc.identity import HEADER_ROLE, HEADER_TEAM, HEADER_USER
from services.deployer.adapters.registry import RegistryVersionSource
from services.registry.settings import RegistrySettings
from tests.support.deployer_fakes import DIGITS_SCHEMA
from tests.support.registry_driving import DIGITS, NEW, OLD, Registry, digits
from tests.support.registry_onnx import model, tensor


def write(path: Path, made: onnx.ModelProto) -> None:
    path.write_bytes(made.SerializeToString())


Compare = registry_service_pb2.CompareSchemasRequest
GetVersion = registry_service_pb2.GetModelVersionRequest
SetAlias = registry_service_pb2.SetAliasRequest


async def test_a_model_is_described_anew_by_whoever_read_it_last(registry: Registry) -> None:
    await registry.calls.CreateModel(digits(OLD))
    read = await registry.calls.GetModel(registry_service_pb2.GetModelRequest(model_name="digits"))
    asked = model_pb2.Model(name="digits", description="new", tags=["b", "a", "b"], model_card="# Card", etag=read.etag)
    changed = await registry.calls.UpdateModel(registry_service_pb2.UpdateModelRequest(model=asked))
    assert (changed.description, list(changed.tags), changed.model_card) == ("new", ["a", "b"], "# Card")
    with pytest.raises(MeshError) as caught:
        await registry.calls.UpdateModel(registry_service_pb2.UpdateModelRequest(model=asked))
    assert caught.value.reason is Reason.ETAG_MISMATCH
    mask = FieldMask(paths=["description", "tags"])
    cleared = await registry.calls.UpdateModel(
        registry_service_pb2.UpdateModelRequest(model=model_pb2.Model(name="digits"), update_mask=mask)
    )
    assert (cleared.description, list(cleared.tags), cleared.model_card) == ("", [], "# Card")


async def test_a_version_gets_a_card_and_another_stage_and_nothing_else(registry: Registry) -> None:
    made = await registry.calls.CreateModel(digits(OLD))
    sent = model_version_pb2.ModelVersion(model_name="digits", version=OLD, model_card="# Card", framework_version="9")
    carded = await registry.calls.UpdateModelVersion(registry_service_pb2.UpdateModelVersionRequest(model_version=sent))
    assert (carded.model_card, carded.framework_version) == ("# Card", made.framework_version)
    asked = registry_service_pb2.SetStageRequest(
        model_name="digits", version="1.0.0", stage="active", etag=carded.etag, reason="proven"
    )
    staged = await registry.calls.SetStage(asked)
    assert (staged.stage, staged.model_card, staged.artifact_digest) == ("active", "# Card", made.artifact_digest)
    listed = await registry.calls.ListModelVersions(
        registry_service_pb2.ListModelVersionsRequest(model_name="digits", stage="active")
    )
    assert list(listed.versions) == [staged]


async def test_an_alias_is_a_name_for_whatever_it_points_to(registry: Registry) -> None:
    for version in (OLD, NEW):
        await registry.calls.CreateModel(digits(version))
    first = await registry.calls.SetAlias(SetAlias(model_name="digits", alias="champion", version=OLD))
    moved = await registry.calls.SetAlias(
        SetAlias(model_name="digits", alias="champion", version="latest", etag=first.etag, reason="better")
    )
    assert moved.version == NEW
    found = await registry.calls.GetModelVersion(GetVersion(model_name="digits", version="champion"))
    assert (found.version, list(found.aliases)) == (NEW, ["champion"])
    listed = await registry.calls.ListAliases(registry_service_pb2.ListAliasesRequest(model_name="digits"))
    assert list(listed.aliases) == [moved]
    await registry.calls.DeleteAlias(
        registry_service_pb2.DeleteAliasRequest(model_name="digits", alias="champion", etag=moved.etag)
    )
    moves = await registry.calls.ListAliasMoves(
        registry_service_pb2.ListAliasMovesRequest(model_name="digits", alias="champion")
    )
    assert [(move.from_version, move.to_version) for move in moves.moves] == [(NEW, ""), (OLD, NEW), ("", OLD)]


async def test_versions_are_found_by_what_is_known_of_them(registry: Registry) -> None:
    for version in (OLD, NEW):
        await registry.calls.CreateModel(digits(version))
    asked = registry_service_pb2.SearchModelsRequest(
        query="handwritten DIGITS", tags=["vision"], metrics=["accuracy > 0.9"], order_by="metric:accuracy desc"
    )
    found = await registry.calls.SearchModels(asked)
    accuracies = [version.training_metrics["accuracy"] for version in found.versions]
    assert accuracies == sorted(accuracies, reverse=True)
    assert len(accuracies) == 2
    asked.latest_only = True
    assert [version.version for version in (await registry.calls.SearchModels(asked)).versions] == [NEW]


async def test_an_artifact_is_looked_into_and_then_registered_by_its_digest(registry: Registry) -> None:
    assert registry.channel is not None
    artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(registry.channel)
    uri = (DIGITS / f"digits-{OLD}.onnx").as_uri()
    report = await artifacts.InspectArtifact(artifact_service_pb2.InspectArtifactRequest(artifact_uri=uri))
    assert (report.framework, list(report.problems), report.artifact.version_count) == ("onnx", [], 0)
    assert report.mapping.probabilities_tensor == "probabilities"
    made = await registry.calls.CreateModel(digits(OLD, artifact_uri=report.artifact.artifact_uri))
    assert made.schema == report.schema
    kept = await artifacts.GetArtifact(artifact_service_pb2.GetArtifactRequest(digest=made.artifact_digest))
    assert (kept.version_count, kept.size_bytes) == (1, made.model_size_bytes)


async def test_the_deployer_gets_all_that_loading_a_version_needs(registry: Registry) -> None:
    made = await registry.calls.CreateModel(digits(OLD, stage="active"))
    assert registry.channel is not None
    recipe = await RegistryVersionSource(registry.channel).recipe("digits", OLD)
    assert (recipe.framework, recipe.artifact_kind, recipe.stage) == ("onnx", "file", "active")
    assert (recipe.artifact_path, recipe.artifact_digest) == (made.artifact_path, made.artifact_digest)
    assert recipe.schema == DIGITS_SCHEMA
    assert recipe.mapping.class_names == tuple(str(digit) for digit in range(10))
    for name, version, reason in (
        ("rose", OLD, Reason.MODEL_NOT_FOUND),
        ("digits", NEW, Reason.VERSION_NOT_FOUND),
    ):
        with pytest.raises(MeshError) as caught:
            await RegistryVersionSource(registry.channel).recipe(name, version)
        assert caught.value.reason is reason


async def test_callers_of_an_older_version_are_told_what_breaks_them(registry: Registry, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed.onnx"
    write(renamed, model([tensor("pixels", ["N", 64])], [tensor("label", ["N"], onnx.TensorProto.INT64)]))
    await registry.calls.CreateModel(digits(OLD, stage="active"))
    await registry.calls.CreateModel(digits(NEW))
    await registry.calls.CreateModel(digits(OLD, version="v2.0.0", artifact_uri=str(renamed), metadata={}))
    same = await registry.calls.CompareSchemas(Compare(model_name="digits", version=NEW))
    assert (same.base_version, same.compatible, list(same.changes)) == (OLD, True, [])
    other = await registry.calls.CompareSchemas(Compare(model_name="digits", version="latest", base_version=NEW))
    assert (other.base_version, other.compatible) == (NEW, False)
    assert [(one.side, one.name, one.kind) for one in other.changes] == [
        ("inputs", "X", "renamed"),
        ("outputs", "probabilities", "removed"),
    ]
    with pytest.raises(MeshError) as caught:
        await registry.calls.CompareSchemas(Compare(model_name="digits", version=OLD))
    assert caught.value.reason is Reason.VERSION_NOT_FOUND


async def test_a_teams_models_are_its_own(registry: Registry, settings: RegistrySettings) -> None:
    url = settings.database_url.get_secret_value().replace("postgresql+psycopg", "postgresql")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        for team in ("vision", "fraud"):
            await connection.execute("INSERT INTO registry.teams (name, namespace) VALUES (%s, %s)", (team, team))

    def of(team: str, role: str = "deployer") -> tuple[tuple[str, str], ...]:
        return ((HEADER_TEAM, team), (HEADER_USER, "ann"), (HEADER_ROLE, role))

    made = await registry.calls.CreateModel(digits(OLD), metadata=of("vision"))
    assert (made.team, made.created_by) == ("vision", "ann")
    asked = GetVersion(model_name="digits", version=OLD)
    assert await registry.calls.GetModelVersion(asked, metadata=of("fraud", "platform-admin")) == made
    for call, reason in (
        (registry.calls.GetModelVersion(asked, metadata=of("fraud")), Reason.MODEL_NOT_FOUND),
        (registry.calls.CreateModel(digits(NEW), metadata=of("fraud")), Reason.PERMISSION_DENIED),
        (registry.calls.CreateModel(digits(NEW, name="other"), metadata=of("nobody")), Reason.TEAM_NOT_FOUND),
    ):
        with pytest.raises(MeshError) as caught:
            await call
        assert caught.value.reason is reason


async def test_of_many_callers_at_once_all_get_the_one_registration(registry: Registry) -> None:
    made = await asyncio.gather(*(registry.calls.CreateModel(digits(OLD)) for _ in range(12)))
    assert len({version.version_id for version in made}) == 1
