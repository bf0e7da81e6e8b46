"""Parts and outputs in a bucket, beside the output under names that begin with ".".

Whoever lists the output's folder as data passes them over. An output is sent under a hidden name, and appears by a copy
that the bucket makes at once and, unless the output may replace another, only where nothing is. Larger ones than
`COPY_BYTES_MAX` cannot be copied at once: they are sent to their own place by an upload whose end makes them appear,
just after a look whether something is there.

Uploads that a dying process leaves half done show nowhere, but take room until the bucket's own rule removes them.
"""

import hashlib
import io
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, cast

import obstore
import pyarrow as pa
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError

from services.batch.adapters.files import errors_in_the_way, in_the_way, unwritable
from services.batch.adapters.objects import Buckets, bucket_errors
from services.batch.adapters.tables import error_lines, join_parts, part_bytes
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Output
from services.batch.ports import Lease
from services.common.errors import Reason
from services.common.objects import BucketStore

if TYPE_CHECKING:  # in its stubs alone
    from obstore import WritableFile

COPY_BYTES_MAX = 1024**3
"""S3 copies up to 5 GB at once, and a GiB well within the time that one request may take."""
_SENT_BYTES = 8 * 1024 * 1024
_SENT_AT_ONCE = 3
_READ_BYTES = 8 * 1024 * 1024
_AHEAD = 4
"""Parts that are fetched while those before are put together."""


