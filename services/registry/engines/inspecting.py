"""Looking into artifacts without registering anything."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.schema import ModelSchema, PredictionMapping
from services.registry.domain.artifact_uri import DIGEST, parse_artifact_uri
from services.registry.domain.artifacts import MESH, Sender, no_artifact
from services.registry.domain.frameworks import check_framework, check_loadable, check_safe
from services.registry.domain.mapping import agree_mapping
from services.registry.domain.schemas import agree
from services.registry.domain.version import FRAMEWORKS, Stored
from services.registry.ports import ArtifactReader, ArtifactStore, Catalogue
from services.registry.ports_reading import TeamRulesBook


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
    framework_version: str = ""


class Inspecting:
    """The calls about artifacts."""

    def __init__(
        self, *, catalogue: Catalogue, store: ArtifactStore, reader: ArtifactReader, rules: TeamRulesBook
    ) -> None:
        self._catalogue = catalogue
        self._store = store
        self._reader = reader
        self._rules = rules

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
        artifact = await self._store.keep(place, sender=sender)
        view = await self.get(artifact.digest, filename=artifact.filename)
        try:
            seen = await self._reader.read(artifact)
        except MeshError as error:
            if error.reason is not Reason.ARTIFACT_INVALID:
                raise
            return Report(view, "", None, None, (error.message,))
        rules = await self._rules.rules(sender.team)
        problems = _problems(
            lambda: check_framework(framework, seen, artifact),
            lambda: check_loadable(seen, artifact),
            lambda: check_safe(seen, artifact, allowed=rules.allow_unsafe, team=rules.team),
        )
        schema: ModelSchema | None = None
        mapping: PredictionMapping | None = None
        try:
            schema = agree(seen.stated, None, inputs={}, outputs={}, why=seen.undeclared).schema
            mapping = agree_mapping(PredictionMapping(), schema, (), stated_names=seen.class_names)
        except MeshError as error:
            if error.reason is not Reason.SCHEMA_REQUIRED:
                raise
            problems.append(error.message)
        return Report(view, seen.framework, schema, mapping, problems, seen.framework_version)


def _problems(*checks: Callable[[], None]) -> list[str]:
    """What the checks complain of."""
    found: list[str] = []
    for check in checks:
        try:
            check()
        except MeshError as error:
            found.append(error.message)
    return found
