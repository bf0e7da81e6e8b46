"""An input of one file or of many, which come one after another by their names.

A chunk lies in one file. The rows of all files are numbered through; the plan says with which chunk and row each file
begins, so that whoever has a chunk finds its file without looking at the others.
"""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Protocol

import pyarrow as pa

from services.batch.adapters.objects import changed
from services.batch.adapters.sources.blobs import Blob
from services.batch.adapters.sources.csv import CsvSource
from services.batch.adapters.sources.jsonl import JsonlSource
from services.batch.adapters.sources.listing import Found
from services.batch.adapters.sources.parquet import ParquetSource
from services.batch.adapters.sources.problems import NoRowsError, unreadable
from services.batch.domain.chunks import Chunk, Plan, PlannedFile
from services.batch.domain.job import Format, Input
from services.batch.domain.keys import FileKeys
from services.batch.domain.rows import RowBlock
from services.common.errors import shown

LOOKED_AT = 16
"""Files whose columns are compared before a job is made; all are when it is cut."""


class FileSource(Protocol):
    """One file of an input. As a `Source`, whose rows begin with 0 and whose plan has the file's own mark."""

    def columns(self) -> tuple[str, ...]:
        """Its columns. Raises NoRowsError."""
        ...

    def types(self) -> tuple[pa.DataType, ...]:
        """The columns' types; empty where the format has none."""
        ...

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:
        """Its chunks. Raises NoRowsError."""
        ...

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """The rows of its chunks."""
        ...


_SOURCES: Mapping[Format, Callable[[Input, Blob], FileSource]] = {
    Format.PARQUET: ParquetSource,
    Format.CSV: CsvSource,
    Format.JSONL: JsonlSource,
}


@dataclass(frozen=True, slots=True)
class _Shape:
    """What a file's rows look like."""

    path: str
    columns: tuple[str, ...]
    types: tuple[pa.DataType, ...]


class _Typed:
    """Files that all have the same columns. Raises INPUT_UNREADABLE naming two that have not."""

    def __init__(self, wish: Input) -> None:
        self._wish = wish
        self._first: _Shape | None = None

    @property
    def some(self) -> bool:
        """Whether there is a file with rows."""
        return self._first is not None

    def add(self, other: _Shape) -> None:
        """Holds a file to the first."""
        first = self._first = self._first or other
        if first.columns != other.columns:
            different = sorted(set(first.columns) ^ set(other.columns)) or [
                name for name, expected in zip(other.columns, first.columns, strict=True) if name != expected
            ]
            raise unreadable(
                self._wish,
                f"{first.path!r} and {other.path!r} have different columns ({shown(different)}); files of one input "
                "have the same columns in the same order",
            )
        # Text has no types.
        for name, kind, expected in zip(first.columns, other.types, first.types, strict=False):
            if kind != expected:
                raise unreadable(
                    self._wish,
                    f"column {name!r} is {expected} in {first.path!r} and {kind} in {other.path!r}; write both with "
                    "one type",
                )

    def columns(self, key: str = "") -> tuple[str, ...]:  # noqa: ARG002 - all have it, or none
        """Those of the first."""
        return self._first.columns if self._first is not None else ()


class _Keyed:
    """Files of lines that have the keys that they have. Raises INPUT_UNREADABLE naming two of which one lacks what is
    needed."""

    def __init__(self, wish: Input) -> None:
        self._wish = wish
        self._keys = FileKeys(wish.named)
        self.some = False
        """Whether there is a file with rows."""

    def add(self, other: _Shape) -> None:
        """Adds a file."""
        self.some = True
        self._keys.add(other.path, other.columns)

    def columns(self, key: str = "") -> tuple[str, ...]:
        """Those of all; every file has `key` and what else is needed."""
        gap = self._keys.gap((key,))
        if gap is not None:
            raise unreadable(
                self._wish,
                f"{gap.having!r} has {gap.column!r} and {gap.lacking!r} has not, in its first rows; a feature or key "
                "that one file has all of them need",
            )
        return self._keys.columns


