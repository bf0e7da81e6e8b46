"""JSON objects as people give them to an option: in the argument itself, or `@PATH` as in curl."""

import json
from pathlib import Path

import typer

_BYTES_MAX = 1024 * 1024
"""The registry takes no more."""


def read_document(argument: str, option: str) -> dict[str, object]:
    """The object of an option. Raises typer.BadParameter with the place of the fault."""
    if argument.startswith("@"):
        path = Path(argument[1:]).expanduser()
        return _parse(_read(path, option), str(path), option)
    return _parse(argument, "the value", option)


def _read(path: Path, option: str) -> str:
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.read(_BYTES_MAX + 1)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot read {path}: {reason}", param_hint=option) from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start})", param_hint=option) from None


def _parse(text: str, source: str, option: str) -> dict[str, object]:
    if len(text) > _BYTES_MAX:
        raise typer.BadParameter(f"{source} is longer than 1 MiB", param_hint=option)
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(
            f"{source} is no JSON: {error.msg} in line {error.lineno}, column {error.colno}", param_hint=option
        ) from None
    if not isinstance(value, dict):
        raise typer.BadParameter(f'{source} must be a JSON object, as in {{"accuracy": 0.97}}', param_hint=option)
    return value
