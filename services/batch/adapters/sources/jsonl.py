"""JSON Lines: one JSON object a line. A line that is none is a failed row, not a failed job."""

from collections.abc import Iterator, Sequence
from typing import BinaryIO

import orjson
import pyarrow as pa

from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.problems import NoRowsError, line_of, naming_lines, unreadable
from services.batch.adapters.sources.records import Ints, cut_records, record_spans, text_start
from services.batch.domain.chunks import Chunk, Plan
from services.batch.domain.job import Input
from services.batch.domain.rows import Bad, RowBlock
from services.common.errors import Reason, shown

LINE_BYTES_MAX = 8 * 1024 * 1024
_LOOKED_AT = 100
"""Rows whose keys are the columns: a feature that all of them leave out is one that the input does not have."""


class JsonlSource:
    """A `FileSource`."""

    def __init__(self, wish: Input, blob: Blob) -> None:
        self._wish = wish
        self._blob = blob

    def types(self) -> tuple[pa.DataType, ...]:
        """Each value has its own."""
        return ()

    def columns(self) -> tuple[str, ...]:
        """The keys of the first rows, in the order in which they appear."""
        return tuple(self._first())

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:
        """Byte ranges that begin and end with a line."""
        first = self._first()
        with naming_lines(self._wish, self._blob), self._blob.text() as file:
            chunks = cut_records(_spans(file), rows=rows, bytes_max=bytes_max, chunks_max=chunks_max)
        key = first.get(key_column)
        is_integer = isinstance(key, int) and not isinstance(key, bool)
        return Plan(self._blob.mark, tuple(first), is_integer, chunks)

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:  # noqa: ARG002
        """One block for each chunk."""
        with self._blob.text() as file:
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
                why = "the line is no UTF-8" if _garbled(line) else f"the line is no JSON: {error}"
                bad[place] = (Reason.MALFORMED_BODY, why)
                continue
            if not isinstance(row, dict):
                bad[place] = (Reason.MALFORMED_BODY, f"the line is {shown(row)}; expected a JSON object")
                continue
            for name, column in values.items():
                column[place] = row.get(name)
        return RowBlock(chunk.first_row, chunk.row_count, values, bad)

    def _first(self) -> dict[str, object]:
        """The first values of each key in the first rows."""
        merged: dict[str, object] = {}
        with naming_lines(self._wish, self._blob), self._blob.text() as file:
            found = next((pair for pair in _spans(file) if len(pair[0])), None)
            if found is None:
                raise NoRowsError(self._wish)
            for number, (start, stop) in enumerate(zip(*(part[:_LOOKED_AT].tolist() for part in found), strict=True)):
                file.seek(start)
                line = file.read(stop - start)
                row = _object_or_nothing(line) if number else self._row(line, start)
                for name, value in row.items():
                    merged.setdefault(name, value)
        return merged

    def _row(self, line: bytes, start: int) -> dict[str, object]:
        """A row that must be one: what does not begin with an object is probably no JSON Lines at all."""
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            place = f"line {line_of(self._blob, start)}"
            if _garbled(line):
                raise unreadable(self._wish, f"{place} is no UTF-8; save the file with that encoding") from None
            text = shown(line.decode())
            raise unreadable(
                self._wish, f"{place} is no JSON ({error}): {text}; JSON Lines have one JSON object on each line"
            ) from None
        if not isinstance(row, dict):
            raise unreadable(
                self._wish, f"line {line_of(self._blob, start)} is {shown(row)}; expected a JSON object on each line"
            )
        return row


def _spans(file: BinaryIO) -> Iterator[tuple[Ints, Ints]]:
    return record_spans(file, start=text_start(file), quoted=False, length_max=LINE_BYTES_MAX)


def _garbled(line: bytes) -> bool:
    """Whether it is no UTF-8."""
    try:
        line.decode()
    except UnicodeDecodeError:
        return True
    return False


def _object_or_nothing(line: bytes) -> dict[str, object]:
    try:
        row = orjson.loads(line)
    except orjson.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) else {}
