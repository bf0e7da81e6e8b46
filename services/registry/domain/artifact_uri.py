"""Where an artifact is, as a caller may write it."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from services.common.errors import MeshError, Reason, invalid

DIGEST = re.compile(r"[0-9a-f]{64}")
_ALLOWED = "an absolute path or a file:// URI that the registry can read, or artifact://sha256/<digest>"
_LENGTH_MAX = 2048
_LATER = ("s3", "gs")


@dataclass(frozen=True, slots=True)
class ArtifactPlace:
    """Either an absolute path on the registry's host, or the digest of an artifact that is kept already."""

    path: str = ""
    digest: str = ""


def parse_artifact_uri(uri: str, field: str = "artifact_uri") -> ArtifactPlace:
    """Reads a URI. Raises INVALID_FIELD, or NOT_IMPLEMENTED for stores that cannot be read yet."""
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
    if scheme in _LATER:
        raise MeshError(
            Reason.NOT_IMPLEMENTED,
            f"{field} is {uri!r}; {scheme}:// cannot be read yet: fetch the artifact to the registry's host and give "
            "its path",
        )
    if scheme == "file" and parts.netloc in ("", "localhost") and not (parts.query or parts.fragment):
        path = unquote(parts.path)
        if path.startswith("/") and "\0" not in path:
            return ArtifactPlace(path=_normal(path))
    if scheme == "artifact" and parts.netloc == "sha256" and DIGEST.fullmatch(parts.path[1:]):
        return ArtifactPlace(digest=parts.path[1:])
    raise invalid(field, uri, _ALLOWED)


def filename_of(place: ArtifactPlace) -> str:
    """The name that an artifact has where it is taken from; empty for one that is kept already."""
    return PurePosixPath(place.path).name


def _normal(path: str) -> str:
    return str(PurePosixPath(path))
