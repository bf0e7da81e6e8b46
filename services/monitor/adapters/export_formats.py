"""How rows of the log look in files: Parquet with typed columns, and pairs of lines as Elasticsearch's bulk API takes.

Outputs are JSON text in Parquet, because versions have different ones, and JSON in JSON.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import BinaryIO, Protocol

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from services.monitor.domain.log_exports import Format
from services.monitor.domain.log_rows import LogRow

SCHEMA = pa.schema(
    [
        pa.field("request_id", pa.string(), nullable=False),
        pa.field("model_name", pa.string(), nullable=False),
        pa.field("version", pa.string(), nullable=False),
        pa.field("deployment_name", pa.string(), nullable=False),
        pa.field("input_hash", pa.string()),
        pa.field("output", pa.string()),
        pa.field("latency_ms", pa.float64(), nullable=False),
        pa.field("error_message", pa.string()),
        pa.field("timestamp", pa.timestamp("us", tz="UTC"), nullable=False),
        pa.field("user_id", pa.string()),
        pa.field("metadata", pa.map_(pa.string(), pa.string()), nullable=False),
    ]
)
_GROUP_ROWS_MAX = 10_000
_GROUP_BYTES_MAX = 16 * 1024 * 1024


class RowWriter(Protocol):
    """Writes rows into a file."""

    def write(self, rows: Sequence[LogRow], ids: Sequence[str]) -> None:
        """Adds rows."""
        ...

    def close(self) -> None:
        """No more come. The file stays open."""
        ...


def row_writer(kind: Format, sink: BinaryIO, *, model: str) -> RowWriter:
    """The writer of a format."""
    return ParquetRows(sink) if kind is Format.PARQUET else BulkRows(sink, model=model)


class ParquetRows:
    """Row groups of up to 10,000 rows, or 16 MB of outputs."""

    def __init__(self, sink: BinaryIO) -> None:
        self._writer = pq.ParquetWriter(sink, SCHEMA, compression="zstd")
        self._held: list[LogRow] = []
        self._held_bytes = 0

    def write(self, rows: Sequence[LogRow], ids: Sequence[str]) -> None:  # noqa: ARG002 - a row has no id of its own
        """Adds rows."""
        for row in rows:
            self._held.append(row)
            self._held_bytes += len(row.output)
            if len(self._held) >= _GROUP_ROWS_MAX or self._held_bytes >= _GROUP_BYTES_MAX:
                self._write_group()

    def close(self) -> None:
        """Writes what is left, and the footer."""
        if self._held:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(_table(self._held))
        self._held, self._held_bytes = [], 0


class BulkRows:
    """Two lines a row: what to do, and the row. The row's own id makes loading a file again harmless."""

    def __init__(self, sink: BinaryIO, *, model: str) -> None:
        self._sink = sink
        self._index = f"infermesh-inference-logs-{model.lower()}"

    def write(self, rows: Sequence[LogRow], ids: Sequence[str]) -> None:
        """Adds rows."""
        lines: list[bytes] = []
        for row, row_id in zip(rows, ids, strict=True):
            lines += (orjson.dumps({"index": {"_index": self._index, "_id": row_id}}), _source(row))
        if lines:
            self._sink.write(b"\n".join(lines) + b"\n")

    def close(self) -> None:
        """Nothing is left."""


def _table(rows: Sequence[LogRow]) -> pa.Table:
    columns = {
        "request_id": [row.request_id for row in rows],
        "model_name": [row.model for row in rows],
        "version": [row.version for row in rows],
        "deployment_name": [row.deployment for row in rows],
        "input_hash": [row.input_hash or None for row in rows],
        "output": [row.output or None for row in rows],
        "latency_ms": [row.latency_ms for row in rows],
        "error_message": [row.error_message or None for row in rows],
        "timestamp": [row.time_us for row in rows],
        "user_id": [row.user_id or None for row in rows],
        "metadata": [list(row.metadata.items()) for row in rows],
    }
    return pa.Table.from_pydict(columns, schema=SCHEMA)


def _source(row: LogRow) -> bytes:
    source = {
        "request_id": row.request_id,
        "model_name": row.model,
        "version": row.version,
        "deployment_name": row.deployment,
        "input_hash": row.input_hash or None,
        "output": orjson.Fragment(row.output) if row.output else None,
        "latency_ms": row.latency_ms,
        "error_message": row.error_message or None,
        "timestamp": datetime.fromtimestamp(row.time_us // 1_000_000, UTC).replace(microsecond=row.time_us % 1_000_000),
        "user_id": row.user_id or None,
        "metadata": row.metadata,
    }
    return orjson.dumps({name: value for name, value in source.items() if value is not None})
