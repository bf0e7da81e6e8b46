"""Models and versions as values, what of a version never changes, and in which order versions stand."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from services.common.feature_view import FeatureView
from services.common.names import SemanticVersion
from services.common.schema import ModelSchema, PredictionMapping
from services.registry.domain.signatures import Signature

JsonObject = Mapping[str, object]
"""A JSON object; every number in it is a float."""

FRAMEWORKS = ("onnx", "pytorch", "tensorflow", "sklearn", "xgboost", "lightgbm", "python")


class Stage(StrEnum):
    """What a version is meant for."""

    DRAFT = "draft"
    ACTIVE = "active"
    DEPRECATED = "deprecated"
    ARCHIVED = "archived"


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a version was made from. Empty: not stated."""

    training_run: str = ""
    dataset: str = ""
    dataset_uri: str = ""
    code_commit: str = ""
    code_repository: str = ""
    parent_version: str = ""
    trained_by: str = ""
    hyperparameters: JsonObject = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Bytes in the store. `kind` is "file" or "tar.gz"; `filename` is the name where they were taken from."""

    digest: str
    kind: str
    filename: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Stored:
    """An artifact in the store: how large it is, as sent and as stored, and since when it is there."""

    digest: str
    kind: str
    size_bytes: int
    created_at: datetime
    stored_bytes: int = 0
    filename: str = ""
    """The name under which it first came; empty: none."""


@dataclass(frozen=True, slots=True)
class Content:
    """What of a version is fixed for good."""

    framework: str
    artifact: Artifact
    schema: ModelSchema
    schema_source: str
    """"artifact" or "declared"."""
    mapping: PredictionMapping
    framework_version: str = ""
    input_schema: JsonObject = field(default_factory=dict)
    output_schema: JsonObject = field(default_factory=dict)
    metadata: JsonObject = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    feature_views: tuple[FeatureView, ...] = ()
    """In alphabetical order of their names."""
    reference_digest: str = ""
    """SHA-256 of the sample that explanations are made against; empty: there is none."""
    reference_rows: int = 0
    """Its instances."""


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A version about to be registered, with what a model that is new begins with.

    `reference` is the content of its reference sample, None where it has none.
    """

    model_name: str
    version: str
    content: Content
    artifact_uri: str
    description: str = ""
    stage: Stage = Stage.DRAFT
    model_card: str = ""
    request_id: str = ""
    created_by: str = ""
    team: str = ""
    reference: bytes | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A registered version."""

    version_id: str
    model_name: str
    version: str
    content: Content
    artifact_uri: str
    stage: Stage
    model_card: str
    request_id: str
    created_by: str
    team: str
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    """Counts changes of stage and card."""
    aliases: tuple[str, ...] = ()
    signature: Signature | None = None
    """How the last check of its signature came out; None: it has none."""

    @property
    def etag(self) -> str:
        """Changes with stage and card."""
        return etag_of(self.version_id, self.revision)


@dataclass(frozen=True, slots=True)
class Model:
    """A model, with what is true of all its versions."""

    model_id: str
    name: str
    description: str
    framework: str
    created_by: str
    team: str
    tags: tuple[str, ...]
    model_card: str
    latest_version: str
    version_count: int
    aliases: Mapping[str, str]
    created_at: datetime
    updated_at: datetime
    revision: int = 1
    """Counts changes of description, tags and card."""
    shared_with: tuple[str, ...] = ()
    """Teams that may read and call it, as far as who looks may know: strangers see none but themselves."""

    @property
    def etag(self) -> str:
        """Changes with description, tags and card."""
        return etag_of(self.model_id, self.revision)


def etag_of(resource_id: str, revision: int) -> str:
    """The etag of a revision: opaque, and never that of a namesake."""
    return hashlib.sha256(f"{resource_id}:{revision}".encode()).hexdigest()[:16]


def precedence_key(version: str) -> str:
    """ASCII text that sorts, byte by byte, as versions do by semantic precedence; equal for equal versions alone."""
    parsed = SemanticVersion.parse(version)
    release = "".join(f"{number:09d}" for number in (parsed.major, parsed.minor, parsed.patch))
    if not parsed.prerelease:
        return f"{release}~"
    # A number is below a word, a shorter number below a longer one; "!" ends a word below all that could go on.
    parts = (f"1{len(part):02d}{part}" if part.isdigit() else f"2{part}!" for part in parsed.prerelease)
    return release + "".join(parts)


def differences(registered: Content, asked: Content) -> Sequence[str]:
    """The fields in which two registrations of one version contradict each other; empty: they are the same."""
    pairs: tuple[tuple[str, object, object], ...] = (
        ("artifact", registered.artifact.digest, asked.artifact.digest),
        ("framework", registered.framework, asked.framework),
        ("framework_version", registered.framework_version, asked.framework_version),
        ("schema", registered.schema, asked.schema),
        ("input_schema", registered.input_schema, asked.input_schema),
        ("output_schema", registered.output_schema, asked.output_schema),
        ("mapping", registered.mapping, asked.mapping),
        ("metadata", registered.metadata, asked.metadata),
        ("lineage", registered.lineage, asked.lineage),
        ("feature_views", registered.feature_views, asked.feature_views),
        ("reference_sample", registered.reference_digest, asked.reference_digest),
    )
    return [name for name, before, after in pairs if before != after]
