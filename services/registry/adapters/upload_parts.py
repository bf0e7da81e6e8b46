"""The bytes of uploads, in the artifact store: each part is an object in frames, encrypted where artifacts are.

So an upload survives the death of the registry's host where the store does, and any registry on it can go on with it.
"""

import hashlib
import io
import secrets
from collections.abc import AsyncIterator, Callable, Sequence
from typing import ParamSpec, Protocol, TypeVar

from services.common.errors import MeshError, Reason
from services.registry.adapters.frames import BrokenFramesError, FrameReader, FrameWriter, pays
from services.registry.adapters.incoming import Encoding
from services.registry.adapters.object_store import Objects
from services.registry.domain.uploads import Part

P = ParamSpec("P")
T = TypeVar("T")
_SAMPLE_BYTES = 256 * 1024


class Threads(Protocol):
    """Who runs what blocks: the artifact store."""

    async def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Blocking work in a thread."""
        ...


class ObjectUploadParts:
    """An `UploadParts`."""

    def __init__(self, objects: Objects, *, encoding: Encoding, threads: Threads) -> None:
        self._objects = objects
        self._encoding = encoding
        self._threads = threads

    async def put(self, upload_id: str, offset_bytes: int, content: bytes) -> Part:
        """Encodes the bytes and puts them."""
        name = f"uploads/{upload_id}.{offset_bytes:020d}.{secrets.token_hex(8)}.frames"
        await self._threads.run(self._put, name, content)
        return Part(offset_bytes, len(content), name)

    async def read(self, parts: Sequence[Part]) -> AsyncIterator[bytes]:
        """One part after another."""
        for part in parts:
            yield await self._threads.run(self._read, part)

    async def remove(self, parts: Sequence[Part]) -> None:
        """Removes their objects."""
        await self._threads.run(self._objects.remove, [part.name for part in parts])

    def _put(self, name: str, content: bytes) -> None:
        made = io.BytesIO()
        compress = self._encoding.compress and pays(content[:_SAMPLE_BYTES])
        writer = FrameWriter(made, compress=compress, keys=self._encoding.keys)
        writer.write(content)
        writer.finish(hashlib.sha256(content).digest())
        self._objects.put(name, made.getvalue())

    def _read(self, part: Part) -> bytes:
        try:
            stretch = self._objects.open(part.name)
            try:
                reader = FrameReader(stretch, self._encoding.keys)
                content = b"".join(reader.frame(number) for number in range(reader.frames))
            finally:
                stretch.close()
        except (FileNotFoundError, BrokenFramesError) as error:
            raise MeshError(
                Reason.ARTIFACT_CORRUPT,
                f"the part of the upload from byte {part.offset_bytes} on is gone or damaged; begin another upload",
            ) from error
        return content
