"""What a caller asks to be registered, and what of it is wrong before any artifact is read."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from services.common.errors import FieldViolation, MeshError, Reason, shown
from services.common.feature_view import FeatureView
from services.common.names import check_model_name, check_version
from services.common.schema import ModelSchema, PredictionMapping
from services.registry.domain.artifact_uri import DIGEST, parse_artifact_uri
from services.registry.domain.feature_views import check_views
from services.registry.domain.metadata import class_names_of, description_of, lineage_of, tags_of
from services.registry.domain.reference import check_sample_size
from services.registry.domain.schemas import check_declared
from services.registry.domain.short_form import parse_short_form
from services.registry.domain.signatures import SIGNATURE_BYTES_MAX
from services.registry.domain.version import FRAMEWORKS, JsonObject, Lineage, Stage
from services.registry.domain.violations import Violations

DESCRIPTION_LENGTH_MAX = 4096
CARD_BYTES_MAX = 256 * 1024
JSON_BYTES_MAX = 1024 * 1024
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
"""The escape of U+0000, which PostgreSQL cannot keep; behind an escaped backslash the same letters are only text."""
_STAGES = (Stage.DRAFT, Stage.ACTIVE)


@dataclass(frozen=True, slots=True)
class Registration:
    """A version to register, as it was asked for."""

    name: str
    version: str
    artifact_uri: str
    framework: str = ""
    framework_version: str = ""
    artifact_digest: str = ""
    input_schema: JsonObject = field(default_factory=dict)
    output_schema: JsonObject = field(default_factory=dict)
    schema: ModelSchema | None = None
    mapping: PredictionMapping = field(default_factory=PredictionMapping)
    metadata: JsonObject = field(default_factory=dict)
    description: str = ""
    lineage: Lineage = field(default_factory=Lineage)
    stage: str = ""
    model_card: str = ""
    feature_views: tuple[FeatureView, ...] = ()
    reference: Sequence[JsonObject] | None = None
    """The instances of the reference sample; None: there is none."""
    signature: bytes = b""
    """Empty: none came."""
    request_id: str = ""
    created_by: str = ""
    team: str = ""


def check_registration(asked: Registration, already: Sequence[FieldViolation] = ()) -> None:
    """Raises INVALID_FIELD naming all that is wrong (`already` included), or NOT_IMPLEMENTED for what cannot be yet."""
    found = Violations()
    found.found.extend(already)
    found.check(lambda: check_model_name(asked.name, "name"))
    found.check(lambda: check_version(asked.version))
    later = _uri_problem(asked.artifact_uri, found)
    digest = asked.artifact_digest
    found.unless(not digest or DIGEST.fullmatch(digest) is not None, "artifact_digest", digest, "64 of 0-9 and a-f")
    frameworks = ("", *FRAMEWORKS)
    found.unless(
        asked.framework in frameworks, "framework", asked.framework, "empty or one of " + ", ".join(FRAMEWORKS)
    )
    found.unless(asked.stage in ("", *_STAGES), "stage", asked.stage, "empty or one of " + ", ".join(_STAGES))
    for name, limit in (("framework_version", 64), ("request_id", 128)):
        found.at_most(name, getattr(asked, name), limit)
    # A description that comes out of the metadata is cut, not refused: nobody wrote it as this model's description.
    found.at_most("description", asked.description, DESCRIPTION_LENGTH_MAX)
    check_card(asked.model_card, found)
    for name in ("input_schema", "output_schema", "metadata"):
        check_json(name, getattr(asked, name), found)
    for name in ("input_schema", "output_schema"):
        found.check(lambda name=name: parse_short_form(getattr(asked, name), name))  # type: ignore[misc]
    if asked.schema is not None:
        check_declared(asked.schema, found)
    check_views(asked.feature_views, found)
    found.unless(
        len(asked.signature) <= SIGNATURE_BYTES_MAX,
        "signature",
        f"{len(asked.signature)} bytes",
        f"at most {SIGNATURE_BYTES_MAX} bytes",
    )
    if asked.reference is not None:
        check_sample_size(asked.reference, found)
    found.check(lambda: tags_of(asked.metadata))
    found.check(lambda: class_names_of(asked.metadata))
    found.check(lambda: lineage_of(asked.lineage, asked.metadata))
    check_json("lineage.hyperparameters", asked.lineage.hyperparameters, found)
    for name in ("training_run", "dataset", "dataset_uri", "code_commit", "code_repository", "trained_by"):
        found.at_most(f"lineage.{name}", getattr(asked.lineage, name), 2048)
    found.raise_if_any()
    if later is not None:
        raise later


def check_card(card: str, found: Violations) -> None:
    """Adds a model card that is too long."""
    fits = len(card.encode()) <= CARD_BYTES_MAX
    found.unless(fits, "model_card", f"{len(card)} characters", f"at most {CARD_BYTES_MAX} bytes")
    found.unless("\0" not in card, "model_card", shown(card), "text without the character U+0000")


def check_json(name: str, value: JsonObject, found: Violations) -> None:
    """Adds a JSON object that is too large, or holds numbers or text that JSON cannot keep."""
    try:
        text = json.dumps(value, allow_nan=False)
    except ValueError:
        found.found.append(FieldViolation(name, "holds a number that is not finite; allowed: finite numbers"))
        return
    found.unless(len(text) <= JSON_BYTES_MAX, name, f"{len(text)} bytes of JSON", f"at most {JSON_BYTES_MAX}")
    found.unless(_NUL.search(text) is None, name, value, "text without the character U+0000")


def description_for(asked: Registration) -> str:
    """The description that a new model gets."""
    return (asked.description or description_of(asked.metadata))[:DESCRIPTION_LENGTH_MAX]


def _uri_problem(uri: str, found: Violations) -> MeshError | None:
    """Adds a URI that cannot be read as one; returns the refusal of one whose store cannot be read yet."""
    try:
        parse_artifact_uri(uri)
    except MeshError as error:
        if error.reason is Reason.NOT_IMPLEMENTED:
            return error
        found.found.extend(error.violations)
    return None
