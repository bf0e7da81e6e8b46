"""Exports of the prediction log: what may be exported to where, and how it is cut into files."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.common.errors import invalid
from services.common.names import is_bucket
from services.monitor.domain.log_search import Position

_URI_MAX = 4096
_ALLOWED = "a folder as an absolute path, file://, s3://bucket/folder or gs://bucket/folder"
_BUCKETS = ("s3", "gs")
SUCCESS = "_SUCCESS"
"""The file that is written last: whoever finds it has all."""


class Format(StrEnum):
    """How files look."""

    PARQUET = "parquet"
    BULK_JSON = "bulk_json"

    @property
    def suffix(self) -> str:
        """Of the files' names."""
        return {Format.PARQUET: "parquet", Format.BULK_JSON: "ndjson"}[self]

    @property
    def rows_max(self) -> int:
        """Of one file. Bulk requests of Elasticsearch have 100 MB at most, and rows up to 9 KB."""
        return {Format.PARQUET: 250_000, Format.BULK_JSON: 10_000}[self]


class Status(StrEnum):
    """How far an export is."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class LogExport:
    """An export."""

    export_id: str
    model: str
    start: datetime
    end: datetime
    format: Format
    output_uri: str
    created_by: str = ""
    team: str = ""
    request_id: str = ""
    status: Status = Status.PENDING
    status_message: str = ""
    row_count: int = 0

    def asks_the_same(self, other: "LogExport") -> bool:
        """Whether both were asked for by the same call."""
        mine = (self.model, self.start, self.end, self.format, self.output_uri)
        return mine == (other.model, other.start, other.end, other.format, other.output_uri)


@dataclass(frozen=True, slots=True)
class Part:
    """A file: the rows behind `after`, up to and with `last`, or to the end of the window."""

    number: int
    after: Position | None
    last: Position | None
    planned: bool
    """Whether `last` is settled: whoever goes on writes the same rows, so none is in two files."""

    def name(self, kind: Format) -> str:
        """The file's name."""
        return f"part-{self.number:05d}.{kind.suffix}"


def format_of(text: str) -> Format:
    """The format of that name. Raises INVALID_FIELD."""
    if text and text not in tuple(Format):
        raise invalid("format", text, ", ".join(Format))
    return Format(text or Format.PARQUET)


def output_folder(uri: str) -> str:
    """The folder: an absolute path, or s3:// or gs:// with bucket and prefix, without a slash at its end. Raises
    INVALID_FIELD."""
    if not uri or len(uri) > _URI_MAX or "\0" in uri:
        raise invalid("output_uri", uri, f"{_ALLOWED}, of at most {_URI_MAX} characters")
    scheme, mark, rest = uri.partition("://")
    if mark and scheme.lower() in _BUCKETS:
        bucket, _, key = rest.partition("/")
        parts = key.removesuffix("/").split("/")
        if not is_bucket(bucket) or any(part in ("", ".", "..") for part in parts):
            raise invalid("output_uri", uri, f"{scheme}://bucket/folder, without empty parts")
        return f"{scheme.lower()}://{bucket}/" + "/".join(parts)
    path = uri
    if mark:
        split = urlsplit(uri.replace("?", "%3F"))
        if split.scheme != "file" or split.netloc not in ("", "localhost") or split.fragment:
            raise invalid("output_uri", uri, _ALLOWED)
        path = unquote(split.path)
    if not path.startswith("/") or path.strip("/") == "" or ".." in path.split("/") or "\0" in path:
        raise invalid("output_uri", uri, _ALLOWED)
    return str(PurePosixPath(path))
