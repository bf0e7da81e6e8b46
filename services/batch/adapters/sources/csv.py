"""CSV as RFC 4180 has it: quoted cells may hold separators, line ends and doubled quotes. Cells are read as text.

A row with another number of cells than the first line, or with text that is no UTF-8, is a failed row, not a failed
job.
"""

import csv
import io
from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import pyarrow.csv as pa_csv

from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.problems import NoRowsError, line_of, naming_lines, unreadable
from services.batch.adapters.sources.records import cut_records, record_spans, text_start
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.job import Input
from services.batch.domain.rows import Bad, RowBlock
from services.common.errors import Reason, shown

RECORD_BYTES_MAX = 8 * 1024 * 1024
_OnRagged = Callable[[pa_csv.InvalidRow], str]


class CsvSource:
    """A `FileSource`."""

    def __init__(self, wish: Input, blob: Blob) -> None:
        self._wish = wish
        self._blob = blob

    def types(self) -> tuple[pa.DataType, ...]:
        """All is text."""
        return ()

    def columns(self) -> tuple[str, ...]:
        """The names in the first line; f0, f1, … where there is none."""
        columns, start = self._head()
        self._cut(start, rows=1, bytes_max=RECORD_BYTES_MAX, chunks_max=1)
        return columns

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:  # noqa: ARG002
        """Byte ranges that begin and end with a record. Keys are text, whichever column holds them."""
        columns, start = self._head()
        chunks = self._cut(start, rows=rows, bytes_max=bytes_max, chunks_max=chunks_max)
        return Plan(self._blob.mark, columns, key_is_integer=False, chunks=chunks)

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """One block for each chunk."""
        with self._blob.text() as file:
            for chunk in chunks:
                file.seek(chunk.start)
                yield self._block(file.read(chunk.stop - chunk.start), chunk, columns, plan.columns)

    def _cut(self, start: int, *, rows: int, bytes_max: int, chunks_max: int) -> tuple[Chunk, ...]:
        with naming_lines(self._wish, self._blob), self._blob.text() as file:
            spans = record_spans(file, start=start, quoted=True, length_max=RECORD_BYTES_MAX)
            chunks = cut_records(spans, rows=rows, bytes_max=bytes_max, chunks_max=chunks_max)
        if not chunks:
            raise NoRowsError(self._wish)
        return chunks

    def _block(self, data: bytes, chunk: Chunk, wanted: Sequence[str], columns: Sequence[str]) -> RowBlock:
        ragged: dict[int, tuple[int, int]] = {}

        def on_ragged(row: pa_csv.InvalidRow) -> str:
            ragged[row.number - 1] = (row.expected_columns, row.actual_columns)
            return "skip"

        try:
            table = self._parse(data, columns, on_ragged)
        except pa.ArrowInvalid as error:
            raise self._unparsed(chunk, str(error)) from None
        if table.num_rows + len(ragged) != chunk.row_count:
            raise self._unparsed(chunk, "rows and quotes do not fit together; look for a quote that is not closed")
        # Ragged rows come back as rows without values, so that the others keep their numbers.
        places, at = [], 0
        for place in range(chunk.row_count):
            places.append(None if place in ragged else at)
            at += place not in ragged
        spread = table.take(pa.array(places, type=pa.int64())) if ragged else table
        bad: Bad = {
            place: (Reason.MALFORMED_BODY, f"the row has {actual} columns; expected {expected}")
            for place, (expected, actual) in ragged.items()
        }
        return RowBlock(chunk.first_row, chunk.row_count, {name: _text(spread, name, bad) for name in wanted}, bad)

    def _parse(self, data: bytes, columns: Sequence[str], on_ragged: _OnRagged) -> pa.Table:
        return pa_csv.read_csv(
            pa.BufferReader(data),
            # One block and one thread: rows are then numbered as they stand.
            read_options=pa_csv.ReadOptions(
                column_names=list(columns), use_threads=False, block_size=min(len(data) + 1, 2**31 - 1)
            ),
            parse_options=pa_csv.ParseOptions(
                delimiter=self._wish.delimiter, newlines_in_values=True, invalid_row_handler=on_ragged
            ),
            convert_options=pa_csv.ConvertOptions(
                column_types={name: pa.binary() for name in columns}, strings_can_be_null=False
            ),
        )

    def _head(self) -> tuple[tuple[str, ...], int]:
        """The columns, and the byte at which the rows begin."""
        with naming_lines(self._wish, self._blob), self._blob.text() as file:
            spans = record_spans(file, start=text_start(file), quoted=True, length_max=RECORD_BYTES_MAX)
            found = next((pair for pair in spans if len(pair[0])), None)
            if found is None:
                raise NoRowsError(self._wish)
            first, stop = int(found[0][0]), int(found[1][0])
            file.seek(first)
            line = file.read(stop - first)
        names = self._cells(line)
        if not self._wish.header:
            return tuple(f"f{place}" for place in range(len(names))), first
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise unreadable(self._wish, f"line 1 names {shown(doubled)} more than once; columns need different names")
        return names, stop

    def _cells(self, line: bytes) -> tuple[str, ...]:
        try:
            text = line.decode()
        except UnicodeDecodeError:
            raise unreadable(self._wish, "line 1 is no UTF-8; save the file with that encoding") from None
        return tuple(next(csv.reader(io.StringIO(text, newline=""), delimiter=self._wish.delimiter)))

    def _unparsed(self, chunk: Chunk, why: str) -> Exception:
        first, last = line_of(self._blob, chunk.start), line_of(self._blob, chunk.stop)
        return unreadable(self._wish, f"lines {first} to {last} do not parse: {why}")


def _text(table: pa.Table, name: str, bad: Bad) -> pa.Array:
    """A column as text; rows whose bytes are none are added to `bad`."""
    column = table.column(name).combine_chunks()
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        texts: list[str | None] = []
        for place, value in enumerate(column.to_pylist()):
            try:
                texts.append(None if value is None else value.decode())
            except UnicodeDecodeError:
                texts.append(None)
                bad.setdefault(place, (Reason.MALFORMED_BODY, f"column {name!r} is {shown(value)}, which is no UTF-8"))
        return pa.array(texts, type=pa.string())
