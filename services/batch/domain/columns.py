"""Columns as sources give them."""

from collections.abc import Sequence
from typing import TypeAlias

import pyarrow as pa

Column: TypeAlias = "pa.Array | list[object]"
"""An Arrow array (Parquet: typed; CSV: text) or Python values (JSON Lines)."""


def ids_of(column: Column) -> Sequence[str | None]:
    """Ids as texts: whole numbers as their decimal text. None: it is no id."""
    if not isinstance(column, list):
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_integer(column.type):
            column = column.cast(pa.string())
    values = column if isinstance(column, list) else column.to_pylist()
    return [_id(value) for value in values]


def _id(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and value else None