class BucketWorkspace:
    """A `Workspace` for outputs in buckets."""

    def __init__(self, buckets: Buckets, *, copy_bytes_max: int = COPY_BYTES_MAX) -> None:
        self._buckets = buckets
        self._copy_bytes_max = copy_bytes_max
        # Sizes of the parts that were there at the last look, by the folder that they are in.
        self._known: dict[tuple[int, str], dict[str, int]] = {}
        self._lock = threading.Lock()

    def check_output(self, output: Output, input_path: str) -> None:  # noqa: ARG002 - by names alone, as before
        """Looks whether the names are free, and tries to write."""
        store, key = self._buckets.at(output.path)
        with _refusals(output):
            if not output.overwrite:
                if _is_there(store, key):
                    raise unwritable(output, "it exists; name another, remove it, or set output.overwrite")
                if _is_there(store, _errors_key(output, key)):
                    raise errors_in_the_way(output)
            probe = _hidden(key, "probe")
            try:
                obstore.put(store, probe, b"", use_multipart=False)
                _remove(store, probe)
            except FileNotFoundError:
                raise unwritable(output, "there is no such bucket") from None

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        """Sends a chunk's rows."""
        store, key = self._buckets.at(output.path)
        name = f"{_hidden(key, lease.job_id)}/{index:06d}.{lease.token}.part"
        content = part_bytes(table, output)
        with _refusals(output):
            obstore.put(store, name, content, chunk_size=_SENT_BYTES, max_concurrency=_SENT_AT_ONCE)
        self._forget(store, name)
        return Part(f"{output.path.removesuffix(key)}{name}", len(content), table.num_rows)

    def has_part(self, job_id: str, part: Part) -> bool:  # noqa: ARG002 - its name says all
        """Whether a part is there with the size that it had. Of many parts that are asked for one after another, one
        look is taken; what it did not see may have come since."""
        store, key = self._buckets.at(part.name)
        with bucket_errors(part.name, field="output_uri", reason=Reason.OUTPUT_UNWRITABLE):
            known = self._parts(store, key)
            if key not in known:
                try:
                    known[key] = obstore.head(store, key)["size"]
                except FileNotFoundError:
                    return False
        return known[key] == part.size_bytes

    def assemble(
        self,
        lease: Lease,
        output: Output,
        parts: Sequence[Part],
        failed: Iterator[FailedRow],
        columns: Sequence[str],
        *,
        stop: threading.Event,
    ) -> "AssembledObject":
        """Puts the parts together, of which there is at least one."""
        store, key = self._buckets.at(output.path)
        errors_key = _errors_key(output, key)
        suffix = f"{lease.job_id}.{lease.token}.partial"
        direct = sum(part.size_bytes for part in parts) > self._copy_bytes_max
        hidden, hidden_errors = _hidden(key, suffix), _hidden(errors_key, suffix)
        with _refusals(output):
            try:
                sink = _Sink(store, key if direct else hidden)
                join_parts(self._opened(stop, parts), cast("BinaryIO", sink), output, columns)
                if not direct:
                    sink.finish()
                errors = _Sink(store, hidden_errors)
                for line in error_lines(failed):
                    errors.write(line)
                errors.finish()
            except BaseException as error:
                for name in (hidden, hidden_errors):
                    _remove(store, name)
                if isinstance(error, FileNotFoundError):
                    self._forget(store, f"{_hidden(key, lease.job_id)}/")
                    raise unwritable(output, "one of its parts is gone; retry the job, which makes it again") from error
                raise
        return AssembledObject(
            output=output,
            store=store,
            key=key,
            hidden="" if direct else hidden,
            upload=sink,
            errors_key=errors_key,
            hidden_errors=hidden_errors,
            any_failed=errors.tell() > 0,
        )

    def digest(self, path: str) -> str:
        """The SHA-256 of an object, read in stretches; empty where there is none."""
        store, key = self._buckets.at(path)
        with bucket_errors(path, field="output_uri", reason=Reason.OUTPUT_UNWRITABLE):
            return _digest_of(store, key)

    def withdraw(self, output: Output, digest: str) -> None:
        """Removes an output that appeared although its job did not complete."""
        if not digest or self.digest(output.path) != digest:
            return
        store, key = self._buckets.at(output.path)
        with _refusals(output):
            _remove(store, _errors_key(output, key))
            _remove(store, key)

    def discard(self, job_id: str, output: Output) -> None:
        """Removes a job's parts and hidden objects."""
        store, key = self._buckets.at(output.path)
        errors_key = _errors_key(output, key)
        with _refusals(output):
            beside = obstore.list_with_delimiter(store, key.rpartition("/")[0] or None)["objects"]
            own = (_hidden(key, f"{job_id}."), _hidden(errors_key, f"{job_id}."))
            names = [meta["path"] for meta in beside if meta["path"].startswith(own)]
            names += [meta["path"] for page in obstore.list(store, _hidden(key, job_id)) for meta in page]
            for name in names:
                _remove(store, name)
        self._forget(store, f"{_hidden(key, job_id)}/")

    def _parts(self, store: BucketStore, key: str) -> dict[str, int]:
        """The parts that are there beside one, with their sizes."""
        folder = key.rpartition("/")[0]
        with self._lock:
            if (known := self._known.get((id(store), folder))) is not None:
                return known
        found = {meta["path"]: meta["size"] for page in obstore.list(store, folder) for meta in page}
        with self._lock:
            self._known[id(store), folder] = found
        return found

    def _forget(self, store: BucketStore, key: str) -> None:
        """Has the parts be looked for again."""
        with self._lock:
            self._known.pop((id(store), key.rpartition("/")[0]), None)

    def _opened(self, stop: threading.Event, parts: Sequence[Part]) -> Iterator[BinaryIO]:
        """The parts in order, some fetched ahead. Each fits into memory as it did when it was written."""
        with ThreadPoolExecutor(_AHEAD, thread_name_prefix="batch-parts") as threads:
            waiting: deque[Future[bytes]] = deque()
            left = iter(parts)
            waiting.extend(threads.submit(self._part, part) for part in islice(left, _AHEAD))
            while waiting:
                if stop.is_set():
                    raise InterruptedError(0, "the job was stopped")
                content = waiting.popleft().result()
                waiting.extend(threads.submit(self._part, part) for part in islice(left, 1))
                yield io.BytesIO(content)

    def _part(self, part: Part) -> bytes:
        store, key = self._buckets.at(part.name)
        return bytes(obstore.get(store, key).bytes())


