"""The audit log: what a change is, what may be asked of the log, and where a follower of it stands."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import MeshError, invalid
from services.registry.domain.version import JsonObject
from services.registry.domain.violations import Violations

RESOURCE_TYPES = ("model", "version", "alias", "team", "member", "api_key", "artifact")
NOTED_BYTES_MAX = 1024 * 1024
"""What the log keeps of a resource before or after a change, as JSON: a message that holds both stays sendable."""
LEFT_OUT = "_left_out"
"""Names the fields that were too large to be kept."""
_CURSOR_DIGITS_MAX = 18
_TYPES_MAX = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A change that was committed. `number` grows in the order of the commits."""

    number: int
    resource_type: str
    resource_name: str
    action: str
    actor: str
    team: str
    request_id: str
    reason: str
    before: JsonObject | None
    after: JsonObject | None
    time: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which changes are asked for; what is empty or None does not narrow."""

    resource_types: tuple[str, ...] = ()
    resource_name: str = ""
    model_name: str = ""
    actor: str = ""
    team: str = ""
    start: datetime | None = None
    end: datetime | None = None


def check_wanted(wanted: Wanted, *, types_field: str) -> Wanted:
    """`wanted` itself. Raises INVALID_FIELD naming all that no change can have."""
    found = Violations()
    if len(wanted.resource_types) > _TYPES_MAX:
        found.unless(False, types_field, f"{len(wanted.resource_types)} types", f"at most {_TYPES_MAX}")
    for kind in wanted.resource_types:
        found.unless(kind in RESOURCE_TYPES, types_field, kind, "empty or one of " + ", ".join(RESOURCE_TYPES))
    for field in ("resource_name", "model_name", "actor", "team"):
        found.at_most(field, getattr(wanted, field), 256)
    if wanted.start is not None and wanted.end is not None:
        found.unless(wanted.start < wanted.end, "end_time", wanted.end.isoformat(), "a moment after start_time")
    found.raise_if_any()
    return wanted


def parse_cursor(cursor: str) -> int | None:
    """The number that a cursor stands for, 0 for before all changes; None for an empty one. Raises INVALID_FIELD."""
    if not cursor:
        return None
    if not cursor.isascii() or not cursor.isdigit() or len(cursor) > _CURSOR_DIGITS_MAX:
        raise unknown_cursor(cursor)
    return int(cursor)


def unknown_cursor(cursor: str) -> MeshError:
    """INVALID_FIELD for a cursor that the log did not give out."""
    return invalid(
        "cursor",
        cursor,
        'empty (from now on), "0" (from the beginning) or the cursor of a change in this registry\'s log; it has none '
        "beyond its last change, so after a restored backup read everything anew and follow with an empty one",
    )


def noted(resource: JsonObject) -> JsonObject:
    """What the log keeps of a resource: all of it, but of one that is too large its largest fields, which are named."""
    sizes = {name: len(json.dumps({name: value})) for name, value in resource.items()}
    total, left_out = sum(sizes.values()), []
    for name in sorted(sizes, key=lambda name: (-sizes[name], name)):
        if total <= NOTED_BYTES_MAX:
            break
        total -= sizes[name]
        left_out.append(name)
    if not left_out:
        return resource
    kept: Mapping[str, object] = {name: value for name, value in resource.items() if name not in left_out}
    return {**kept, LEFT_OUT: sorted(left_out)}
