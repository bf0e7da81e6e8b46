"""What uploads need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol

from services.registry.domain.artifacts import Sender
from services.registry.domain.uploads import NewUpload, Part, Upload, UploadLimits


class UploadBook(Protocol):
    """What is known of uploads. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def create(
        self, upload_id: str, new: NewUpload, *, owner: Sender, expires_at: datetime, limits: UploadLimits
    ) -> Upload:
        """Begins an upload; the same one where its owner sent the request id before.

        Raises QUOTA_EXCEEDED where the team has too many, REQUEST_ID_REUSED where the id was another wish's.
        """
        ...

    async def find(self, upload_id: str) -> Upload | None:
        """The upload of that id."""
        ...

    async def advance(self, upload: Upload, part: Part, *, expires_at: datetime, limits: UploadLimits) -> Upload | None:
        """Adds a part if the upload still ends where `upload` does and is not complete; else None.

        Raises QUOTA_EXCEEDED where the team has too many bytes under way.
        """
        ...

    async def parts(self, upload_id: str) -> Sequence[Part]:
        """Its parts in their order."""
        ...

    async def complete(self, upload: Upload, artifact_digest: str) -> Sequence[Part] | None:
        """Notes what has come of it if it still ends where `upload` does and nothing else has come of it, and returns
        the parts that are no longer needed; else None."""
        ...

    async def remove(self, upload_id: str) -> Sequence[Part]:
        """Forgets it, and returns its parts."""
        ...

    async def expired(self, now: datetime) -> Sequence[str]:
        """At most 1000 uploads that nobody went on with."""
        ...


class UploadParts(Protocol):
    """Where the bytes of uploads are. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def put(self, upload_id: str, offset_bytes: int, content: bytes) -> Part:
        """Keeps bytes, there for good when this returns, under a name that nothing else has."""
        ...

    def read(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """The bytes of the parts. Raises ARTIFACT_CORRUPT where they changed or are gone."""
        ...

    async def remove(self, parts: Sequence[Part]) -> None:
        """Takes them away; what is not there is no failure."""
        ...
