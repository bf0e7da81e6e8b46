"""The output as JSON Lines."""

import orjson
import pyarrow as pa

_STEP_ROWS = 2_000


def json_lines(table: pa.Table) -> bytes:
    """A JSON object a line, in the order of the columns. Numbers that JSON has no words for are null."""
    pieces = []
    for batch in table.to_batches(max_chunksize=_STEP_ROWS):
        pieces += [orjson.dumps(row, default=_text, option=orjson.OPT_APPEND_NEWLINE) for row in batch.to_pylist()]
    return b"".join(pieces)


def _text(value: object) -> str:
    """Decimals and other exact values as they read; bytes as the text that they hold."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
