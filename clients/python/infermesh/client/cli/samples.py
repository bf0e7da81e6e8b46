"""Reference samples as people have them: rows of their training data in a JSON, JSON Lines, CSV or Parquet file."""

import csv
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import typer
from infermesh.client.cli.instances import Instance, read_instances

ROWS_MAX = 256
"""The registry takes no more."""
_READ_MAX = 1_000_000
"""Rows that are looked at: a larger file is thinned from its beginning."""
_OPTION = "--reference"


@dataclass(frozen=True, slots=True)
class Sample:
    """What was read of a file."""

    instances: Sequence[Instance]
    rows: int
    """How many the file has."""


def read_sample(path: Path, columns: Sequence[str]) -> Sample:
    """At most 256 rows of the file, evenly spread over it; only `columns` where they are named.

    In CSV a cell that is JSON (a number, true, a list) is that, any other is text. Raises typer.BadParameter.
    """
    path = path.expanduser()
    try:
        rows = _rows(path)
        instances = [_only(row, columns, path) for row in rows]
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot read {path}: {reason}", param_hint=_OPTION) from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start})", param_hint=_OPTION) from None
    if not instances:
        raise typer.BadParameter(f"{path} has no rows", param_hint=_OPTION)
    count = len(instances)
    spread = [instances[place * count // ROWS_MAX] for place in range(ROWS_MAX)] if count > ROWS_MAX else instances
    return Sample(spread, count)


def _rows(path: Path) -> Sequence[Instance]:
    ending = path.suffix.lower()
    if ending == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            return list(islice(_csv_rows(csv.DictReader(stream), path), _READ_MAX))
    if ending == ".parquet":
        return _parquet_rows(path)
    return read_instances(None, path)


def _csv_rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[Instance]:
    for row in reader:
        if None in row or None in row.values():
            where = f"line {reader.line_num} of {path} has another number of cells than its header"
            raise typer.BadParameter(where, param_hint=_OPTION)
        yield {name: _cell(text) for name, text in row.items()}


def _cell(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict) else value


def _parquet_rows(path: Path) -> Sequence[Instance]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - large, and few files need it
    except ImportError:
        raise typer.BadParameter(
            f"{path} is a Parquet file, which needs pyarrow: install it, or give JSON or CSV", param_hint=_OPTION
        ) from None
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
    except ArrowInvalid as error:
        raise typer.BadParameter(f"{path} is no Parquet file: {error}", param_hint=_OPTION) from None
    rows: list[Instance] = table.slice(0, _READ_MAX).to_pylist()
    return rows


def _only(row: Instance, columns: Sequence[str], path: Path) -> Instance:
    if not columns:
        return row
    missing = [name for name in columns if name not in row]
    if missing:
        known = ", ".join(row)
        raise typer.BadParameter(f"{path} has no column {missing[0]}; it has: {known}", param_hint="--reference-column")
    return {name: row[name] for name in columns}
