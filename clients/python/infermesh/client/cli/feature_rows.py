"""Rows of a file as rows of a feature view: by the view's own types, so that nothing is guessed."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import typer
from infermesh.client.cli.instances import Instance
from infermesh.client.cli.row_files import read_rows
from infermesh.client.feature_store import FeatureRow
from infermesh.common.v1 import feature_pb2

AT_DEFAULT = "event_timestamp"
ROWS_MAX = 10_000_000
_ARGUMENT = "FILE"


def feature_rows(path: Path, view: feature_pb2.FeatureView, *, at: str) -> Iterator[FeatureRow]:
    """The rows. `at` is the column with the moment since when they hold: Unix seconds or ISO 8601, UTC without a zone;
    empty: "event_timestamp" where there is such a column, else now. A cell that is empty or null is left out.

    Raises typer.BadParameter with the row and the column: at once where the file or its columns do not fit, else when
    the row is taken.
    """
    rows = read_rows(path, option=_ARGUMENT, limit=ROWS_MAX, texts={view.entity, *_texts(view), at or AT_DEFAULT})
    known = list(rows[0])
    moment = at or (AT_DEFAULT if AT_DEFAULT in known else "")
    features = [name for name in view.features if name in known]
    for column in (view.entity, *([moment] if moment else [])):
        if column not in known:
            raise _wrong(f"{path} has no column {column}; it has: {', '.join(known)}")
    if not features:
        raise _wrong(f"{path} has no feature of {view.name}: {', '.join(sorted(view.features))}")
    return _converted(path, view, rows, features, moment)


def _converted(
    path: Path, view: feature_pb2.FeatureView, rows: Sequence[Instance], features: Sequence[str], moment: str
) -> Iterator[FeatureRow]:
    for number, row in enumerate(rows, start=1):
        where = f"row {number} of {path}"
        values = {
            name: _value(row.get(name), view.features[name], f"{where}, {name}")
            for name in features
            if row.get(name) not in (None, "")
        }
        yield FeatureRow(_entity_id(row, view.entity, where), values, _moment(row, moment, where) if moment else None)


def _texts(view: feature_pb2.FeatureView) -> Sequence[str]:
    return [name for name, kind in view.features.items() if kind in ("string", "object")]


def _entity_id(row: Mapping[str, object], entity: str, where: str) -> str:
    value = row.get(entity)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise _wrong(f"{where}: {entity} is {value!r}; it must be a text or a whole number")
    return str(value)


def _value(value: object, kind: str, where: str) -> object:
    """`value`, where it is of the declared type; numbers of arrays are left to the batcher's check."""
    fits = {
        "string": isinstance(value, str),
        "object": isinstance(value, str | dict),
        "bool": isinstance(value, bool),
        "int": _is_number(value) and float(str(value)).is_integer(),
        "float": _is_number(value),
    }.get(kind, isinstance(value, list))
    if not fits:
        raise _wrong(f"{where} is {value!r}; the view has it as {kind}")
    if kind == "object" and isinstance(value, dict):
        return json.dumps(value)
    return int(float(str(value))) if kind == "int" and isinstance(value, float) else value


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _moment(row: Mapping[str, object], column: str, where: str) -> float:
    value = row.get(column)
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        pass
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise _wrong(f"{where}: {column} is {value!r}; it must be Unix seconds or ISO 8601") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _wrong(message: str) -> typer.BadParameter:
    return typer.BadParameter(message, param_hint=_ARGUMENT)
