"""What is understood of a version's metadata; the rest is kept as it was sent."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.errors import MeshError, invalid
from services.common.names import check_model_name, check_version
from services.registry.domain.version import JsonObject, Lineage

TAGS_MAX = 64
TAG_LENGTH_MAX = 64
_CLASSES_MAX = 100_000
_METRICS_MAX = 1000
_TEXTS = ("training_run", "dataset", "dataset_uri", "code_commit", "code_repository", "parent_version", "trained_by")


def check_tags(tags: object, field: str) -> tuple[str, ...]:
    """Words without doubles, in alphabetical order. Raises INVALID_FIELD."""
    allowed = f"a list of at most {TAGS_MAX} words of 1 to {TAG_LENGTH_MAX} characters"
    if isinstance(tags, str) or not isinstance(tags, Sequence) or len(tags) > TAGS_MAX:
        raise invalid(field, tags, allowed)
    words: set[str] = set()
    for tag in tags:
        if not isinstance(tag, str) or not 0 < len(tag) <= TAG_LENGTH_MAX or re.search(r"[\x00-\x1f]", tag):
            raise invalid(field, tag, allowed)
        words.add(tag)
    return tuple(sorted(words))


def tags_of(metadata: JsonObject) -> tuple[str, ...]:
    """The words of `tags`. Raises INVALID_FIELD where it is no list of words."""
    return check_tags(metadata.get("tags") or (), "metadata.tags")


def class_names_of(metadata: JsonObject) -> tuple[str, ...]:
    """The classes in the order of the model's probabilities. Raises INVALID_FIELD where it is no list of names."""
    names = metadata.get("class_names") or ()
    allowed = f"a list of at most {_CLASSES_MAX} different names"
    if not isinstance(names, list | tuple) or len(names) > _CLASSES_MAX:
        raise invalid("metadata.class_names", names, allowed)
    read = tuple(_class_name(name) for name in names)
    if len(set(read)) != len(read) or "" in read:
        raise invalid("metadata.class_names", names, allowed)
    return read


def metrics_of(metadata: JsonObject) -> Mapping[str, float]:
    """The numbers at the top level and those in `metrics`, which win."""
    nested = metadata.get("metrics")
    found: dict[str, float] = {}
    for source in (metadata, nested if isinstance(nested, Mapping) else {}):
        for name, value in source.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                found[str(name)] = float(value)
    return dict(sorted(found.items())[:_METRICS_MAX])


def description_of(metadata: JsonObject) -> str:
    """`description` where it is text; else empty."""
    text = metadata.get("description")
    return text if isinstance(text, str) else ""


def lineage_of(stated: Lineage, metadata: JsonObject) -> Lineage:
    """`stated`, with fields that are empty taken from the metadata where it has them as text.

    Raises INVALID_FIELD where the parent is no version.
    """
    texts = {name: getattr(stated, name) or _text(metadata.get(name)) for name in _TEXTS}
    given = metadata.get("hyperparameters")
    hyperparameters = stated.hyperparameters or (given if isinstance(given, Mapping) else {})
    merged = replace(stated, hyperparameters=hyperparameters, **texts)
    return replace(merged, parent_version=_parent(merged.parent_version)) if merged.parent_version else merged


def _parent(text: str) -> str:
    """ "v1.0.0" or "model@v1.0.0", with the v."""
    field = "lineage.parent_version"
    model, at, version = text.rpartition("@")
    try:
        if at:
            check_model_name(model, field)
        return f"{model}{at}{check_version(version, field)}"
    except MeshError:
        raise invalid(field, text, 'a version such as "v1.0.0", or "model@v1.0.0" of another model') from None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _class_name(name: object) -> str:
    if isinstance(name, str):
        return name
    if isinstance(name, float) and name.is_integer():
        return str(int(name))
    raise invalid("metadata.class_names", name, "names, each a text or a whole number")
