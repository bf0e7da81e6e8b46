"""JSON Lines: one JSON object a line. A line that is none is a failed row, not a failed job."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import orjson

from services.batch.adapters.sources.problems import fingerprint_of, unreadable
from services.batch.adapters.sources.records import RecordTooLongError, cut_records, record_spans
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.job import Input
from services.batch.domain.rows import Bad, RowBlock
from services.common.errors import Reason, shown

LINE_BYTES_MAX = 8 * 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class JsonlSource:
    """A `Source`."""

    def __init__(self, wish: Input) -> None:
        self._wish = wish
        self._path = Path(wish.path)

    def fingerprint(self) -> str:
        """The file's size and time."""
        return fingerprint_of(self._wish.path)

    def columns(self) -> tuple[str, ...]:
        """The keys of the first row."""
        return tuple(self._first())

    def cut(self, rows: int, *, bytes_max: int, key_column: str) -> Plan:
        """Byte ranges that begin and end with a line."""
        first = self._first()
        fingerprint = self.fingerprint()
        try:
            chunks = cut_records(
                self._path,
                start=self._start(),
                quoted=False,
                length_max=LINE_BYTES_MAX,
                rows=rows,
                bytes_max=bytes_max,
            )
        except RecordTooLongError as error:
            raise self._too_long(error) from None
        key = first.get(key_column)
        is_integer = isinstance(key, int) and not isinstance(key, bool)
        return Plan(fingerprint, tuple(first), is_integer, tuple(chunks))

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """One block for each chunk."""
        with self._path.open("rb") as file:
            for chunk in chunks:
                file.seek(chunk.start)
                yield self._block(file.read(chunk.stop - chunk.start), chunk, columns)

    def _block(self, data: bytes, chunk: Chunk, columns: Sequence[str]) -> RowBlock:
        lines = [line for line in data.split(b"\n") if line not in (b"", b"\r")]
        if len(lines) != chunk.row_count:
            raise unreadable(self._wish, f"it changed while it was read, near row {chunk.first_row}")
        values: dict[str, list[object]] = {name: [None] * len(lines) for name in columns}
        bad: Bad = {}
        for place, line in enumerate(lines):
            try:
                row = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                bad[place] = (Reason.MALFORMED_BODY, f"the line is no JSON: {error}")
                continue
            if not isinstance(row, dict):
                bad[place] = (Reason.MALFORMED_BODY, f"the line is {shown(row)}; expected a JSON object")
                continue
            for name, column in values.items():
                column[place] = row.get(name)
        return RowBlock(chunk.first_row, chunk.row_count, values, bad)

    def _first(self) -> dict[str, object]:
        try:
            starts, stops = next(
                (pair for pair in self._spans() if len(pair[0])),
                (None, None),
            )
        except RecordTooLongError as error:
            raise self._too_long(error) from None
        if starts is None or stops is None:
            raise unreadable(self._wish, "it has no rows")
        with self._path.open("rb") as file:
            file.seek(int(starts[0]))
            line = file.read(int(stops[0] - starts[0]))
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise unreadable(
                self._wish, f"its first line is no JSON ({error}): {shown(line.decode('utf-8', 'replace'))}"
            ) from None
        if not isinstance(row, dict):
            raise unreadable(self._wish, f"its first line is {shown(row)}; expected a JSON object on each line")
        return row

    def _spans(self) -> Iterator[tuple[object, object]]:
        return record_spans(self._path, start=self._start(), quoted=False, length_max=LINE_BYTES_MAX)

    def _start(self) -> int:
        with self._path.open("rb") as file:
            return len(_BYTE_ORDER_MARK) if file.read(3) == _BYTE_ORDER_MARK else 0

    def _too_long(self, error: RecordTooLongError) -> Exception:
        return unreadable(
            self._wish, f"the line at byte {error.start} is longer than {LINE_BYTES_MAX} bytes; is it JSON Lines?"
        )
