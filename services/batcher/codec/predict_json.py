"""A request as plain JSON, as the REST contract states it."""

import json
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import cast

import orjson

from services.batcher.domain.instances import ROWS_MAX, Row
from services.batcher.domain.request import Parameter
from services.batcher.domain.schema_check import short_name
from services.common.errors import FieldViolation, MeshError, Reason, invalid, invalid_fields, shown

_INSTANCES = "a list of 1 or more objects, each with one key for every feature"
TIMEOUT_MS_MAX = 2**32 - 1
_FIELDS = {
    "instances": _INSTANCES,
    "version": 'a text such as "v2.1.0"',
    "parameters": "an object",
    "timeout_ms": f"0 to {TIMEOUT_MS_MAX} milliseconds",
    "explain": "true or false",
    "request_id": "a text of at most 128 characters",
}
"""What the body may have, and what is allowed there."""
_TEXTS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*:)?', re.DOTALL)
"""Texts of a JSON document; with a colon where one is a key."""
_NAMED_MAX = 8
"""The most unknown fields that one refusal names."""
_EXAMPLE = 'an object such as {"instances": [{"feature1": 0.5}]}'


@dataclass(slots=True)
class JsonRequest:
    """A request of the REST contract."""

    instances: Sequence[Row]
    version: str = ""
    parameters: tuple[tuple[str, Parameter], ...] = ()
    timeout_ms: float = 0.0
    """0: none stated."""
    explain: bool = False
    request_id: str = ""


def read(body: bytes) -> JsonRequest:
    """The request. Raises MALFORMED_BODY where the body is no such object, INVALID_FIELD where a field is wrong."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        # What gzip begins with: compression is stated in a header, which nobody here looks at.
        why = "it is compressed with gzip, which is not taken" if body.startswith(b"\x1f\x8b") else str(error)
        raise MeshError(Reason.MALFORMED_BODY, f"the body is no JSON: {why}; send {_EXAMPLE}") from None
    if not isinstance(document, dict):
        raise MeshError(Reason.MALFORMED_BODY, f"the body is {shown(document, length_max=60)}; send {_EXAMPLE}")
    _refuse_duplicates(body, document)
    if len(document) == 1 and "instances" in document:
        return JsonRequest(_instances(document["instances"]))
    # Names first: whoever misspells "instances" is told that, and not that it is missing.
    if not _FIELDS.keys() >= document.keys():
        raise invalid_fields([_unknown(name, document[name]) for name in document if name not in _FIELDS][:_NAMED_MAX])
    if "instances" not in document:
        raise invalid_fields([FieldViolation("instances", f"is missing; allowed: {_INSTANCES}")])
    request = JsonRequest(_instances(document["instances"]))
    _read_options(document, request)
    return request


def _refuse_duplicates(body: bytes, document: Mapping[str, object]) -> None:
    """Raises INVALID_FIELD where an object has a key twice, of which the reader keeps one and says nothing."""
    rows = document.get("instances")
    expected = len(document) + sum(len(row) for row in rows if type(row) is dict) if isinstance(rows, list) else -1
    # As many colons as keys: none is lost. Else some are in texts, or in objects further in, and have to be told apart.
    if body.count(b":") != expected and sum(1 for found in _TEXTS.finditer(body) if found[1]) != _keys(document):
        raise invalid_fields([FieldViolation(_first_twice(body), "stands twice in one object; allowed: once")])


def _keys(document: Mapping[str, object]) -> int:
    """The keys of all objects that were kept, however deep."""
    count, waiting = 0, [cast("object", document)]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            count += len(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)
    return count


def _first_twice(body: bytes) -> str:
    """The key that stands twice; a word for it where it is too deep for Python to look."""
    found: list[str] = []

    def noted(pairs: list[tuple[str, object]]) -> None:
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                found.append(key)
            seen.add(key)

    with suppress(RecursionError):
        json.loads(body, object_pairs_hook=noted, parse_int=float)
    return short_name(found[0]) if found else "instances"


def check_rows(count: int) -> int:
    """`count` itself. Raises INVALID_FIELD outside 1 to 65536."""
    if not 1 <= count <= ROWS_MAX:
        allowed = f"allowed: 1 to {ROWS_MAX}; larger work is for batch jobs"
        raise invalid_fields([FieldViolation("instances", f"has {count} of them; {allowed}")])
    return count


def _instances(value: object) -> Sequence[Row]:
    if not isinstance(value, list) or not value:
        raise invalid("instances", value, _INSTANCES)
    check_rows(len(value))
    for place, item in enumerate(value):
        if type(item) is not dict:
            raise invalid(f"instances[{place}]", item, "an object with one key for every feature")
    return cast("Sequence[Row]", value)


def _unknown(name: str, value: object) -> FieldViolation:
    allowed = ", ".join(field for field in _FIELDS if field != "instances")
    description = f"(here {shown(value)}) is no field of the body; allowed: instances ({_INSTANCES}), {allowed}"
    return FieldViolation(short_name(name), description)


def _read_options(document: Mapping[str, object], request: JsonRequest) -> None:
    # null is the same as leaving a field out; other values of the wrong type are not.
    given = {name: value for name, value in document.items() if value is not None}
    version, request_id = given.get("version", ""), given.get("request_id", "")
    if not isinstance(version, str):
        raise invalid("version", version, _FIELDS["version"])
    if not isinstance(request_id, str):
        raise invalid("request_id", request_id, _FIELDS["request_id"])
    timeout_ms, explain = given.get("timeout_ms", 0), given.get("explain", False)
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or not 0 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise invalid("timeout_ms", timeout_ms, _FIELDS["timeout_ms"])
    if not isinstance(explain, bool):
        raise invalid("explain", explain, _FIELDS["explain"])
    request.version, request.request_id = version, request_id
    request.timeout_ms, request.explain = timeout_ms, explain
    if "parameters" in given:
        request.parameters = _parameters(given["parameters"])


def _parameters(value: object) -> tuple[tuple[str, Parameter], ...]:
    if not isinstance(value, dict):
        raise invalid("parameters", value, _FIELDS["parameters"])
    for name, item in value.items():
        if not isinstance(item, str | int | float | bool):
            raise invalid(f"parameters.{short_name(name)}", item, "a text, a number, true or false")
    return tuple(sorted(value.items()))
