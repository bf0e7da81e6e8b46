"""CSV as RFC 4180 has it: quoted cells may hold separators, line ends and doubled quotes. Cells are read as text."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as pa_csv

from services.batch.adapters.sources.problems import fingerprint_of, unreadable
from services.batch.adapters.sources.records import RecordTooLongError, cut_records, record_spans
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.job import Input
from services.batch.domain.rows import Bad, RowBlock
from services.common.errors import Reason, shown

RECORD_BYTES_MAX = 8 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class CsvSource:
    """A `Source`."""

    def __init__(self, wish: Input) -> None:
        self._wish = wish
        self._path = Path(wish.path)

    def fingerprint(self) -> str:
        """The file's size and time."""
        return fingerprint_of(self._wish.path)

    def columns(self) -> tuple[str, ...]:
        """The names in the first line; f0, f1, … where there is none."""
        return self._head()[0]

    def cut(self, rows: int, *, bytes_max: int, key_column: str) -> Plan:  # noqa: ARG002 - keys are text
        """Byte ranges that begin and end with a record."""
        columns, start = self._head()
        fingerprint = self.fingerprint()
        try:
            chunks = cut_records(
                self._path,
                start=start,
                quoted=True,
                length_max=RECORD_BYTES_MAX,
                rows=rows,
                bytes_max=bytes_max,
            )
        except RecordTooLongError as error:
            raise self._too_long(error) from None
        return Plan(fingerprint, columns, False, tuple(chunks))

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """One block for each chunk."""
        with self._path.open("rb") as file:
            for chunk in chunks:
                file.seek(chunk.start)
                yield self._block(file.read(chunk.stop - chunk.start), chunk, columns, plan.columns)

    def _block(self, data: bytes, chunk: Chunk, wanted: Sequence[str], columns: Sequence[str]) -> RowBlock:
        ragged: dict[int, tuple[int, int]] = {}

        def on_ragged(row: pa_csv.InvalidRow) -> str:
            ragged[row.number - 1] = (row.expected_columns, row.actual_columns)
            return "skip"

        try:
            table = self._parse(data, columns, on_ragged)
        except pa.ArrowInvalid as error:
            raise unreadable(self._wish, f"{error}, in the rows from {chunk.first_row} on") from None
        if table.num_rows + len(ragged) != chunk.row_count:
            raise unreadable(
                self._wish,
                f"the {chunk.row_count} rows from {chunk.first_row} on do not parse; look for a quote that is not closed",
            )
        if not ragged:
            return RowBlock(chunk.first_row, chunk.row_count, {name: _whole(table, name) for name in wanted})
        # Ragged rows come back as rows without values, so that the others keep their numbers.
        places, at = [], 0
        for place in range(chunk.row_count):
            places.append(None if place in ragged else at)
            at += place not in ragged
        spread = table.take(pa.array(places, type=pa.int64()))
        bad: Bad = {
            place: (Reason.MALFORMED_BODY, f"the row has {actual} columns; expected {expected}")
            for place, (expected, actual) in ragged.items()
        }
        return RowBlock(chunk.first_row, chunk.row_count, {name: _whole(spread, name) for name in wanted}, bad)

    def _parse(self, data: bytes, columns: Sequence[str], on_ragged: object) -> pa.Table:
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
                column_types={name: pa.string() for name in columns}, strings_can_be_null=False
            ),
        )

    def _head(self) -> tuple[tuple[str, ...], int]:
        """The columns, and the byte at which the rows begin."""
        with self._path.open("rb") as file:
            start = len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0
        try:
            spans = record_spans(self._path, start=start, quoted=True, length_max=RECORD_BYTES_MAX)
            found = next((pair for pair in spans if len(pair[0])), None)
        except RecordTooLongError as error:
            raise self._too_long(error) from None
        if found is None:
            raise unreadable(self._wish, "it has no rows")
        first, stop = int(found[0][0]), int(found[1][0])
        with self._path.open("rb") as file:
            file.seek(first)
            line = file.read(stop - first)
        names = self._cells(line)
        if not self._wish.header:
            return tuple(f"f{place}" for place in range(len(names))), first
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise unreadable(self._wish, f"its first line names {shown(doubled)} twice; columns need different names")
        return names, stop

    def _cells(self, line: bytes) -> tuple[str, ...]:
        options = pa_csv.ReadOptions(autogenerate_column_names=True, block_size=len(line) + 1)
        parse = pa_csv.ParseOptions(delimiter=self._wish.delimiter, newlines_in_values=True)
        strings = pa_csv.ConvertOptions(column_types={}, strings_can_be_null=False)
        try:
            table = pa_csv.read_csv(
                pa.BufferReader(line), read_options=options, parse_options=parse, convert_options=strings
            )
        except pa.ArrowInvalid as error:
            raise unreadable(self._wish, f"its first line does not parse: {error}") from None
        text = table.cast(pa.schema([(name, pa.string()) for name in table.column_names]))
        return tuple(column[0].as_py() or "" for column in text.columns)

    def _too_long(self, error: RecordTooLongError) -> Exception:
        return unreadable(
            self._wish,
            f"the row at byte {error.start} is longer than {RECORD_BYTES_MAX} bytes; look for a quote that is not closed",
        )


def _whole(table: pa.Table, name: str) -> pa.Array:
    return table.column(name).combine_chunks()
