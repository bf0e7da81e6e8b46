"""What is recorded of artifacts, how their objects are named, and what kind of artifact bytes are."""

import secrets
from dataclasses import dataclass
from datetime import datetime

from services.common.errors import MeshError, Reason
from services.registry.domain.artifact_uri import DIGEST

FOLDER = "sha256"
_FRAMES = ".frames"
_GZIP = b"\x1f\x8b"
_TAR_GZ = (".tar.gz", ".tgz")
_TAR = ".tar"


@dataclass(frozen=True, slots=True)
class Record:
    """An artifact that is kept: `name` is that of its object in the store."""

    digest: str
    kind: str
    filename: str
    """The name under which it first came; empty: none."""
    size_bytes: int
    stored_bytes: int
    name: str
    created_at: datetime | None = None
    """None: it is not recorded yet."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends artifacts or asks for them."""

    team: str = ""
    """Whose they are then; empty: an operator's, the mesh's, or anybody's while authentication is off."""
    actor: str = ""
    """The user or the key."""
    viewer: str = ""
    """Whose eyes look, as `domain.access.viewer_of` has it; empty: they see all."""
    owns: bool = True
    """Whether what comes is the team's to read from then on. Who only names a place has not shown that they may."""


MESH = Sender()
"""The mesh itself."""


def no_artifact(digest: str) -> MeshError:
    """The one answer for an artifact that is not kept and for one that the caller may not know of."""
    return MeshError(
        Reason.ARTIFACT_NOT_FOUND,
        f"no artifact {digest} is kept; send it by UploadArtifact, or register the version from where it is",
        metadata={"artifact_digest": digest},
    )


def plain_name(digest: str) -> str:
    """The object of an artifact that lies as it was sent."""
    return f"{FOLDER}/{digest[:2]}/{digest}"


def framed_name(digest: str) -> str:
    """A name for an artifact in frames. No two are the same, so removing one can never remove what was put anew."""
    return f"{plain_name(digest)}.{secrets.token_hex(8)}{_FRAMES}"


def is_plain(name: str) -> bool:
    """Whether the object has the bytes as they were sent."""
    return not name.endswith(_FRAMES)


def digest_in(name: str) -> str:
    """The digest of the artifact whose object has that name; empty: it is none of an artifact."""
    digest = name.rsplit("/", 1)[-1].split(".", 1)[0]
    return digest if DIGEST.fullmatch(digest) and (not is_plain(name) or name == plain_name(digest)) else ""


def kind_of(begins: bytes, filename: str, *, folder: bool = False) -> str:
    """How an artifact that begins so is packed: "file", "directory" or "tar.gz".

    A tar that is not compressed is what folders become; who sends one by that name sends a folder.
    """
    if folder or (filename.endswith(_TAR) and begins[257:262] == b"ustar"):
        return "directory"
    return "tar.gz" if begins[:2] == _GZIP and (not filename or filename.endswith(_TAR_GZ)) else "file"
