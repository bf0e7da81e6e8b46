"""How predictions look in a file: a part, and parts put together, in each format and compression.

Parts of packed text are packed each by itself, for a file of gzip, zstd or bz2 may consist of several that follow one
another. So they are packed beside each other, and putting them together copies bytes.
"""

import bz2
import gzip
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import BinaryIO, cast

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import zstandard

from services.batch.domain.chunks import FailedRow
from services.batch.domain.job import Compression, Format, Output
from services.batch.domain.lines import is_object, json_lines, json_value

_BLOCK_BYTES = 1024 * 1024
_PACK: Mapping[Compression, Callable[[bytes], bytes]] = {
    Compression.NONE: lambda text: text,
    # The same text must be the same bytes, whenever and by whom it is packed.
    Compression.GZIP: lambda text: gzip.compress(text, compresslevel=6, mtime=0),
    Compression.ZSTD: lambda text: zstandard.ZstdCompressor(level=3).compress(text),
    Compression.BZ2: bz2.compress,
}


def part_bytes(table: pa.Table, output: Output) -> bytes:
    """A part of an output."""
    sink = pa.BufferOutputStream()
    if output.format is Format.PARQUET:
        pq.write_table(table, sink, compression="zstd")
        return bytes(sink.getvalue())
    if output.format is Format.JSONL:
        return _packed(json_lines(table), output)
    options = pa_csv.WriteOptions(include_header=False, quoting_style="needed")
    pa_csv.write_csv(_flat(table), sink, options)
    return _packed(bytes(sink.getvalue()), output)


def join_parts(parts: Iterator[BinaryIO], sink: BinaryIO, output: Output, columns: Sequence[str]) -> None:
    """Puts parts together, of which there is at least one. Each is closed when it is done with."""
    if output.format is Format.PARQUET:
        _join_parquet(parts, sink)
        return
    head = _head(columns) if output.format is Format.CSV else b""
    if head:
        sink.write(_packed(head, output))
    for part in parts:
        with part:
            shutil.copyfileobj(part, sink, _BLOCK_BYTES)


def error_lines(failed: Iterable[FailedRow]) -> Iterator[bytes]:
    """The failed rows as JSON Lines."""
    for row in failed:
        entry = {
            "row_number": row.row_number,
            "key": row.key,
            "error_reason": row.reason,
            "error_message": row.message,
        }
        yield orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)


def _packed(text: bytes, output: Output) -> bytes:
    return _PACK[output.compression](text) if text else b""


def _join_parquet(parts: Iterator[BinaryIO], sink: BinaryIO) -> None:
    # The columns' types follow from the version and the input's columns, so every part has those of the first.
    writer: pq.ParquetWriter | None = None
    try:
        for part in parts:
            with part, pq.ParquetFile(part) as file:
                if writer is None:
                    writer = pq.ParquetWriter(sink, file.schema_arrow, compression="zstd")
                for place in range(file.num_row_groups):
                    writer.write_table(file.read_row_group(place))
    except BaseException:
        # What is wrong is told already; a footer that cannot be written either is no news.
        if writer is not None:
            writer.is_open = False
        raise
    assert writer is not None, "there is at least one part"
    writer.close()


def _flat(table: pa.Table) -> pa.Table:
    """What is no single value as JSON text, and what CSV has no words for as it reads: a cell holds one value."""
    for place, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            write: Callable[[object], str] = _json_object if is_object(column.type) else _json
        elif _is_wordless(column.type):
            write = json_value
        else:
            continue
        texts = [None if value is None else write(value) for value in table.column(place).to_pylist()]
        table = table.set_column(place, column.name, pa.array(texts, type=pa.string()))
    return table


def _json(value: object) -> str:
    return orjson.dumps(value, default=json_value).decode()


def _json_object(pairs: object) -> str:
    return _json(dict(cast("list[tuple[str, object]]", pairs)))


def _is_wordless(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)
    return bool(binary or pa.types.is_decimal(kind) or pa.types.is_duration(kind) or pa.types.is_interval(kind))


def _head(columns: Sequence[str]) -> bytes:
    sink = pa.BufferOutputStream()
    empty = pa.table([pa.array([], type=pa.string())] * len(columns), names=list(columns))
    pa_csv.write_csv(empty, sink, pa_csv.WriteOptions(include_header=True, quoting_style="needed"))
    return bytes(sink.getvalue())
