"""What another registry holds, in this one's words."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.common.errors import MeshError, invalid
from services.common.schema import ModelSchema
from services.registry.domain.names import check_alias
from services.registry.domain.version import Lineage, Stage

SOURCES = ("mlflow", "triton")
VERSIONS_MAX = 1000
"""The most that one import takes; who has more narrows it by the prefix."""
_NAME_LENGTH_MAX = 63


@dataclass(frozen=True, slots=True)
class FoundVersion:
    """A version that another registry holds."""

    source_name: str
    """Its name there, for instance "models:/fraud/3"."""
    model_name: str
    version: str
    handle: str = ""
    """What its source finds the artifact by."""
    problem: str = ""
    """Why it cannot be taken; empty: it can."""
    description: str = ""
    model_card: str = ""
    stage: Stage = Stage.DRAFT
    aliases: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Lineage = field(default_factory=Lineage)
    schema: ModelSchema | None = None
    """What the other registry says of the tensors, for artifacts that do not."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What became of one. `outcome` is "registered", "present", "skipped" or "failed"."""

    source_name: str
    model_name: str
    version: str
    outcome: str
    message: str = ""


def check_source(source: str) -> str:
    """`source` itself. Raises INVALID_FIELD."""
    if source not in SOURCES:
        raise invalid("source", source, "one of " + ", ".join(SOURCES))
    return source


def name_here(name: str) -> str:
    """The nearest name that a model may have here; "" where nothing of it may stand."""
    words = re.sub(r"[^a-z0-9_]+", "-", name.lower())
    return words.strip("-_")[:_NAME_LENGTH_MAX].strip("-_")


def version_here(number: str) -> str:
    """The version of a registry that counts its versions; "" where that is no count."""
    return f"v{int(number)}.0.0" if number.isascii() and number.isdigit() and len(number) <= 9 else ""


def aliases_here(names: Mapping[str, str], number: str, stage: str) -> tuple[str, ...]:
    """The aliases that point to a version, and the stages of old that were used as such."""
    found = [name_here(alias) for alias, version in names.items() if version == number]
    found += [stage.lower()] if stage in ("Staging", "Production") else []
    return tuple(sorted({one for one in found if _is_alias(one)}))


def stage_here(stage: str) -> Stage:
    """The stage here of one of MLflow's stages."""
    return {"Production": Stage.ACTIVE, "Archived": Stage.ARCHIVED}.get(stage, Stage.DRAFT)


def _is_alias(name: str) -> bool:
    try:
        check_alias(name)
    except MeshError:
        return False
    return True
