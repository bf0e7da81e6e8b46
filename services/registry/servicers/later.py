"""The calls whose contract is final and whose behaviour is not built yet. Each says what to use instead."""

from collections.abc import Callable
from typing import Never, cast

from infermesh.registry.v1 import artifact_service_pb2_grpc, registry_service_pb2_grpc

from services.common.errors import MeshError, Reason


def later(sentence: str) -> Callable[..., Never]:
    """A method, unary or streaming, that answers UNIMPLEMENTED with `sentence`."""

    async def refuse(_servicer: object, _request: object, _context: object) -> Never:
        raise MeshError(Reason.NOT_IMPLEMENTED, sentence)

    return cast("Callable[..., Never]", refuse)


_DELETE = "nothing can be removed yet; SetStage with the stage archived keeps a version from being deployed"
_LINEAGE = "lineage is not followed yet; GetModelVersion has what each version was made from"
_IMPORT = "other registries cannot be imported yet; CreateModel registers one ONNX file at a time"
_CHANGES = "changes are not kept yet; updated_at of GetModel and GetModelVersion says when something last changed"
_UPLOAD = "uploads cannot be continued after a break yet; send the whole artifact by UploadArtifact"


class LaterRegistryMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """All that RegistryService does not do yet."""

    DeleteModel = later(_DELETE)
    DeleteModelVersion = later(_DELETE)
    GetLineage = later(_LINEAGE)
    ImportModels = later(_IMPORT)
    WatchChanges = later(_CHANGES)
    ListChanges = later(_CHANGES)


class LaterArtifactMethods(artifact_service_pb2_grpc.ArtifactServiceServicer):
    """All that ArtifactService does not do yet."""

    CreateUpload = later(_UPLOAD)
    GetUpload = later(_UPLOAD)
    AppendUpload = later(_UPLOAD)
    CompleteUpload = later(_UPLOAD)
    DeleteUpload = later(_UPLOAD)
