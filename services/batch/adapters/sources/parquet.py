"""Parquet: columns are typed, rows are counted in the footer, row groups are read one after another in small steps."""

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.problems import NoRowsError, unreadable
from services.batch.domain.chunks import Chunk, Plan, cut_rows
from services.batch.domain.job import Input
from services.batch.domain.rows import RowBlock
from services.common.errors import shown

_STEP_ROWS = 4096
_GROUP_BYTES_MAX = 32 * 1024 * 1024
"""Of a row group that is fetched in few large ranges; of larger ones each column is read in steps."""
_STEP_BYTES = 512 * 1024


class ParquetSource:
    """A `FileSource`. Raises INPUT_UNREADABLE where the file is no Parquet or cut off."""

    def __init__(self, wish: Input, blob: Blob) -> None:
        self._wish = wish
        self._blob = blob
        try:
            with blob.open() as raw, pq.ParquetFile(raw) as file:
                self._metadata = file.metadata
                self._schema = file.schema_arrow
        except (pa.ArrowException, OSError) as error:
            raise unreadable(wish, f"it is no Parquet file, or it is cut off ({error})") from None

    def types(self) -> tuple[pa.DataType, ...]:
        """The columns' types."""
        return tuple(_plain(field.type) for field in self._schema)

    def columns(self) -> tuple[str, ...]:
        """The columns of the file's schema."""
        names = tuple(self._schema.names)
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise unreadable(self._wish, f"it has more than one column {shown(doubled)}; columns need different names")
        if self._metadata.num_rows == 0:
            raise NoRowsError(self._wish)
        return names

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:  # noqa: ARG002
        """Ranges of rows. Keys keep their type, whichever column holds them."""
        columns, total = self.columns(), self._metadata.num_rows
        size = sum(self._sizes())
        # Encoded sizes say little about the size in memory; strings and repeated values are some times larger.
        fitting = max(1, bytes_max * total // max(1, size))
        chunks = cut_rows(total, min(rows, fitting))
        return Plan(self._blob.mark, columns, key_is_integer=False, chunks=chunks[: chunks_max or None])

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:  # noqa: ARG002
        """One block for each chunk; row groups without wanted rows are not read."""
        wanted = sorted(chunks, key=lambda chunk: chunk.first_row)
        try:
            few = max(self._sizes()) <= _GROUP_BYTES_MAX
            with (
                self._blob.open() as raw,
                pq.ParquetFile(
                    raw, metadata=self._metadata, pre_buffer=few, buffer_size=0 if few else _STEP_BYTES
                ) as file,
            ):
                yield from self._blocks(file, wanted, list(columns))
        except (pa.ArrowException, OSError) as error:
            raise unreadable(self._wish, f"its data are damaged ({error})") from None

    def _sizes(self) -> list[int]:
        """Of the row groups, in bytes before compression."""
        return [self._metadata.row_group(place).total_byte_size for place in range(self._metadata.num_row_groups)]

    def _blocks(self, file: pq.ParquetFile, wanted: Sequence[Chunk], columns: list[str]) -> Iterator[RowBlock]:
        pending = list(reversed(wanted))
        held: list[pa.RecordBatch] = []
        for row, batch in self._batches(file, wanted, columns):
            first, rest = row, batch
            while pending and rest.num_rows:
                chunk = pending[-1]
                if first + rest.num_rows <= chunk.first_row:
                    break
                begin = max(0, chunk.first_row - first)
                stop = min(rest.num_rows, chunk.first_row + chunk.row_count - first)
                held.append(rest.slice(begin, stop - begin))
                if first + stop == chunk.first_row + chunk.row_count:
                    yield _block(chunk, held)
                    held = []
                    pending.pop()
                rest, first = rest.slice(stop), first + stop

    def _batches(
        self, file: pq.ParquetFile, wanted: Sequence[Chunk], columns: list[str]
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Rows in order with the number of the first, from the row groups that hold wanted ones."""
        first = 0
        for place in range(self._metadata.num_row_groups):
            stop = first + self._metadata.row_group(place).num_rows
            if any(chunk.first_row < stop and first < chunk.first_row + chunk.row_count for chunk in wanted):
                row = first
                for batch in file.iter_batches(_STEP_ROWS, row_groups=[place], columns=columns):
                    yield row, batch
                    row += batch.num_rows
            first = stop


def _block(chunk: Chunk, held: Sequence[pa.RecordBatch]) -> RowBlock:
    table = pa.Table.from_batches(held)
    return RowBlock(chunk.first_row, chunk.row_count, {name: _whole(table, name) for name in table.column_names})


def _plain(kind: pa.DataType) -> pa.DataType:
    """A column's type once its dictionary is dissolved, as `_whole` does."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _whole(table: pa.Table, name: str) -> pa.Array:
    """A column in one piece, its dictionary dissolved: parts of one output must have one type."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks)
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
