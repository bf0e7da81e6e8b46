"""Models: register versions, find them, say what each one takes and gives."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from google.protobuf.json_format import ParseDict, ParseError
from google.protobuf.struct_pb2 import Struct
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Transport, all_pages, new_request_id
from infermesh.common.v1 import feature_pb2
from infermesh.registry.v1 import (
    artifact_pb2,
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    model_pb2,
    model_version_pb2,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

REGISTER_TIMEOUT_S = 120.0
"""Registering reads the whole artifact."""
IMPORT_TIMEOUT_S = 3600.0
"""An import reads every artifact of another registry."""
UPLOAD_TIMEOUT_S = 3600.0
"""An artifact may be of many gigabytes."""
PIECE_BYTES = 1024 * 1024
"""How much of an artifact one message carries."""
_PAGE_SIZE = 200


class Models:
    """What is registered."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = registry_service_pb2_grpc.RegistryServiceStub(transport.channel)
        self._artifacts = artifact_service_pb2_grpc.ArtifactServiceStub(transport.channel)

    def register(
        self,
        name: str,
        version: str,
        artifact: str | Path,
        *,
        digest: str = "",
        framework: str = "",
        framework_version: str = "",
        metadata: Mapping[str, object] | None = None,
        input_schema: Mapping[str, object] | None = None,
        output_schema: Mapping[str, object] | None = None,
        reference: Sequence[Mapping[str, object]] = (),
        feature_views: Sequence[Mapping[str, object]] = (),
        description: str = "",
        stage: str = "",
        request_id: str = "",
        timeout_s: float = REGISTER_TIMEOUT_S,
    ) -> model_version_pb2.ModelVersion:
        """Registers a version of a model, and the model where it is new.

        `artifact` is a path or a URI that the registry itself can read; a relative path is one of this process's
        folder. What the registry cannot read goes there by `upload`, whose `artifact_uri` is then the artifact.
        `digest` is the SHA-256 that it must have. The framework may be left out where the artifact tells it, schemas
        where it states them: an ONNX file does both. `metadata` is anything as JSON has it; "tags" and "class_names"
        are understood. `reference` is what the version's instances usually look like, at most 256 of them: predictions
        are explained against it, and without it they cannot be. `feature_views` are the features that are added from a
        feature store to requests that do not send them, each an object as the REST API has it: {"name": "user_stats",
        "entity": "user_id", "features": {"age": "int"}}. The same content again is the same registration. Raises
        VERSION_EXISTS where the version is registered with other content: versions never change.
        """
        request = registry_service_pb2.CreateModelRequest(
            name=name,
            version=version,
            framework=framework,
            framework_version=framework_version,
            artifact_uri=artifact_uri(artifact),
            artifact_digest=digest,
            metadata=struct(metadata, "metadata"),
            input_schema=struct(input_schema, "input_schema"),
            output_schema=struct(output_schema, "output_schema"),
            reference_sample=reference_sample(reference),
            feature_views=_views(feature_views),
            description=description,
            stage=stage,
            request_id=request_id or new_request_id(),
        )
        return self._transport.call(self._stub.CreateModel, request, timeout_s=timeout_s)

    def upload(self, path: str | Path, *, timeout_s: float = UPLOAD_TIMEOUT_S) -> artifact_pb2.Artifact:
        """Sends a file to the registry, for a registry that cannot read this machine's disks.

        Raises OSError where the file cannot be read, ARTIFACT_CORRUPT where it changed on its way.
        """
        return self._transport.send(self._artifacts.UploadArtifact, pieces(Path(path)), timeout_s=timeout_s)

    def inspect(
        self, artifact: str | Path, *, framework: str = "", timeout_s: float = REGISTER_TIMEOUT_S
    ) -> artifact_pb2.ArtifactReport:
        """What the registry sees in an artifact, and what stands in the way of registering it. Nothing is registered.

        `artifact` is as for `register`.
        """
        request = artifact_service_pb2.InspectArtifactRequest(artifact_uri=artifact_uri(artifact), framework=framework)
        return self._transport.call(self._artifacts.InspectArtifact, request, timeout_s=timeout_s)

    def compare(
        self, name: str, version: str, *, base: str = "", timeout_s: float | None = None
    ) -> registry_service_pb2.CompareSchemasResponse:
        """What breaks callers of `base` (default: the highest active version below) who are sent to `version`."""
        request = registry_service_pb2.CompareSchemasRequest(model_name=name, version=version, base_version=base)
        return self._transport.call(self._stub.CompareSchemas, request, timeout_s=timeout_s)

    def import_from(
        self, source: str, uri: str, *, prefix: str = "", dry_run: bool = False, timeout_s: float = IMPORT_TIMEOUT_S
    ) -> Sequence[registry_service_pb2.ImportedVersion]:
        """Registers what another registry holds, and says of each version what became of it.

        `source` is "mlflow" (http(s):// of a server that an operator allows, or a folder of its file store) or "triton"
        (a model repository); folders are file://, s3:// or gs://, as the registry itself reads them. Safe to repeat.
        """
        request = registry_service_pb2.ImportModelsRequest(
            source=source, uri=artifact_uri(uri), name_prefix=prefix, dry_run=dry_run
        )
        return self._transport.call(self._stub.ImportModels, request, timeout_s=timeout_s).versions

    def get(self, name: str, *, timeout_s: float | None = None) -> model_pb2.Model:
        """One model. Raises MODEL_NOT_FOUND."""
        request = registry_service_pb2.GetModelRequest(model_name=name)
        return self._transport.call(self._stub.GetModel, request, timeout_s=timeout_s)

    def list(
        self,
        *,
        prefix: str = "",
        framework: str = "",
        tags: Sequence[str] = (),
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[model_pb2.Model]:
        """Models in alphabetical order; every tag must be there."""
        size = _size(limit)

        def fetch(token: str) -> registry_service_pb2.ListModelsResponse:
            request = registry_service_pb2.ListModelsRequest(
                name_prefix=prefix, framework=framework, tags=tags, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListModels, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.models, limit=limit)

    def version(self, name: str, version: str, *, timeout_s: float | None = None) -> model_version_pb2.ModelVersion:
        """One version, by its number, as "latest", or by an alias. Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND."""
        request = registry_service_pb2.GetModelVersionRequest(model_name=name, version=version)
        return self._transport.call(self._stub.GetModelVersion, request, timeout_s=timeout_s)

    def reference(self, name: str, version: str, *, timeout_s: float | None = None) -> Sequence[Mapping[str, object]]:
        """The instances that a version's predictions are explained against. Raises ARTIFACT_NOT_FOUND where it was
        registered without any."""
        request = registry_service_pb2.GetReferenceSampleRequest(model_name=name, version=version)
        body = self._transport.call(self._stub.GetReferenceSample, request, timeout_s=timeout_s)
        instances: Sequence[Mapping[str, object]] = json.loads(body.data)["instances"]
        return instances

    def versions(
        self, name: str, *, stage: str = "", limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[model_version_pb2.ModelVersion]:
        """The versions of a model, the highest first. Raises MODEL_NOT_FOUND."""
        size = _size(limit)

        def fetch(token: str) -> registry_service_pb2.ListModelVersionsResponse:
            request = registry_service_pb2.ListModelVersionsRequest(
                model_name=name, stage=stage, page_size=size, page_token=token
            )
            return self._transport.call(self._stub.ListModelVersions, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.versions, limit=limit)

    def search(
        self,
        words: str = "",
        *,
        metrics: Sequence[str] = (),
        tags: Sequence[str] = (),
        prefix: str = "",
        framework: str = "",
        stage: str = "",
        team: str = "",
        alias: str = "",
        lineage: Sequence[str] = (),
        latest_only: bool = False,
        order_by: str = "",
        limit: int | None = None,
        timeout_s: float | None = None,
    ) -> Iterator[model_version_pb2.ModelVersion]:
        """Versions for which all that is given holds; a metric is compared as in "accuracy > 0.9".

        `lineage` is what they were made from, directly or through others, for instance "dataset:interactions_2026_jan".
        """
        size = _size(limit)

        def fetch(token: str) -> registry_service_pb2.SearchModelsResponse:
            request = registry_service_pb2.SearchModelsRequest(
                query=words,
                metrics=metrics,
                name_prefix=prefix,
                tags=tags,
                framework=framework,
                stage=stage,
                team=team,
                alias=alias,
                lineage=lineage,
                latest_only=latest_only,
                order_by=order_by,
                page_size=size,
                page_token=token,
            )
            return self._transport.call(self._stub.SearchModels, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.versions, limit=limit)

    def set_stage(
        self, name: str, version: str, stage: str, *, reason: str = "", etag: str = "", timeout_s: float | None = None
    ) -> model_version_pb2.ModelVersion:
        """Moves a version to "active", "deprecated" or "archived". Raises STAGE_TRANSITION_INVALID, ETAG_MISMATCH."""
        request = registry_service_pb2.SetStageRequest(
            model_name=name, version=version, stage=stage, reason=reason, etag=etag
        )
        return self._transport.call(self._stub.SetStage, request, timeout_s=timeout_s)

    def lineage(
        self,
        name: str = "",
        version: str = "",
        *,
        node: str = "",
        direction: str = "",
        depth_max: int = 0,
        timeout_s: float | None = None,
    ) -> registry_service_pb2.GetLineageResponse:
        """What a version was made from and what was made from it; or the same around a `node`, for instance
        "dataset:mnist". `direction` is "ancestors", "descendants" or "both". Raises VERSION_NOT_FOUND."""
        request = registry_service_pb2.GetLineageRequest(
            model_name=name, version=version, node_id=node, direction=direction, depth_max=depth_max
        )
        return self._transport.call(self._stub.GetLineage, request, timeout_s=timeout_s)

    def delete(self, name: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Removes a model with all its versions and aliases, for good. Raises RESOURCE_IN_USE while one of them is
        deployed, ETAG_MISMATCH."""
        request = registry_service_pb2.DeleteModelRequest(model_name=name, etag=etag)
        self._transport.call(self._stub.DeleteModel, request, timeout_s=timeout_s)

    def delete_version(self, name: str, version: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Removes a version, for good: its number is never given out again. Raises RESOURCE_IN_USE while it is deployed
        or an alias points to it, ETAG_MISMATCH."""
        request = registry_service_pb2.DeleteModelVersionRequest(model_name=name, version=version, etag=etag)
        self._transport.call(self._stub.DeleteModelVersion, request, timeout_s=timeout_s)

    def set_alias(
        self,
        name: str,
        alias: str,
        version: str,
        *,
        expected_version: str = "",
        reason: str = "",
        timeout_s: float | None = None,
    ) -> model_pb2.Alias:
        """Points an alias at a version. Raises ETAG_MISMATCH where it does not point to `expected_version` now."""
        request = registry_service_pb2.SetAliasRequest(
            model_name=name, alias=alias, version=version, expected_version=expected_version, reason=reason
        )
        return self._transport.call(self._stub.SetAlias, request, timeout_s=timeout_s)


def artifact_uri(artifact: str | Path) -> str:
    """A URI as it is; a path as an absolute file:// URI, because the registry has another working folder."""
    text = str(artifact)
    return text if "://" in text or not text else Path(text).expanduser().absolute().as_uri()


def reference_sample(instances: Sequence[Mapping[str, object]]) -> model_version_pb2.ReferenceSample | None:
    """The wire form of a reference sample; None where it is empty. Raises TypeError naming what JSON cannot hold."""
    if not instances:
        return None
    made = (struct(one, f"reference[{place}]") for place, one in enumerate(instances))
    return model_version_pb2.ReferenceSample(instances=[one for one in made if one is not None])


def struct(value: Mapping[str, object] | None, field: str) -> Struct | None:
    """A JSON object as a message. Raises InfermeshError where something in it is not of JSON."""
    if value is None:
        return None
    made = Struct()
    try:
        made.update(dict(value))  # type: ignore[arg-type]
    except (ValueError, TypeError) as fault:
        raise InfermeshError(
            f"{field} holds what JSON cannot: {fault}",
            code=grpc.StatusCode.INVALID_ARGUMENT,
            reason="INVALID_FIELD",
            advice="Use objects, lists, texts, numbers, true, false and null.",
        ) from None
    return made


def digest_of(path: Path) -> str:
    """SHA-256 of a file, as the registry names artifacts. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def pieces(path: Path) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
    """The messages of an upload: what the file is first, then its bytes. Raises OSError."""
    yield artifact_service_pb2.UploadArtifactRequest(
        filename=path.name, digest=digest_of(path), size_bytes=path.stat().st_size
    )
    with path.open("rb") as stream:
        while piece := stream.read(PIECE_BYTES):
            yield artifact_service_pb2.UploadArtifactRequest(body=httpbody_pb2.HttpBody(data=piece))


def _views(views: Sequence[Mapping[str, object]]) -> Sequence[feature_pb2.FeatureView]:
    """Feature views as messages. Raises InfermeshError naming the view that is none."""
    made: list[feature_pb2.FeatureView] = []
    for place, view in enumerate(views):
        try:
            made.append(ParseDict(dict(view), feature_pb2.FeatureView()))
        except (ParseError, TypeError) as fault:
            raise InfermeshError(
                f"feature_views[{place}] is no feature view: {fault}",
                code=grpc.StatusCode.INVALID_ARGUMENT,
                reason="INVALID_FIELD",
                advice='Give objects such as {"name": "user_stats", "entity": "user_id", "features": {"age": "int"}}.',
            ) from None
    return made


def _size(limit: int | None) -> int:
    return _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))