class _Sink:
    """An object on its way, as a file that is written; it is there once `finish` returns, and else never."""

    def __init__(self, store: BucketStore, key: str) -> None:
        self._file: WritableFile = obstore.open_writer(
            store, key, buffer_size=_SENT_BYTES, max_concurrency=_SENT_AT_ONCE
        )
        self._digest = hashlib.sha256()
        self._size_bytes = 0
        self.closed = False

    @property
    def digest(self) -> str:
        """The SHA-256 of what was written."""
        return self._digest.hexdigest()

    def write(self, piece: bytes) -> int:
        """Sends it, a stretch at a time."""
        self._digest.update(piece)
        self._size_bytes += len(piece)
        self._file.write(piece)
        return len(piece)

    def tell(self) -> int:
        """How much was written."""
        return self._size_bytes

    def writable(self) -> bool:
        """It is."""
        return True

    def flush(self) -> None:
        """Nothing: stretches are sent when they are full."""

    def close(self) -> None:
        """Nothing: whoever writes a format into it does not decide whether it is whole."""

    def finish(self) -> None:
        """Makes it an object."""
        self._file.close()


@dataclass(frozen=True)
class AssembledObject:
    """An output that was sent. `hidden` is its name so far; empty where it only waits to be finished."""

    output: Output
    store: BucketStore
    key: str
    hidden: str
    upload: _Sink
    errors_key: str
    hidden_errors: str
    any_failed: bool

    @property
    def digest(self) -> str:
        """Its SHA-256."""
        return self.upload.digest

    def publish(self) -> None:
        """Shows the failed rows, then the output: whoever sees the output finds the errors beside it."""
        with _refusals(self.output):
            if not self.output.overwrite and _is_there(self.store, self.key):
                raise in_the_way(self.output)
            if self.any_failed:
                obstore.copy(self.store, self.hidden_errors, self.errors_key)
            elif self.output.overwrite:
                _remove(self.store, self.errors_key)
            try:
                self._show()
            except FileNotFoundError as error:
                raise unwritable(self.output, "what was put together is gone; retry the job") from error
            except BaseError as error:
                # A request whose answer was lost is made again, and meets what it has made.
                if _digest_of(self.store, self.key) != self.digest:
                    self._give_up(error)
            with suppress(BaseError, OSError):
                # Shown is shown; what stays is removed with the parts.
                for name in filter(None, (self.hidden, self.hidden_errors)):
                    _remove(self.store, name)

    def _give_up(self, error: BaseError) -> None:
        """Says why it cannot appear. Raises."""
        if not isinstance(error, AlreadyExistsError | PreconditionError):
            raise error
        if self.any_failed:
            _remove(self.store, self.errors_key)
        raise in_the_way(self.output) from None

    def _show(self) -> None:
        if self.hidden:
            obstore.copy(self.store, self.hidden, self.key, overwrite=self.output.overwrite)
        else:
            self.upload.finish()


def _refusals(output: Output) -> AbstractContextManager[None]:
    return bucket_errors(output.uri, field="output_uri", reason=Reason.OUTPUT_UNWRITABLE)


def _errors_key(output: Output, key: str) -> str:
    return f"{key}{output.errors_path.removeprefix(output.path)}"


def _digest_of(store: BucketStore, key: str) -> str:
    digest = hashlib.sha256()
    try:
        for piece in obstore.get(store, key).stream(min_chunk_size=_READ_BYTES):
            digest.update(piece)
    except FileNotFoundError:
        return ""
    return digest.hexdigest()


def _is_there(store: BucketStore, key: str) -> bool:
    try:
        obstore.head(store, key)
    except FileNotFoundError:
        return False
    return True


def _remove(store: BucketStore, key: str) -> None:
    try:
        obstore.delete(store, key)
    except FileNotFoundError:
        return


def _hidden(key: str, suffix: str) -> str:
    """A name beside the output that whoever lists data passes over."""
    folder, slash, name = key.rpartition("/")
    return f"{folder}{slash}.{name}.{suffix}"
