"""Where inputs and outputs may be, and what their names say about what is in them."""

import re
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.batch.domain.job import Compression, Format
from services.batch.domain.patterns import has_wildcard, matcher
from services.common.errors import MeshError, Reason, invalid
from services.common.names import is_bucket

_FORMATS = {
    ".parquet": Format.PARQUET,
    ".pq": Format.PARQUET,
    ".csv": Format.CSV,
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
}
_COMPRESSIONS = {".gz": Compression.GZIP, ".zst": Compression.ZSTD, ".bz2": Compression.BZ2}
_BUCKETS = ("s3", "gs")
_ALLOWED = "an absolute path, file://, s3://bucket/key or gs://bucket/key"
_URI_MAX = 4096


def in_bucket(path: str) -> bool:
    """Whether a path that `input_path` or `output_path` gave is in a bucket."""
    return not path.startswith("/")


def bucket_key(path: str) -> tuple[str, str, str]:
    """Scheme, bucket and key of such a path. A folder's key ends with "/" or is empty."""
    scheme, _, rest = path.partition("://")
    bucket, _, key = rest.partition("/")
    return scheme, bucket, key


def input_path(uri: str, field: str) -> str:
    """What an input's URI names: a file, a folder or a pattern. Raises INVALID_FIELD."""
    path = _path(uri, field)
    if not in_bucket(path):
        path = _plain(path) + ("/" if path.endswith("/") and path != "/" else "")
    if has_wildcard(path):
        try:
            matcher(path)
        except re.error:
            raise invalid(field, uri, "a pattern of *, **, ? and [a-z]") from None
    return path


def output_path(uri: str, field: str) -> str:
    """The one file that an output's URI names. Raises INVALID_FIELD."""
    path = _path(uri, field)
    if path.endswith("/") or has_wildcard(path):
        raise invalid(field, uri, f"{_ALLOWED}, of one file without any of *, ? and [")
    return path if in_bucket(path) else _plain(path)


def source_path(uri: str, field: str) -> str:
    """The one file that a feature source's URI names. Raises INVALID_FIELD, or NOT_IMPLEMENTED for a pattern."""
    path = _path(uri, field)
    if path.endswith("/"):
        raise invalid(field, uri, f"{_ALLOWED}, of one file")
    if has_wildcard(path):
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            f"{field} is {uri!r}: a feature source is one file, and a name with *, ? or [ stands for several; join "
            "them into one, or name them as several sources of different features",
        )
    return path if in_bucket(path) else _plain(path)


def named_format(path: str) -> Format | None:
    """The format that a name's ending says, before that of a compression."""
    endings = _endings(path)
    return _FORMATS.get(endings[-1]) if endings else None


def named_compression(path: str) -> Compression:
    """The compression that a name's ending says."""
    name = PurePosixPath(path).suffix.lower()
    return _COMPRESSIONS.get(name, Compression.NONE)


def format_of(path: str, asked: str, field: str, uri_field: str) -> Format:
    """The format that was asked for, else the one that the ending says."""
    found = checked_format(asked, field) or named_format(path)
    if found is None:
        raise invalid(uri_field, path, f"a name that ends with one of {', '.join(_FORMATS)}, or else set {field}")
    return found


def input_format_of(path: str, asked: str, field: str, uri_field: str) -> Format | None:
    """The same of an input. None where only its files can say it: for a folder, or a name without ending."""
    if not asked and named_format(path) is None and (path.endswith("/") or not _endings(path)):
        return None
    return format_of(path, asked, field, uri_field)


def checked_format(asked: str, field: str) -> Format | None:
    """The format of that name; None for an empty one."""
    if asked and asked not in tuple(Format):
        raise invalid(field, asked, "one of " + ", ".join(Format))
    return Format(asked) if asked else None


def checked_compression(asked: str, kind: Format | None, field: str) -> Compression | None:
    """The compression of that name, which fits the format; None for an empty one."""
    if asked and asked not in tuple(Compression):
        raise invalid(field, asked, "one of " + ", ".join(Compression))
    found = Compression(asked) if asked else None
    if kind is Format.PARQUET and found not in (None, Compression.NONE):
        raise invalid(field, asked, "none; Parquet compresses inside")
    return found


def _endings(path: str) -> list[str]:
    endings = [ending.lower() for ending in PurePosixPath(path).suffixes]
    return endings[:-1] if endings and endings[-1] in _COMPRESSIONS else endings


def _path(uri: str, field: str) -> str:
    if not uri:
        raise invalid(field, uri, f"{_ALLOWED}; it is required")
    if len(uri) > _URI_MAX or "\0" in uri:
        raise invalid(field, uri, f"{_ALLOWED} of at most {_URI_MAX} characters")
    if "://" not in uri:
        path = uri
    else:
        scheme, _, rest = uri.partition("://")
        if scheme.lower() in _BUCKETS:
            return _in_bucket(scheme.lower(), rest, uri, field)
        parts = urlsplit(uri.replace("?", "%3F"))
        if parts.scheme != "file" or parts.netloc not in ("", "localhost") or parts.fragment:
            raise invalid(field, uri, f"{_ALLOWED} such as file:///data/rows.parquet")
        path = unquote(parts.path)
    if not path.startswith("/") or "\0" in path:
        raise invalid(field, uri, _ALLOWED)
    return path


def _in_bucket(scheme: str, rest: str, uri: str, field: str) -> str:
    """Keys are taken as they are: "#" and "%" are letters in them."""
    bucket, slash, key = rest.partition("/")
    folder = key.endswith("/") or not key
    parts = key.removesuffix("/").split("/") if key else []
    if not is_bucket(bucket) or not slash or any(part in ("", ".", "..") for part in parts):
        raise invalid(
            field,
            uri,
            f"{scheme}://bucket/key, a bucket of 3 to 63 lower-case characters, and a key without empty parts",
        )
    return f"{scheme}://{bucket}/" + "/".join(parts) + ("/" if folder and parts else "")


def _plain(path: str) -> str:
    return str(PurePosixPath(path))
