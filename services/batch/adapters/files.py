"""Parts and outputs on a local file system.

A part is written under a name that holds its lease's token, so that two processes never write one file, and synced
before the database hears of it. The output is put together beside its place, under a hidden name, synced, and appears
by one rename or link.
"""

import contextlib
import errno
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from services.batch.adapters.tables import error_lines, join_parts, part_bytes
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Output
from services.batch.domain.patterns import has_wildcard, matches
from services.batch.domain.places import in_bucket
from services.batch.ports import Lease
from services.common.errors import MeshError, Reason

_FULL = (errno.ENOSPC, errno.EDQUOT)


class LocalWorkspace:
    """A `Workspace` in `data_dir`."""

    def __init__(self, data_dir: Path) -> None:
        self._jobs = data_dir / "jobs"

    def check_output(self, output: Output, input_path: str) -> None:
        """Raises OUTPUT_UNWRITABLE with what to do."""
        path, errors_path, folder = Path(output.path), Path(output.errors_path), Path(output.path).parent
        if not folder.is_dir():
            raise unwritable(output, f"there is no folder {str(folder)!r}; make it first")
        if path.is_dir() or errors_path.is_dir():
            raise unwritable(output, "it is a folder; name a file in it")
        _check_apart(output, input_path)
        if not output.overwrite:
            if path.exists():
                raise unwritable(output, "it exists; name another, remove it, or set output.overwrite")
            if errors_path.exists():
                raise errors_in_the_way(output)
        probe = folder / f".{path.name}.{os.getpid()}.probe"
        try:
            # A byte, because a disk without room still takes names.
            probe.write_bytes(b"\n")
            probe.unlink()
        except OSError as error:
            with contextlib.suppress(OSError):
                probe.unlink(missing_ok=True)
            if error.errno in _FULL:
                raise unwritable(output, f"{error.strerror} in {folder}; make room, or name another place") from None
            raise unwritable(output, f"the folder cannot be written to ({error.strerror})") from None

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        """Writes and syncs a chunk's rows."""
        folder = self._folder(lease.job_id)
        path = folder / f"{index:06d}.{lease.token}.part"
        content = part_bytes(table, output)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            _sync(path)
            _sync(folder)
        except OSError as error:
            path.unlink(missing_ok=True)
            why = _why(error, folder, len(content))
            raise MeshError(
                Reason.OUTPUT_UNWRITABLE, f"a part of the output cannot be written to {path}: {why}"
            ) from error
        return Part(path.name, len(content), table.num_rows)

    def has_part(self, job_id: str, part: Part) -> bool:
        """Whether a part is there with the size that it had."""
        try:
            return (self._folder(job_id) / part.name).stat().st_size == part.size_bytes
        except FileNotFoundError:
            return False

    def assemble(
        self,
        lease: Lease,
        output: Output,
        parts: Sequence[Part],
        failed: Iterator[FailedRow],
        columns: Sequence[str],
        *,
        stop: threading.Event,
    ) -> "AssembledFile":
        """Puts the parts together, of which there is at least one."""
        hidden = _hidden(output.path, lease.job_id, str(lease.token))
        errors = _hidden(output.errors_path, lease.job_id, str(lease.token))
        folder = self._folder(lease.job_id)
        needed = sum(part.size_bytes for part in parts)
        try:
            _check_room(hidden.parent, needed)
            with hidden.open("wb") as sink:
                join_parts(_opened(stop, [folder / part.name for part in parts]), sink, output, columns)
            with errors.open("wb") as sink:
                sink.writelines(error_lines(failed))
                any_failed = sink.tell() > 0
            for path in (hidden, errors):
                _sync(path)
            return AssembledFile(output, hidden, errors, any_failed=any_failed, digest=self.digest(str(hidden)))
        except BaseException as error:
            for path in (hidden, errors):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError) and not isinstance(error, InterruptedError):
                why = _why(error, hidden.parent, needed)
                raise unwritable(output, f"{why}; the parts are kept, retry the job") from error
            raise

    def digest(self, path: str) -> str:
        """The SHA-256 of a file, empty where there is none."""
        try:
            with Path(path).open("rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest()
        except FileNotFoundError:
            return ""

    def withdraw(self, output: Output, digest: str) -> None:
        """Removes an output that appeared although its job did not complete."""
        if digest and self.digest(output.path) == digest:
            Path(output.errors_path).unlink(missing_ok=True)
            Path(output.path).unlink(missing_ok=True)

    def discard(self, job_id: str, output: Output) -> None:
        """Removes a job's parts and hidden files."""
        shutil.rmtree(self._folder(job_id), ignore_errors=True)
        for target in (Path(output.path), Path(output.errors_path)):
            for path in target.parent.glob(f".{_glob_safe(target.name)}.{job_id}.*.partial"):
                path.unlink(missing_ok=True)

    def _folder(self, job_id: str) -> Path:
        return self._jobs / job_id


@dataclass(frozen=True)
class AssembledFile:
    """An output under its hidden name."""

    output: Output
    hidden: Path
    hidden_errors: Path
    any_failed: bool
    digest: str

    def publish(self) -> None:
        """Shows the failed rows, then the output: whoever sees the output finds the errors beside it."""
        target = Path(self.output.path)
        if target.exists() and not self.output.overwrite:
            raise in_the_way(self.output)
        try:
            self._show_errors(Path(self.output.errors_path))
            if self.output.overwrite:
                self.hidden.rename(target)
            else:
                _rename_to_new(self.hidden, target)
            _sync(target.parent)
        except FileExistsError:
            raise in_the_way(self.output) from None
        except OSError as error:
            raise unwritable(self.output, f"{error.strerror}; the parts are kept, retry the job") from error

    def _show_errors(self, target: Path) -> None:
        if self.any_failed:
            self.hidden_errors.rename(target)
            return
        self.hidden_errors.unlink(missing_ok=True)
        if self.output.overwrite:
            target.unlink(missing_ok=True)


def unwritable(output: Output, why: str) -> MeshError:
    """OUTPUT_UNWRITABLE in the usual words."""
    return MeshError(
        Reason.OUTPUT_UNWRITABLE,
        f"output_uri {output.uri!r} cannot be written: {why}",
        metadata={"output_uri": output.uri},
    )


def in_the_way(output: Output) -> MeshError:
    """OUTPUT_UNWRITABLE where something took the output's place while the job ran."""
    return unwritable(output, "it exists now; move it away and retry the job, whose parts are kept")


def errors_in_the_way(output: Output) -> MeshError:
    """OUTPUT_UNWRITABLE where an earlier job left its failed rows."""
    return unwritable(
        output,
        f"{output.errors_path!r}, which holds the failed rows of an earlier job, exists; remove it, or set "
        "output.overwrite",
    )


def _check_apart(output: Output, input_path: str) -> None:
    """Raises OUTPUT_UNWRITABLE where the output is the input under another name, or would lie among its files."""
    if in_bucket(input_path):
        return
    real = os.path.realpath(output.path)
    source = os.path.realpath(input_path)
    if Path(output.path).exists() and Path(input_path).exists() and Path(output.path).samefile(input_path):
        raise unwritable(output, "it is the input under another name; name another file")
    if Path(source).is_dir() and Path(real).is_relative_to(source):
        raise unwritable(output, "it lies in the folder that is the input; name a place outside of it")
    if has_wildcard(input_path) and any(matches(real, pattern) for pattern in (input_path, source)):
        raise unwritable(output, "the pattern of the input matches it; name another place")


def _check_room(folder: Path, needed: int) -> None:
    """Raises OSError where an output would fill the disk, before it does and others find it full."""
    if shutil.disk_usage(folder).free < needed:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _why(error: OSError, folder: Path, needed: int) -> str:
    """What a disk refused; where it is full, how much is missing."""
    if error.errno not in _FULL:
        return error.strerror or str(error)
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        free = 0
    missing = max(0, needed - free)
    return f"{error.strerror}: {needed} bytes are needed, {free} are free in {folder}, at least {missing} are missing"


def _rename_to_new(source: Path, target: Path) -> None:
    """A rename that never replaces."""
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        # Not every file system has links. What is there now is ours to fill, for we made it.
        with target.open("xb"):
            source.rename(target)
    else:
        source.unlink()


def _opened(stop: threading.Event, paths: Sequence[Path]) -> Iterator[BinaryIO]:
    for path in paths:
        if stop.is_set():
            raise InterruptedError(0, "the job was stopped")
        yield path.open("rb")


def _hidden(path: str, job_id: str, token: str) -> Path:
    target = Path(path)
    return target.with_name(f".{target.name}.{job_id}.{token}.partial")


def _glob_safe(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _sync(path: Path) -> None:
    """Makes a file or a folder's entries survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
