"""Instances as people have them: JSON in an argument, a JSON or JSON Lines file, or standard input."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import typer

STDIN = "-"
_BYTES_MAX = 64 * 1024 * 1024
"""Far more than the gateway takes in one request; it bounds what a wrong path can make us read."""

Instance = Mapping[str, object]


def read_instances(argument: str | None, file: Path | None) -> Sequence[Instance]:
    """The instances of the argument, else of the file, else of standard input.

    An argument may be JSON, `-` for standard input, or `@PATH` as in curl. Raises typer.BadParameter with the place of
    the fault.
    """
    if argument is not None and file is not None:
        raise typer.BadParameter("give instances as an argument or with --file, not both")
    if argument is not None and argument.startswith("@"):
        file, argument = Path(argument[1:]), None
    if file is not None and str(file) != STDIN:
        return parse_instances(_read_file(file), str(file))
    if argument is not None and argument != STDIN:
        return parse_instances(argument, "the argument")
    if argument is None and file is None and sys.stdin.isatty():
        raise typer.BadParameter(
            """give instances: as JSON, for instance '{"x": 1.5}', with --file PATH, or on standard input"""
        )
    return parse_instances(sys.stdin.read(_BYTES_MAX), "standard input")


def parse_instances(text: str, source: str) -> Sequence[Instance]:
    """One object, an array of objects, a whole request body with `instances`, or one object a line."""
    if not text.strip():
        raise typer.BadParameter(f"{source} is empty; it must hold one or more JSON objects")
    try:
        value = json.loads(text)
    except json.JSONDecodeError as whole:
        value = _lines(text, source, whole)
    if isinstance(value, dict) and isinstance(value.get("instances"), list):
        value = value["instances"]
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise typer.BadParameter(f"{source} holds {_kind(value)}; it must hold one or more JSON objects")
    for place, item in enumerate(value):
        if not isinstance(item, dict):
            raise typer.BadParameter(
                f"instance {place} of {source} is {_kind(item)}; it must be an object with one key for each feature"
            )
    return value


def _lines(text: str, source: str, whole: json.JSONDecodeError) -> list[object]:
    values: list[object] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            values.append(json.loads(line))
        except json.JSONDecodeError as error:
            # A first line that is no JSON by itself means one document, broken where the whole parse stopped.
            place = whole if not values else error
            row = whole.lineno if not values else number
            raise typer.BadParameter(f"{source} is no JSON: {place.msg} in line {row}, column {place.colno}") from None
    return values


def _read_file(path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.read(_BYTES_MAX)
    except OSError as error:
        raise typer.BadParameter(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start})") from None


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "text", bool: "a truth value", type(None): "null"}
    if isinstance(value, list) and not value:
        return "an empty array"
    return names.get(type(value), "a number")
