"""Where an artifact is, as a caller may write it."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.common.errors import invalid
from services.common.names import is_bucket

DIGEST = re.compile(r"[0-9a-f]{64}")
_ALLOWED = (
    "an absolute path, file:///…, s3://bucket/key or gs://bucket/key of a file or folder that the registry can read, "
    "or artifact://sha256/<digest>"
)
_LENGTH_MAX = 2048
_BUCKETS = ("s3", "gs")


@dataclass(frozen=True, slots=True)
class ArtifactPlace:
    """An absolute path on the registry's host, or the digest of an artifact that is kept already, or a file or folder
    of a bucket."""

    path: str = ""
    digest: str = ""
    scheme: str = ""
    """"s3" or "gs"."""
    bucket: str = ""
    key: str = ""
    """Of the object, or of all that is below it."""

    def __str__(self) -> str:
        if self.bucket:
            return f"{self.scheme}://{self.bucket}/{self.key}"
        return self.path or f"artifact://sha256/{self.digest}"


def parse_artifact_uri(uri: str, field: str = "artifact_uri") -> ArtifactPlace:
    """Reads a URI. Raises INVALID_FIELD."""
    if not uri:
        raise invalid(field, uri, f"{_ALLOWED}; it is required")
    if "\0" in uri or len(uri) > _LENGTH_MAX:
        raise invalid(field, uri, f"{_ALLOWED}, of at most {_LENGTH_MAX} characters")
    if uri.startswith("/"):
        return ArtifactPlace(path=_normal(uri))
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise invalid(field, uri, _ALLOWED) from None
    scheme = parts.scheme.lower()
    if scheme in _BUCKETS:
        return _in_bucket(scheme, uri, field)
    if scheme == "file" and parts.netloc in ("", "localhost") and not (parts.query or parts.fragment):
        path = unquote(parts.path)
        if path.startswith("/") and "\0" not in path:
            return ArtifactPlace(path=_normal(path))
    if scheme == "artifact" and parts.netloc == "sha256" and DIGEST.fullmatch(parts.path[1:]):
        return ArtifactPlace(digest=parts.path[1:])
    raise invalid(field, uri, _ALLOWED)


def filename_of(place: ArtifactPlace) -> str:
    """The name that an artifact has where it is taken from; empty for one that is kept already."""
    return PurePosixPath(place.path or place.key).name


def is_within(place: str, folders: Sequence[str]) -> bool:
    """Whether a path or URI is one of the folders or lies below one: "/srv/models-old" is not within "/srv/models"."""
    return any(f"{place}/".startswith(f"{folder.rstrip('/')}/") for folder in folders)


def _in_bucket(scheme: str, uri: str, field: str) -> ArtifactPlace:
    """Keys are taken as they are: "?", "#" and "%" are letters in them."""
    bucket, _, key = uri[len(scheme) + 3 :].partition("/")
    key = key.rstrip("/")
    if not is_bucket(bucket) or not key or any(part in ("", ".", "..") for part in key.split("/")):
        raise invalid(
            field,
            uri,
            f"{scheme}://bucket/key, a bucket of 3 to 63 lower-case characters, and a key without empty parts",
        )
    return ArtifactPlace(scheme=scheme, bucket=bucket, key=key)


def _normal(path: str) -> str:
    return str(PurePosixPath(path))
