"""How rows of feature views lie in Redis.

A hash for each entity, `features:{entity}={id}`, and `features:{team}/{entity}={id}` where a team owns the model. Its
fields are the views' names, each value the JSON object `{"at": <Unix seconds>, "features": {<name>: <value>}}`: so a
view is written as a whole, values and the moment since when they hold together, and writers of different views of an
entity do not disturb each other. The hash expires 5 minutes after it was written last, unless its writer says
otherwise.
"""

import orjson

from services.batcher.domain.feature_views import StoredRow


def row_key(entity: str, entity_id: str, *, team: str = "") -> str:
    """The key of an entity's hash. Names of entities and teams hold neither '=' nor '/', so no two share one."""
    return f"features:{team}/{entity}={entity_id}" if team else f"features:{entity}={entity_id}"


def decode_row(data: bytes) -> StoredRow | None:
    """The row; None where the bytes are none."""
    try:
        document = orjson.loads(data)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(document, dict) or not isinstance(values := document.get("features"), dict):
        return None
    at_s = document.get("at")
    known = float(at_s) if isinstance(at_s, int | float) and not isinstance(at_s, bool) else None
    return StoredRow(values, known, len(data))
