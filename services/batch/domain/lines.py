"""The output as JSON Lines."""

import orjson
import pyarrow as pa

_STEP_ROWS = 2_000
AS_JSON = {b"text": b"json"}
"""What a column's field says whose texts are JSON already: they are written as the values that they are."""


def json_lines(table: pa.Table) -> bytes:
    """A JSON object a line, in the order of the columns. Numbers that JSON has no words for are null."""
    ready = [field.name for field in table.schema if field.metadata == AS_JSON]
    objects = [field.name for field in table.schema if is_object(field.type)]
    pieces = []
    for batch in table.to_batches(max_chunksize=_STEP_ROWS):
        for row in batch.to_pylist():
            for name in ready:
                row[name] = orjson.Fragment(row[name])
            for name in objects:
                row[name] = None if row[name] is None else dict(row[name])
            pieces.append(orjson.dumps(row, default=json_value, option=orjson.OPT_APPEND_NEWLINE))
    return b"".join(pieces)


def is_object(kind: pa.DataType) -> bool:
    """Whether a column's values are maps from texts, which JSON has as objects."""
    return bool(pa.types.is_map(kind) and pa.types.is_string(kind.key_type))


def json_value(value: object) -> str:
    """Decimals and other exact values as they read; bytes as the text that they hold."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
