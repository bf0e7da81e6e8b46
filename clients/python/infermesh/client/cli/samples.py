"""Reference samples as people have them: rows of their training data in a JSON, JSON Lines, CSV or Parquet file."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import typer
from infermesh.client.cli.instances import Instance
from infermesh.client.cli.row_files import read_rows

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
    instances = [_only(row, columns, path) for row in read_rows(path, option=_OPTION, limit=_READ_MAX)]
    count = len(instances)
    spread = [instances[place * count // ROWS_MAX] for place in range(ROWS_MAX)] if count > ROWS_MAX else instances
    return Sample(spread, count)


def _only(row: Instance, columns: Sequence[str], path: Path) -> Instance:
    if not columns:
        return row
    missing = [name for name in columns if name not in row]
    if missing:
        known = ", ".join(row)
        raise typer.BadParameter(f"{path} has no column {missing[0]}; it has: {known}", param_hint="--reference-column")
    return {name: row[name] for name in columns}
