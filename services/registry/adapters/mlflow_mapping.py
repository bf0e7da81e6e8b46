"""MLflow's models, versions and runs in this registry's words."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.registry.domain.imports import FoundVersion, aliases_here, name_here, stage_here, version_here
from services.registry.domain.metadata import TAG_LENGTH_MAX, TAGS_MAX
from services.registry.domain.version import Lineage

_TEXT_LENGTH_MAX = 2048
_DESCRIPTION_LENGTH_MAX = 4096


@dataclass(frozen=True, slots=True)
class Run:
    """A run, as far as it is kept: its last metrics, its parameters and its tags."""

    run_id: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


def found_version(
    model: Mapping[str, object], version: Mapping[str, object], run: Run | None, *, handle: str
) -> FoundVersion:
    """A version of a model, with what its run tells."""
    name, number = str(model.get("name", "")), str(version.get("version", ""))
    stage = str(version.get("current_stage") or "")
    aliases = model.get("aliases")
    status = str(version.get("status") or "READY")
    problem = ""
    if not name_here(name) or not version_here(number):
        problem = "its name or number cannot be made into one of this registry"
    elif status != "READY":
        problem = f"it is not ready there: {_text(version.get('status_message')) or status}"
    return FoundVersion(
        source_name=f"models:/{name}/{number}",
        model_name=name_here(name),
        version=version_here(number),
        handle=handle,
        problem=problem,
        description=_text(model.get("description"), _DESCRIPTION_LENGTH_MAX),
        model_card=_text(version.get("description"), _DESCRIPTION_LENGTH_MAX),
        stage=stage_here(stage),
        aliases=aliases_here(texts(aliases), number, stage),
        tags=_tags({**texts(model.get("tags")), **texts(version.get("tags"))}),
        metrics={key: value for key, value in (run.metrics if run else {}).items() if math.isfinite(value)},
        lineage=_lineage(str(version.get("run_id") or ""), run),
    )


def texts(value: object) -> Mapping[str, str]:
    """A mapping of texts, or a list of keys and values as the REST API has it."""
    if isinstance(value, Mapping):
        return {str(key): str(item) for key, item in value.items()}
    pairs: dict[str, str] = {}
    for one in value if isinstance(value, list) else ():
        if isinstance(one, Mapping):
            key = one.get("key", one.get("alias"))
            if key is not None:
                pairs[str(key)] = str(one.get("value", one.get("version", "")))
    return pairs


def _lineage(run_id: str, run: Run | None) -> Lineage:
    tags = run.tags if run is not None else {}
    return Lineage(
        training_run=f"mlflow:{run_id}"[:_TEXT_LENGTH_MAX] if run_id else "",
        code_commit=_text(tags.get("mlflow.source.git.commit")),
        code_repository=_text(tags.get("mlflow.source.git.repoURL")),
        trained_by=_text(tags.get("mlflow.user")),
        hyperparameters={key: value.replace("\0", "") for key, value in run.params.items()} if run is not None else {},
    )


def _tags(tags: Mapping[str, str]) -> tuple[str, ...]:
    """MLflow's tags have values: "name=value", or the name alone where it has none."""
    words = (f"{key}={value}" if value else key for key, value in tags.items() if not key.startswith("mlflow."))
    kept = sorted({word for word in words if len(word) <= TAG_LENGTH_MAX and word.isprintable()})
    return tuple(kept[:TAGS_MAX])


def _text(value: object, length_max: int = _TEXT_LENGTH_MAX) -> str:
    return value.replace("\0", "")[:length_max] if isinstance(value, str) and value != "null" else ""
