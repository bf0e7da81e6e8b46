"""A disk that is full: the job says how much is missing, and nothing that is half written stays."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from services.batch.adapters.files import LocalWorkspace
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Format, Output
from services.batch.ports import Lease
from services.common.errors import MeshError, Reason

FULL = Path("/dev/full")
"""Takes nothing: each write to it fails as on a full disk."""
LEASE = Lease("batch_job_1", "one", 3)
TABLE = pa.table({"id": list(range(1000)), "output": [0.5] * 1000})


@pytest.fixture
def output(tmp_path: Path) -> Output:
    path = tmp_path / "out.jsonl"
    return Output(str(path), str(path), Format.JSONL)


@pytest.fixture
def workspace(tmp_path: Path) -> LocalWorkspace:
    return LocalWorkspace(tmp_path / "data")


def none() -> Iterator[FailedRow]:
    return iter(())


def test_a_place_without_room_is_refused_before_the_job_begins(
    workspace: LocalWorkspace, output: Output, tmp_path: Path
) -> None:
    probe = tmp_path / f".out.jsonl.{os.getpid()}.probe"
    probe.symlink_to(FULL)
    with pytest.raises(MeshError, match=r"No space left on device in .*; make room, or name another place") as error:
        workspace.check_output(output, "/in.jsonl")
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert list(tmp_path.iterdir()) == []
    workspace.check_output(output, "/in.jsonl")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", list(Format))
def test_a_part_that_does_not_fit_is_removed(workspace: LocalWorkspace, tmp_path: Path, ending: Format) -> None:
    path = tmp_path / f"out.{ending}"
    folder = tmp_path / "data" / "jobs" / LEASE.job_id
    folder.mkdir(parents=True)
    (folder / "000000.3.part").symlink_to(FULL)
    with pytest.raises(MeshError, match=r"No space left.*\d+ bytes are needed, \d+ are free.*are missing") as error:
        workspace.write_part(LEASE, 0, TABLE, Output(str(path), str(path), ending))
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("which", ["out.jsonl", "out.jsonl.errors.jsonl"])
def test_an_output_that_does_not_fit_is_removed_and_its_parts_are_kept(
    workspace: LocalWorkspace, output: Output, tmp_path: Path, which: str
) -> None:
    part = workspace.write_part(LEASE, 0, TABLE, output)
    (tmp_path / f".{which}.{LEASE.job_id}.{LEASE.token}.partial").symlink_to(FULL)
    failed = [FailedRow(7, "k", "MODEL_FAILED", "no")]
    with pytest.raises(MeshError, match=r"No space left.*missing; the parts are kept, retry") as error:
        workspace.assemble(LEASE, output, [part], iter(failed), ("id", "output"), stop=threading.Event())
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
    assert workspace.has_part(LEASE.job_id, part)


def test_an_output_that_cannot_fit_is_not_begun(workspace: LocalWorkspace, output: Output, tmp_path: Path) -> None:
    exbibyte = 2**60
    with pytest.raises(MeshError, match=rf"{exbibyte} bytes are needed") as error:
        workspace.assemble(
            LEASE, output, [Part("a.part", exbibyte, 1)], none(), ("id", "output"), stop=threading.Event()
        )
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert list(tmp_path.iterdir()) == []
