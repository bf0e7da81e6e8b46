"""How rows of feature views lie in Redis: the one place that says it to those who write them and those who read them.

A hash for each entity, `features:{entity}={id}`, and `features:{team}/{entity}={id}` where a team owns the model. Its
fields are the views' names, each value the JSON object `{"at": <Unix seconds>, "features": {<name>: <value>}}`: so a
view is written as a whole, values and the moment since when they hold together, and writers of different views of an
entity do not disturb each other. The hash expires 5 minutes after it was written last, unless its writer says
otherwise.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import orjson

KEY_PREFIX = "features:"
TTL_DEFAULT_S = 300


@dataclass(frozen=True, slots=True)
class Row:
    """Values of one view for one entity; `at_s` in Unix seconds, None where it is not said."""

    values: Mapping[str, object]
    at_s: float | None


def row_key(entity: str, entity_id: str, *, team: str = "") -> str:
    """The key of an entity's hash. Names of entities and teams hold neither '=' nor '/', so no two share one."""
    return f"{KEY_PREFIX}{team}/{entity}={entity_id}" if team else f"{KEY_PREFIX}{entity}={entity_id}"


def encode_row(values: Mapping[str, object], *, at_s: float) -> bytes:
    """The value of a view's field. Raises TypeError where a value has no JSON form."""
    return orjson.dumps({"at": at_s, "features": dict(values)})


def decode_row(data: bytes) -> Row | None:
    """The row; None where the bytes are none."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not isinstance(values := document.get("features"), dict):
        return None
    at_s = document.get("at")
    return Row(values, float(at_s) if isinstance(at_s, int | float) and not isinstance(at_s, bool) else None)
