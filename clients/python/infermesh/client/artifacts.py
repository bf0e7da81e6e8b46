"""Artifacts: sent, fetched, looked into, cleared away. What breaks off goes on where it was."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
from google.api import httpbody_pb2
from infermesh.client.errors import InfermeshError
from infermesh.client.packing import Packed, pack
from infermesh.client.polling import OUTAGE_TIMEOUT_S
from infermesh.client.transport import Pacer, Transport, new_request_id
from infermesh.registry.v1 import artifact_pb2, artifact_service_pb2, artifact_service_pb2_grpc

SEND_TIMEOUT_S = 3600.0
"""An artifact may be of many gigabytes."""
_ONE_GO_BYTES = 8 * 1024 * 1024
"""Sending so little again costs less than asking how far it came."""
_CHUNK_BYTES = 1024 * 1024

Progress = Callable[[int, int], None]
"""Told how many bytes are through, and of how many."""


def silent(_done: int, _size: int) -> None:
    """No progress."""


class Artifacts:
    """What models are made of, by its digest."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = artifact_service_pb2_grpc.ArtifactServiceStub(transport.channel)

    def upload(
        self,
        path: str | Path,
        *,
        resume: bool = True,
        progress: Progress = silent,
        timeout_s: float = SEND_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> artifact_pb2.Artifact:
        """Sends a file, or a folder as an archive; its `artifact_uri` can be registered then.

        A connection that breaks is made anew, within `outage_timeout_s` seconds; with `resume` also what another run
        began of the same content is gone on with. Raises OSError where something cannot be read, ValueError for a
        folder that holds more than files, ARTIFACT_CORRUPT where the content changed meanwhile.
        """
        packed = pack(Path(path))
        if packed.size_bytes <= _ONE_GO_BYTES:
            sent = self._transport.send(self._stub.UploadArtifact, _whole(packed), timeout_s=timeout_s)
            progress(packed.size_bytes, packed.size_bytes)
            return sent
        request_id = _request_id(packed) if resume else new_request_id()
        try:
            return self._uploaded(packed, request_id, progress, timeout_s, outage_timeout_s)
        except InfermeshError as error:
            # What came of an earlier upload of the same content may have been cleared away since.
            if error.reason != "UPLOAD_NOT_FOUND" or not resume:
                raise
            return self._uploaded(packed, new_request_id(), progress, timeout_s, outage_timeout_s)

    def download(
        self,
        digest: str,
        path: str | Path,
        *,
        resume: bool = True,
        progress: Progress = silent,
        timeout_s: float = SEND_TIMEOUT_S,
        outage_timeout_s: float = OUTAGE_TIMEOUT_S,
    ) -> Path:
        """Fetches an artifact into a file, which is there only once it is whole and right.

        With `resume` what is in `<path>.part` is not fetched again. Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT,
        OSError.
        """
        place = Path(path)
        part = place.with_name(place.name + ".part")
        size = int(self.get(digest).size_bytes)
        seen, offset = _begun(part, size) if resume else (hashlib.sha256(), 0)
        pacer: Pacer | None = None
        with part.open("ab" if offset else "wb") as stream:
            while offset < size:
                before = offset
                try:
                    for piece in self._pieces(digest, offset, timeout_s):
                        pacer = None
                        stream.write(piece)
                        seen.update(piece)
                        offset += len(piece)
                        progress(offset, size)
                    if offset == before:
                        raise _nothing_moved(offset, size)
                except InfermeshError as error:
                    pacer = pacer or Pacer(timeout_s=outage_timeout_s)
                    if not error.is_interruption or not pacer.pause():
                        raise
        if seen.hexdigest() != digest:
            part.unlink()
            raise InfermeshError(
                f"the artifact {digest} came with SHA-256 {seen.hexdigest()}",
                code=grpc.StatusCode.DATA_LOSS,
                reason="ARTIFACT_CORRUPT",
                advice="Fetch it again; where that does not help, register it again from where it was made.",
            )
        part.replace(place)
        return place

    def get(self, digest: str, *, timeout_s: float | None = None) -> artifact_pb2.Artifact:
        """One artifact. Raises ARTIFACT_NOT_FOUND."""
        request = artifact_service_pb2.GetArtifactRequest(digest=digest)
        return self._transport.call(self._stub.GetArtifact, request, timeout_s=timeout_s)

    def inspect(
        self, artifact_uri: str, *, framework: str = "", timeout_s: float = SEND_TIMEOUT_S
    ) -> artifact_pb2.ArtifactReport:
        """What the registry sees in an artifact, without registering it. Raises ARTIFACT_NOT_FOUND."""
        request = artifact_service_pb2.InspectArtifactRequest(artifact_uri=artifact_uri, framework=framework)
        return self._transport.call(self._stub.InspectArtifact, request, timeout_s=timeout_s)

    def collect_garbage(
        self, *, dry_run: bool = False, timeout_s: float = SEND_TIMEOUT_S
    ) -> artifact_service_pb2.CollectGarbageResponse:
        """Removes artifacts that no version is made of and that nobody wanted for a day; with `dry_run` none."""
        request = artifact_service_pb2.CollectGarbageRequest(dry_run=dry_run)
        return self._transport.call(self._stub.CollectGarbage, request, timeout_s=timeout_s)

    def _uploaded(
        self, packed: Packed, request_id: str, progress: Progress, timeout_s: float, outage_timeout_s: float
    ) -> artifact_pb2.Artifact:
        create = artifact_service_pb2.CreateUploadRequest(
            filename=packed.filename, digest=packed.digest, size_bytes=packed.size_bytes, request_id=request_id
        )
        upload = self._transport.call(self._stub.CreateUpload, create)
        get = artifact_service_pb2.GetUploadRequest(upload_id=upload.upload_id)
        pacer: Pacer | None = None
        while upload.offset_bytes < packed.size_bytes:
            before = upload.offset_bytes
            try:
                requests = _appended(upload, packed, progress)
                upload = self._transport.send(self._stub.AppendUpload, requests, timeout_s=timeout_s)
                if upload.offset_bytes == before:
                    raise _nothing_moved(int(before), packed.size_bytes)
            except InfermeshError as error:
                # Another offset is what an append ends with that was overtaken by its own first try.
                if not error.is_interruption and "offset_bytes" not in error.metadata:
                    raise
                pacer = pacer or Pacer(timeout_s=outage_timeout_s)
                if not pacer.pause():
                    raise
                upload = self._found(get, pacer, error)
            if upload.offset_bytes > before:
                pacer = None
        progress(packed.size_bytes, packed.size_bytes)
        complete = artifact_service_pb2.CompleteUploadRequest(upload_id=upload.upload_id)
        return self._transport.call(self._stub.CompleteUpload, complete, timeout_s=timeout_s)

    def _found(
        self, get: artifact_service_pb2.GetUploadRequest, pacer: Pacer, broken: InfermeshError
    ) -> artifact_pb2.Upload:
        """How far the upload came, once the registry answers again."""
        while True:
            try:
                return self._transport.call(self._stub.GetUpload, get)
            except InfermeshError as error:
                if not error.is_interruption:
                    raise
                if not pacer.pause():
                    raise broken from error

    def _pieces(self, digest: str, offset: int, timeout_s: float) -> Iterator[bytes]:
        request = artifact_service_pb2.DownloadArtifactRequest(digest=digest, offset_bytes=offset)
        for body in self._transport.stream(self._stub.DownloadArtifact, request, timeout_s=timeout_s):
            yield body.data


def _nothing_moved(offset: int, size: int) -> InfermeshError:
    """For a call that ends well without a byte: whoever stands between may do so, and would be asked for ever."""
    return InfermeshError(
        f"a call ended at byte {offset} of {size} and brought nothing",
        code=grpc.StatusCode.UNAVAILABLE,
        reason="UNAVAILABLE",
    )


def _whole(packed: Packed) -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
    yield artifact_service_pb2.UploadArtifactRequest(
        filename=packed.filename, digest=packed.digest, size_bytes=packed.size_bytes
    )
    for piece in packed.pieces():
        yield artifact_service_pb2.UploadArtifactRequest(body=httpbody_pb2.HttpBody(data=piece))


def _appended(
    upload: artifact_pb2.Upload, packed: Packed, progress: Progress
) -> Iterator[artifact_service_pb2.AppendUploadRequest]:
    offset = int(upload.offset_bytes)
    for piece in packed.pieces(offset):
        progress(offset, packed.size_bytes)
        offset += len(piece)
        yield artifact_service_pb2.AppendUploadRequest(
            upload_id=upload.upload_id, offset_bytes=upload.offset_bytes, body=httpbody_pb2.HttpBody(data=piece)
        )


def _request_id(packed: Packed) -> str:
    """The same for the same content under the same name, so that another run goes on with the upload."""
    name = hashlib.sha256(packed.filename.encode()).hexdigest()[:16]
    return f"upload-{packed.digest}-{name}"


def _begun(part: Path, size: int) -> "tuple[hashlib._Hash, int]":
    """The hash of what came before, and how much that is."""
    seen, offset = hashlib.sha256(), 0
    try:
        with part.open("rb") as stream:
            while piece := stream.read(_CHUNK_BYTES):
                seen.update(piece)
                offset += len(piece)
    except FileNotFoundError:
        return seen, 0
    return (seen, offset) if offset <= size else (hashlib.sha256(), 0)
