"""Uploads that can be continued: what is known of one, what bounds them, and how they are refused."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from services.common.errors import FieldViolation, MeshError, Reason, invalid, shown
from services.registry.domain.artifact_uri import DIGEST
from services.registry.domain.artifacts import Sender
from services.registry.domain.violations import Violations

EXPIRY: Final = timedelta(hours=24)
"""How long an upload waits for its next byte."""
PART_BYTES: Final = 4 * 1024 * 1024
"""How much is made durable in one step, and so how much a break can cost at most."""
PARTS_MAX: Final = 20_000
FILENAME_LENGTH_MAX: Final = 255
_REQUEST_ID_LENGTH_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class NewUpload:
    """An upload about to begin. Empty or 0: not stated."""

    filename: str = ""
    digest: str = ""
    size_bytes: float = 0
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that has begun."""

    upload_id: str
    team: str
    actor: str
    filename: str
    digest: str
    size_bytes: int
    offset_bytes: int
    """What has arrived safely."""
    expires_at: datetime
    artifact_digest: str = ""
    """What has come of it; empty: it is not complete."""


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an upload, and its object in the store."""

    offset_bytes: int
    size_bytes: int
    name: str


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How much of what is not complete a team may have."""

    uploads_max: int
    bytes_max: int


def check_new(new: NewUpload, *, bytes_max: int) -> None:
    """Raises INVALID_FIELD naming all that is wrong."""
    found = Violations()
    check_stated(found, filename=new.filename, digest=new.digest, size_bytes=new.size_bytes)
    found.at_most("request_id", new.request_id, _REQUEST_ID_LENGTH_MAX)
    found.unless(new.size_bytes <= bytes_max, "size_bytes", new.size_bytes, f"at most {bytes_max}")
    found.raise_if_any()


def check_stated(found: Violations, *, filename: str, digest: str, size_bytes: float) -> None:
    """What is wrong with what a sender says of an artifact."""
    found.at_most("filename", filename, FILENAME_LENGTH_MAX)
    found.unless("/" not in filename and filename.isprintable(), "filename", filename, "a printable name without '/'")
    found.unless(not digest or DIGEST.fullmatch(digest) is not None, "digest", digest, "64 of 0-9 and a-f")
    whole = 0 <= size_bytes < 2**53 and size_bytes == int(size_bytes)
    found.unless(whole, "size_bytes", size_bytes, "a whole number from 0; 0: not stated")


def check_offset(upload: Upload, offset_bytes: float) -> None:
    """Raises INVALID_FIELD, with the right offset in the metadata, where the bytes do not belong to the end."""
    if offset_bytes != upload.offset_bytes:
        raise wrong_offset(upload, offset_bytes)


def check_room(upload: Upload, more_bytes: int, *, bytes_max: int) -> None:
    """Raises INVALID_FIELD for more than was stated, ARTIFACT_INVALID for more than is taken."""
    after = upload.offset_bytes + more_bytes
    if upload.size_bytes and after > upload.size_bytes:
        raise invalid("body", f"{after} bytes in all", f"the {upload.size_bytes} that size_bytes stated")
    if after > bytes_max:
        raise MeshError(
            Reason.ARTIFACT_INVALID,
            f"the upload has more than the {bytes_max} bytes that an artifact may have; "
            "raise INFERMESH_REGISTRY_ARTIFACT_BYTES_MAX if it is meant to be so large",
        )


def digest_of(upload: Upload, digest: str) -> str:
    """The digest that a completed upload must have. Raises INVALID_FIELD where it is none, or not the one stated, and
    where bytes are missing."""
    if digest and DIGEST.fullmatch(digest) is None:
        raise invalid("digest", digest, "64 of 0-9 and a-f")
    if digest and upload.digest and digest != upload.digest:
        raise invalid("digest", digest, f"empty, or {upload.digest} as it was stated at the beginning")
    if upload.size_bytes and upload.offset_bytes != upload.size_bytes:
        raise wrong_offset(upload, upload.size_bytes)
    if not upload.offset_bytes:
        raise invalid("upload_id", upload.upload_id, "an upload that has at least one byte")
    return digest or upload.digest


def wrong_offset(upload: Upload, stated: float) -> MeshError:
    """The bytes do not belong to the end of what has arrived."""
    description = f"is {stated:.0f} where {upload.offset_bytes} bytes have arrived; go on from there"
    return MeshError(
        Reason.INVALID_FIELD,
        f"offset_bytes {description}",
        metadata={"offset_bytes": str(upload.offset_bytes), "upload_id": upload.upload_id},
        violations=[FieldViolation("offset_bytes", description)],
    )


def no_upload(upload_id: str) -> MeshError:
    """The one answer for an upload that is none, that is over, and that is another's."""
    return MeshError(
        Reason.UPLOAD_NOT_FOUND,
        f"there is no upload {shown(upload_id)}; it may have been given up after {EXPIRY.total_seconds() / 3600:.0f} "
        "hours without a byte: begin another by CreateUpload",
        metadata={"upload_id": upload_id[:128]},
    )


def is_owner(upload: Upload, sender: Sender) -> bool:
    """Whether the upload is the sender's own; who sees all sees it too."""
    return not sender.viewer or (upload.team == sender.team and upload.actor == sender.actor)


def too_many(what: str, limit: int) -> MeshError:
    """A team has as much under way as it may."""
    return MeshError(
        Reason.QUOTA_EXCEEDED,
        f"the team's uploads that are not complete have {what}, which is the most; complete or delete some",
        metadata={"limit": str(limit)},
        retry_after_s=60.0,
    )
