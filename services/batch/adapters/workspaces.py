"""A workspace for each kind of place: what a job writes lies where its output will be, or on this machine."""

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.object_files import BucketWorkspace
from services.batch.adapters.objects import Buckets
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Output
from services.batch.domain.places import in_bucket
from services.batch.ports import Lease
from services.batch.ports_places import Assembled, Workspace


class PlaceWorkspace:
    """A `Workspace`: in `data_dir` for local outputs, in the bucket for those in buckets."""

    def __init__(self, data_dir: Path, buckets: Buckets) -> None:
        self._local = LocalWorkspace(data_dir)
        self._bucket = BucketWorkspace(buckets)

    def check_output(self, output: Output, input_path: str) -> None:
        """By the output's place."""
        self._at(output.path).check_output(output, input_path)

    def write_part(self, lease: Lease, index: int, table: pa.Table, output: Output) -> Part:
        """By the output's place."""
        return self._at(output.path).write_part(lease, index, table, output)

    def has_part(self, job_id: str, part: Part) -> bool:
        """By the part's name: those in buckets have their URI for it."""
        workspace: Workspace = self._bucket if "://" in part.name else self._local
        return workspace.has_part(job_id, part)

    def assemble(
        self,
        lease: Lease,
        output: Output,
        parts: Sequence[Part],
        failed: Iterator[FailedRow],
        columns: Sequence[str],
        *,
        stop: threading.Event,
    ) -> Assembled:
        """By the output's place."""
        return self._at(output.path).assemble(lease, output, parts, failed, columns, stop=stop)

    def digest(self, path: str) -> str:
        """By the path."""
        return self._at(path).digest(path)

    def withdraw(self, output: Output, digest: str) -> None:
        """By the output's place."""
        self._at(output.path).withdraw(output, digest)

    def discard(self, job_id: str, output: Output) -> None:
        """By the output's place."""
        self._at(output.path).discard(job_id, output)

    def _at(self, path: str) -> Workspace:
        return self._bucket if in_bucket(path) else self._local
