"""Looking into artifacts without registering anything."""

from collections.abc import Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.schema import ModelSchema, PredictionMapping
from services.registry.domain.artifact_uri import DIGEST, parse_artifact_uri
from services.registry.domain.artifacts import MESH, Sender, no_artifact
from services.registry.domain.mapping import agree_mapping
from services.registry.domain.registration import check_framework
from services.registry.domain.schemas import agree
from services.registry.domain.version import FRAMEWORKS, Artifact, Stored
from services.registry.ports import ArtifactReader, ArtifactStore, Catalogue


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """An artifact that is kept, the name it came under (empty: not known), and how many versions are made of it."""

    stored: Stored
    version_count: int
    filename: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What is seen in an artifact. Without a schema the problems say why."""

    artifact: ArtifactView
    framework: str
    schema: ModelSchema | None
    mapping: PredictionMapping | None
    problems: Sequence[str]


class Inspecting:
    """The calls about artifacts."""

    def __init__(self, *, catalogue: Catalogue, store: ArtifactStore, reader: ArtifactReader) -> None:
        self._catalogue = catalogue
        self._store = store
        self._reader = reader

    async def get(self, digest: str, *, filename: str = "", viewer: str = "") -> ArtifactView:
        """The artifact of that digest. Raises INVALID_FIELD, ARTIFACT_NOT_FOUND."""
        if DIGEST.fullmatch(digest) is None:
            raise invalid("digest", digest, "64 of 0-9 and a-f")
        stored = await self._store.find(digest) if await self._store.is_seen(digest, viewer) else None
        if stored is None:
            raise no_artifact(digest)
        return ArtifactView(stored, await self._catalogue.uses(digest), filename)

    async def inspect(self, uri: str, framework: str, *, sender: Sender = MESH) -> Report:
        """What would be registered of the artifact at `uri`, which is kept. Raises what keeping it raises."""
        if framework and framework not in FRAMEWORKS:
            raise invalid("framework", framework, "empty or one of " + ", ".join(FRAMEWORKS))
        place = parse_artifact_uri(uri)
        check_framework(framework)
        artifact = await self._store.keep(place, sender=sender)
        view = await self.get(artifact.digest, filename=artifact.filename)
        try:
            schema = await self._schema(artifact)
        except MeshError as error:
            if error.reason not in (Reason.ARTIFACT_INVALID, Reason.SCHEMA_REQUIRED):
                raise
            recognised = "onnx" if error.reason is Reason.SCHEMA_REQUIRED else ""
            return Report(view, recognised, None, None, (error.message,))
        return Report(view, "onnx", schema, agree_mapping(PredictionMapping(), schema, ()), ())

    async def _schema(self, artifact: Artifact) -> ModelSchema:
        stated = await self._reader.stated(artifact)
        return agree(stated, None, inputs={}, outputs={}).schema
