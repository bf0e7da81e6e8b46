"""Parts and outputs on a local file system.

A part is written under a name that holds its lease's token, so that two processes never write one file, and synced
before the database hears of it. The output is put together beside its place, under a hidden name, synced, and appears
by one rename or link.
"""

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Format, Output
from services.batch.domain.lines import json_lines
from services.batch.ports import Lease
from services.common.errors import MeshError, Reason

_BLOCK_BYTES = 1024 * 1024


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
        if path.exists() and path.samefile(input_path):
            raise unwritable(output, "it is the input under another name; name another file")
        if not output.overwrite:
            if path.exists():
                raise unwritable(output, "it exists; name another, remove it, or set output.overwrite")
            if errors_path.exists():
                raise unwritable(
                    output,
                    f"{str(errors_path)!r}, which holds the failed rows of an earlier job, exists; remove it, or set "
                    "output.overwrite",
                )
        probe = folder / f".{path.name}.{os.getpid()}.probe"
        try:
            probe.touch(exist_ok=True)
            probe.unlink()
        except OSError as error:
            raise unwritable(output, f"the folder cannot be written to ({error.strerror})") from None

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        """Writes and syncs a chunk's rows."""
        folder = self._folder(lease.job_id)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{index:06d}.{lease.token}.part"
        try:
            _write(table, path, output.format)
            _sync(path)
            _sync(folder)
        except OSError as error:
            path.unlink(missing_ok=True)
            raise MeshError(
                Reason.OUTPUT_UNWRITABLE, f"a part of the output cannot be written to {path}: {error.strerror}"
            ) from error
        return Part(path.name, path.stat().st_size, table.num_rows)

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
        paths = _until(stop, [self._folder(lease.job_id) / part.name for part in parts])
        try:
            if output.format is Format.PARQUET:
                schema = pq.read_schema(self._folder(lease.job_id) / parts[0].name)
                _join_parquet(paths, schema, hidden)
            else:
                _join_text(paths, hidden, _head(columns, output.format))
            any_failed = _write_errors(failed, errors)
            for path in (hidden, errors):
                _sync(path)
            return AssembledFile(output, hidden, errors, any_failed=any_failed, digest=self.digest(str(hidden)))
        except BaseException as error:
            for path in (hidden, errors):
                path.unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise unwritable(output, f"{error.strerror}; the parts are kept, retry the job") from error
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
            raise self._in_the_way()
        try:
            self._show_errors(Path(self.output.errors_path))
            if self.output.overwrite:
                self.hidden.rename(target)
            else:
                _rename_to_new(self.hidden, target)
            _sync(target.parent)
        except FileExistsError:
            raise self._in_the_way() from None
        except OSError as error:
            raise unwritable(self.output, f"{error.strerror}; the parts are kept, retry the job") from error

    def _show_errors(self, target: Path) -> None:
        if self.any_failed:
            self.hidden_errors.rename(target)
            return
        self.hidden_errors.unlink(missing_ok=True)
        if self.output.overwrite:
            target.unlink(missing_ok=True)

    def _in_the_way(self) -> MeshError:
        return unwritable(self.output, "it exists now; move it away and retry the job, whose parts are kept")


def unwritable(output: Output, why: str) -> MeshError:
    """OUTPUT_UNWRITABLE in the usual words."""
    return MeshError(
        Reason.OUTPUT_UNWRITABLE,
        f"output_uri {output.uri!r} cannot be written: {why}",
        metadata={"output_uri": output.uri},
    )


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


def _until(stop: threading.Event, paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if stop.is_set():
            raise InterruptedError(0, "the job was stopped")
        yield path


def _hidden(path: str, job_id: str, token: str) -> Path:
    target = Path(path)
    return target.with_name(f".{target.name}.{job_id}.{token}.partial")


def _glob_safe(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _write(table: pa.Table, path: Path, kind: Format) -> None:
    if kind is Format.PARQUET:
        pq.write_table(table, path, compression="zstd")
    elif kind is Format.CSV:
        options = pa_csv.WriteOptions(include_header=False, quoting_style="needed")
        pa_csv.write_csv(_flat(table), path, options)
    else:
        path.write_bytes(json_lines(table))


def _flat(table: pa.Table) -> pa.Table:
    """Lists and maps as JSON text: a CSV cell holds one value."""
    for place, column in enumerate(table.schema):
        if pa.types.is_nested(column.type):
            texts = [orjson.dumps(value).decode() for value in table.column(place).to_pylist()]
            table = table.set_column(place, column.name, pa.array(texts, type=pa.string()))
    return table


def _head(columns: Sequence[str], kind: Format) -> bytes:
    if kind is not Format.CSV:
        return b""
    sink = pa.BufferOutputStream()
    empty = pa.table([pa.array([], type=pa.string())] * len(columns), names=list(columns))
    pa_csv.write_csv(empty, sink, pa_csv.WriteOptions(include_header=True, quoting_style="needed"))
    return bytes(sink.getvalue())


def _join_text(paths: Iterator[Path], target: Path, head: bytes) -> None:
    with target.open("wb") as joined:
        joined.write(head)
        for path in paths:
            with path.open("rb") as part:
                shutil.copyfileobj(part, joined, _BLOCK_BYTES)


def _join_parquet(paths: Iterator[Path], schema: pa.Schema, target: Path) -> None:
    # The columns' types follow from the version and the key's type, so every part has those of the first.
    with pq.ParquetWriter(target, schema, compression="zstd") as writer:
        for path in paths:
            with pq.ParquetFile(path) as part:
                for place in range(part.num_row_groups):
                    writer.write_table(part.read_row_group(place))


def _write_errors(failed: Iterator[FailedRow], target: Path) -> bool:
    wrote = False
    with target.open("wb") as file:
        for row in failed:
            entry = {
                "row_number": row.row_number,
                "key": row.key,
                "error_reason": row.reason,
                "error_message": row.message,
            }
            file.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            wrote = True
    return wrote


def _sync(path: Path) -> None:
    """Makes a file or a folder's entries survive a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError) if path.is_dir() else contextlib.nullcontext():
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
