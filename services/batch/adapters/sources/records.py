"""Finds where the records of a text file begin, without parsing them.

A record ends at a line end; in CSV not at one inside quotes, which is known from whether the number of quotes before it
is even (a doubled quote counts twice and changes nothing). Empty lines are no records. The file is read once, in
blocks, so that its size does not matter.
"""

from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from services.batch.domain.chunks import Chunk

_BLOCK_BYTES = 4 * 1024 * 1024
_LINE_END = 10
_RETURN = 13
_QUOTE = 34
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"

Ints = npt.NDArray[np.int64]


class RecordError(Exception):
    """A record cannot be told from the next. `start` is the byte at which it begins."""

    def __init__(self, start: int, why: str) -> None:
        super().__init__(start, why)
        self.start = start
        self.why = why


def text_start(file: BinaryIO) -> int:
    """The byte at which the text begins: after a byte order mark, where there is one."""
    file.seek(0)
    return len(_BYTE_ORDER_MARK) if file.read(len(_BYTE_ORDER_MARK)) == _BYTE_ORDER_MARK else 0


def line_at(file: BinaryIO, byte: int) -> int:
    """The number of the line, counted from 1 as editors do, that holds a byte."""
    line, left = 1, byte
    file.seek(0)
    while left and (block := file.read(min(_BLOCK_BYTES, left))):
        line += block.count(b"\n")
        left -= len(block)
    return line


def record_spans(
    file: BinaryIO, *, start: int, quoted: bool, length_max: int, block_bytes: int = _BLOCK_BYTES
) -> Iterator[tuple[Ints, Ints]]:
    """Starts and stops of the records from byte `start` on, block by block. A stop is after the line end."""
    position, begin, odd = start, start, 0
    last_byte_return = False
    file.seek(start)
    while block := file.read(block_bytes):
        data = np.frombuffer(block, dtype=np.uint8)
        ends = np.flatnonzero(data == _LINE_END)
        if quoted:
            quotes = np.flatnonzero(data == _QUOTE)
            before = np.searchsorted(quotes, ends) + odd
            ends = ends[before % 2 == 0]
            odd = (odd + len(quotes)) % 2
        if len(ends):
            stops = ends.astype(np.int64) + position + 1
            starts = np.concatenate([np.array([begin], dtype=np.int64), stops[:-1]])
            returns = np.where(ends > 0, data[ends - 1] == _RETURN, last_byte_return)
            empty = (stops - starts) == np.where(returns, 2, 1)
            begin = int(stops[-1])
            yield _bounded(starts[~empty], stops[~empty], length_max, quoted=quoted)
        last_byte_return = bool(data[-1] == _RETURN)
        position += len(block)
        if position - begin > length_max:
            raise _too_long(begin, length_max, quoted=quoted)
    if odd:
        raise RecordError(begin, "has a quote that is not closed")
    if position - begin > int(last_byte_return):
        yield np.array([begin], dtype=np.int64), np.array([position], dtype=np.int64)


def _bounded(starts: Ints, stops: Ints, length_max: int, *, quoted: bool) -> tuple[Ints, Ints]:
    long = np.flatnonzero(stops - starts > length_max)
    if len(long):
        raise _too_long(int(starts[long[0]]), length_max, quoted=quoted)
    return starts, stops


def _too_long(start: int, length_max: int, *, quoted: bool) -> RecordError:
    cause = "look for a quote that is not closed" if quoted else "look for a line end that is missing"
    return RecordError(start, f"begins a row of more than {length_max} bytes; {cause}")


def cut_records(
    spans: Iterator[tuple[Ints, Ints]], *, rows: int, bytes_max: int, chunks_max: int = 0
) -> tuple[Chunk, ...]:
    """Chunks of at most `rows` records and, unless a single record is larger, `bytes_max` bytes. Only the first
    `chunks_max` where that is not 0."""
    chunks: list[Chunk] = []
    first_row = row = 0
    chunk_start, chunk_stop = -1, -1

    def close() -> None:
        nonlocal first_row, chunk_start
        if row > first_row:
            chunks.append(Chunk(len(chunks), first_row, row - first_row, chunk_start, chunk_stop))
        first_row, chunk_start = row, -1

    for starts, stops in spans:
        at = 0
        while at < len(starts):
            if chunks_max and len(chunks) >= chunks_max:
                return tuple(chunks)
            if chunk_start < 0:
                chunk_start = int(starts[at])
            room = rows - (row - first_row)
            upto = min(at + room, int(np.searchsorted(stops, chunk_start + bytes_max, side="right")))
            if upto <= at and row > first_row:
                close()
                continue
            upto = max(upto, at + 1)
            row += upto - at
            chunk_stop = int(stops[upto - 1])
            at = upto
            if row - first_row >= rows:
                close()
    close()
    return tuple(chunks)