class FilesSource:
    """A `Source`. `find` looks again for the files."""

    def __init__(self, wish: Input, found: Found, find: Callable[[], Found]) -> None:
        self._wish = wish
        self._found = found
        self._find = find
        self._first: _Shape | None = None

    def columns(self) -> tuple[str, ...]:
        """Those of the first files with rows, which have the same or, of lines of JSON, what is needed."""
        alike = self._alike()
        for place, blob in enumerate(self._found.blobs):
            if alike.some and place >= LOOKED_AT:
                break
            opened = self._opened(blob)
            try:
                shape = _Shape(blob.path, opened.columns(), opened.types())
                alike.add(shape)
                self._first = self._first or shape
            except NoRowsError:
                if not self._found.many:
                    raise
        if not alike.some:
            raise self._no_rows()
        return alike.columns()

    def types(self) -> Mapping[str, pa.DataType]:
        """Those of the first file with rows."""
        if self._first is None:
            self.columns()
        first = self._first
        # Text has no types.
        return dict(zip(first.columns, first.types, strict=False)) if first is not None else {}

    def fingerprint(self) -> str:
        """That of the file, or of all files with their names, as they are now."""
        return _fingerprint(self._find())

    def cut(self, rows: int, *, bytes_max: int, key_column: str, chunks_max: int = 0) -> Plan:
        """The chunks of all files, numbered through."""
        alike = self._alike()
        plan: Plan | None = None
        chunks: list[Chunk] = []
        files: list[PlannedFile] = []
        row = 0
        for blob in self._found.blobs:
            left = chunks_max - len(chunks) if chunks_max else 0
            if chunks_max and left <= 0:
                break
            opened = self._opened(blob)
            try:
                own = opened.cut(rows, bytes_max=bytes_max, key_column=key_column, chunks_max=left)
            except NoRowsError:
                if self._found.many:
                    continue
                raise
            alike.add(_Shape(blob.path, own.columns, opened.types()))
            plan = plan or own
            files.append(PlannedFile(blob.path, blob.mark, len(chunks), row))
            chunks += [
                replace(chunk, index=len(chunks) + place, first_row=row + chunk.first_row)
                for place, chunk in enumerate(own.chunks)
            ]
            row = chunks[-1].first_row + chunks[-1].row_count
        if plan is None:
            raise self._no_rows()
        # The marks are those of what was cut: a change while it was cut shows in the next look.
        return replace(
            plan,
            fingerprint=_fingerprint(self._found),
            columns=alike.columns(key_column),
            chunks=tuple(chunks),
            files=tuple(files) if self._found.many else (),
        )

    def read(self, chunks: Sequence[Chunk], columns: Sequence[str], plan: Plan) -> Iterator[RowBlock]:
        """One block for each chunk, in order, with the file that it is from where there are many."""
        if not plan.files:
            yield from self._opened(self._found.blobs[0]).read(chunks, columns, plan)
            return
        begins = [file.first_chunk for file in plan.files]
        known = {blob.path: blob for blob in self._found.blobs}
        for place, group in groupby(chunks, key=lambda chunk: bisect_right(begins, chunk.index) - 1):
            file = plan.files[place]
            blob = known.get(file.path)
            if blob is None or blob.mark != file.mark:
                raise changed(file.path)
            own = [replace(chunk, first_row=chunk.first_row - file.first_row) for chunk in group]
            for block in self._opened(blob).read(own, columns, plan):
                yield replace(
                    block, first_row=block.first_row + file.first_row, origin=file.path, origin_row=block.first_row
                )

    def _alike(self) -> "_Typed | _Keyed":
        return _Keyed(self._wish) if self._found.format is Format.JSONL else _Typed(self._wish)

    def _no_rows(self) -> NoRowsError:
        return NoRowsError(self._wish, "none of its files has rows")

    def _opened(self, blob: Blob) -> FileSource:
        # Errors name the file that they are about.
        wish = replace(self._wish, uri=blob.path) if self._found.many else self._wish
        return _SOURCES[self._found.format](wish, blob)


def _fingerprint(found: Found) -> str:
    if not found.many:
        return found.blobs[0].mark
    digest = hashlib.sha256()
    for blob in found.blobs:
        digest.update(f"{blob.path}\0{blob.mark}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
