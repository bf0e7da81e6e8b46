"""Where inputs and outputs may be, and what their names say about their format."""

from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.batch.domain.job import Format
from services.common.errors import MeshError, Reason, invalid

_ENDINGS = {
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
_COMPRESSIONS = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}
_OBJECT_STORES = ("s3", "gs")
_ALLOWED = "an absolute path or a file:// URI"
_URI_MAX = 4096


def local_path(uri: str, field: str) -> str:
    """The absolute path that a URI names. Raises INVALID_FIELD, or NOT_IMPLEMENTED for an object store."""
    if not uri:
        raise invalid(field, uri, f"{_ALLOWED}; it is required")
    if len(uri) > _URI_MAX or "\0" in uri:
        raise invalid(field, uri, f"{_ALLOWED} of at most {_URI_MAX} characters")
    if "://" not in uri:
        path = uri
    else:
        parts = urlsplit(uri)
        if parts.scheme in _OBJECT_STORES:
            raise MeshError(
                Reason.NOT_IMPLEMENTED,
                f"{field} is {uri!r}: batch jobs do not reach {parts.scheme}:// yet; copy the file to a local path",
            )
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.query or parts.fragment:
            raise invalid(field, uri, f"{_ALLOWED} such as file:///data/rows.parquet")
        path = unquote(parts.path)
    if not path.startswith("/") or path.endswith("/"):
        raise invalid(field, uri, f"{_ALLOWED} of one file")
    if any(character in path for character in "*?["):
        raise MeshError(
            Reason.NOT_IMPLEMENTED, f"{field} is {uri!r}: patterns are not understood yet; make one job for each file"
        )
    return str(PurePosixPath(path))


def format_of(path: str, asked: str, field: str, uri_field: str) -> Format:
    """The format that was asked for, else the one that the ending says."""
    endings = [ending.lower() for ending in PurePosixPath(path).suffixes]
    if endings and endings[-1] in _COMPRESSIONS:
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            f"{uri_field} is {path!r}: {_COMPRESSIONS[endings[-1]]} is not read or written yet; use the file without "
            "compression, or Parquet, which compresses inside",
        )
    if asked:
        if asked not in tuple(Format):
            raise invalid(field, asked, "one of " + ", ".join(Format))
        return Format(asked)
    if not endings or endings[-1] not in _ENDINGS:
        raise invalid(uri_field, path, f"a name that ends with one of {', '.join(_ENDINGS)}, or else set {field}")
    return _ENDINGS[endings[-1]]
