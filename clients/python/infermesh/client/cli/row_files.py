"""Rows as people have them in files: JSON, JSON Lines, CSV or Parquet, by the ending of the name."""

import csv
import json
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from pathlib import Path

import typer
from infermesh.client.cli.instances import Instance, read_instances


def read_rows(path: Path, *, option: str, limit: int, texts: Collection[str] = ()) -> Sequence[Instance]:
    """The first `limit` rows of the file, at least one.

    In CSV a cell that is JSON (a number, true, a list) is that, any other is text; columns in `texts` are text always.
    Raises typer.BadParameter for `option`.
    """
    path = path.expanduser()
    try:
        rows = _rows(path, option, limit, texts)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise typer.BadParameter(f"cannot read {path}: {reason}", param_hint=option) from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text (byte {error.start})", param_hint=option) from None
    if not rows:
        raise typer.BadParameter(f"{path} has no rows", param_hint=option)
    return rows


def _rows(path: Path, option: str, limit: int, texts: Collection[str]) -> Sequence[Instance]:
    ending = path.suffix.lower()
    if ending == ".csv":
        with path.open(encoding="utf-8", newline="") as stream:
            return list(islice(_csv_rows(csv.DictReader(stream), path, option, texts), limit))
    if ending == ".parquet":
        return _parquet_rows(path, option, limit)
    return read_instances(None, path)[:limit]


def _csv_rows(reader: "csv.DictReader[str]", path: Path, option: str, texts: Collection[str]) -> Iterator[Instance]:
    for row in reader:
        if None in row or None in row.values():
            where = f"line {reader.line_num} of {path} has another number of cells than its header"
            raise typer.BadParameter(where, param_hint=option)
        yield {name: text if name in texts else _cell(text) for name, text in row.items()}


def _cell(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict) else value


def _parquet_rows(path: Path, option: str, limit: int) -> Sequence[Instance]:
    try:
        from pyarrow import ArrowInvalid, parquet  # noqa: PLC0415 - large, and few files need it
    except ImportError:
        raise typer.BadParameter(
            f"{path} is a Parquet file, which needs pyarrow: install it, or give JSON or CSV", param_hint=option
        ) from None
    try:
        with path.open("rb") as stream:
            table = parquet.read_table(stream)
    except ArrowInvalid as error:
        raise typer.BadParameter(f"{path} is no Parquet file: {error}", param_hint=option) from None
    rows: list[Instance] = table.slice(0, limit).to_pylist()
    return rows
