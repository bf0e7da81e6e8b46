"""What a workspace promises, held by folders and by buckets: an output appears whole, once, and only where it may."""

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError

from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.object_files import BucketWorkspace
from services.batch.adapters.objects import Buckets, bucket_errors
from services.batch.adapters.workspaces import PlaceWorkspace
from services.batch.domain.chunks import FailedRow, Part
from services.batch.domain.job import Format, Output
from services.batch.ports import Lease
from services.batch.ports_places import Assembled, Workspace
from services.common.errors import MeshError, Reason
from tests.support.batch_places import Place
from tests.support.s3 import Request

LEASE = Lease("batch_job_1", "one", 3)
LATER = Lease("batch_job_1", "two", 4)
FAILED = FailedRow(7, "k", "MODEL_FAILED", "no")
INPUT = "/nowhere/in.csv"


@pytest.fixture(params=["local", "s3", "gs", "s3, large", "gs, large"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Large: its outputs are taken for ones that are not copied at once."""
    kind = request.param.partition(",")[0]
    if kind == "local":
        folder = tmp_path / "place"
        folder.mkdir()
        return Place("local", folder)
    return Place(kind, Path(tmp_path.name), request.getfixturevalue("bucket_server"))


@pytest.fixture
def workspace(request: pytest.FixtureRequest, place: Place, tmp_path: Path) -> Workspace:
    if "large" in request.node.callspec.params["place"]:
        return BucketWorkspace(Buckets(), copy_bytes_max=0)
    return PlaceWorkspace(tmp_path / "data", Buckets())


def rows(first: int, count: int) -> pa.Table:
    return pa.table({"id": list(range(first, first + count)), "output": [0.5] * count})


def parts(workspace: Workspace, output: Output, lease: Lease = LEASE) -> list[Part]:
    return [workspace.write_part(lease, index, rows(10 * index, 10), output) for index in range(3)]


def assembled(
    workspace: Workspace,
    output: Output,
    written: Sequence[Part],
    failed: Sequence[FailedRow] = (FAILED,),
    lease: Lease = LEASE,
) -> Assembled:
    return workspace.assemble(lease, output, written, iter(failed), ("id", "output"), stop=threading.Event())


def ids(place: Place, name: str) -> list[int]:
    return [json.loads(line)["id"] for line in place.get(name).splitlines()]


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
def test_an_output_appears_whole_and_only_when_it_is_published(
    workspace: Workspace, place: Place, tmp_path: Path, ending: str
) -> None:
    name = f"out.{ending}"
    output = place.output(name)
    workspace.check_output(output, INPUT)
    assert place.names() == []
    written = parts(workspace, output)
    assert [part.row_count for part in written] == [10, 10, 10]
    ready = assembled(workspace, output, written)
    assert not [found for found in place.names() if not found.startswith(".")]
    # As in a job: put together by one thread, shown by another.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(ready.publish).result()
    assert [found for found in place.names() if not found.startswith(".")] == [name, f"{name}.errors.jsonl"]
    assert workspace.digest(output.path) == ready.digest
    if ending == "parquet":
        (tmp_path / "got.parquet").write_bytes(place.get(name))
        assert pq.read_table(tmp_path / "got.parquet")["id"].to_pylist() == list(range(30))
    elif ending == "csv":
        assert place.get(name).splitlines()[:2] == [b'"id","output"', b"0,0.5"]
    else:
        assert ids(place, name) == list(range(30))
    assert json.loads(place.get(f"{name}.errors.jsonl"))["row_number"] == 7
    workspace.discard(LEASE.job_id, output)
    assert place.names() == [name, f"{name}.errors.jsonl"]


def test_without_failed_rows_there_is_no_file_of_them(workspace: Workspace, place: Place) -> None:
    output = place.output("out.jsonl")
    assembled(workspace, output, parts(workspace, output), ()).publish()
    workspace.discard(LEASE.job_id, output)
    assert place.names() == ["out.jsonl"]


def test_what_exists_is_refused_early_and_late(workspace: Workspace, place: Place) -> None:
    output = place.output("out.jsonl")
    written = parts(workspace, output)
    ready = assembled(workspace, output, written)
    place.put("out.jsonl", b"mine")
    with pytest.raises(MeshError, match="it exists now") as error:
        ready.publish()
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    with pytest.raises(MeshError, match="it exists; name another"):
        workspace.check_output(output, INPUT)
    assert place.get("out.jsonl") == b"mine"
    assert "out.jsonl.errors.jsonl" not in place.names()
    place.remove("out.jsonl")
    place.put("out.jsonl.errors.jsonl", b"mine too")
    with pytest.raises(MeshError, match="failed rows of an earlier job"):
        workspace.check_output(output, INPUT)
    # Whoever comes next puts it together anew.
    place.remove("out.jsonl.errors.jsonl")
    assert all(workspace.has_part(LEASE.job_id, part) for part in written)
    assembled(workspace, output, written, lease=LATER).publish()
    assert ids(place, "out.jsonl") == list(range(30))


def test_overwrite_replaces_an_output_and_the_failed_rows_beside_it(workspace: Workspace, place: Place) -> None:
    output = place.output("out.jsonl", overwrite=True)
    place.put("out.jsonl", b"old")
    place.put("out.jsonl.errors.jsonl", b"old")
    workspace.check_output(output, INPUT)
    ready = assembled(workspace, output, parts(workspace, output), ())
    assert place.get("out.jsonl") == b"old"
    ready.publish()
    workspace.discard(LEASE.job_id, output)
    assert place.names() == ["out.jsonl"]
    assert ids(place, "out.jsonl") == list(range(30))


def test_an_output_is_withdrawn_only_while_it_is_the_jobs_own(workspace: Workspace, place: Place) -> None:
    output = place.output("out.jsonl")
    ready = assembled(workspace, output, parts(workspace, output))
    ready.publish()
    place.put("out.jsonl", b"mine")
    workspace.withdraw(output, ready.digest)
    workspace.withdraw(output, "")
    assert place.get("out.jsonl") == b"mine"
    place.remove("out.jsonl")
    again = assembled(workspace, output, parts(workspace, output, LATER), lease=LATER)
    again.publish()
    workspace.withdraw(output, again.digest)
    workspace.discard(LEASE.job_id, output)
    assert place.names() == []
    assert workspace.digest(output.path) == ""


def test_parts_of_two_leases_are_two_files_and_go_with_their_job_alone(workspace: Workspace, place: Place) -> None:
    output = place.output("out.jsonl")
    old, new = parts(workspace, output), parts(workspace, output, LATER)
    assert not {part.name for part in old} & {part.name for part in new}
    other = workspace.write_part(Lease("batch_job_10", "one", 1), 0, rows(0, 1), output)
    changed = Part(old[0].name, old[0].size_bytes + 1, old[0].row_count)
    assert workspace.has_part(LEASE.job_id, old[0])
    assert not workspace.has_part(LEASE.job_id, changed)
    assembled(workspace, output, old)
    workspace.discard(LEASE.job_id, output)
    assert not any(workspace.has_part(LEASE.job_id, part) for part in (*old, *new))
    assert workspace.has_part("batch_job_10", other)


def test_what_is_stopped_or_breaks_while_it_is_put_together_leaves_no_output(
    workspace: Workspace, place: Place
) -> None:
    output = place.output("out.jsonl")
    written = parts(workspace, output)
    stop = threading.Event()
    stop.set()
    with pytest.raises(InterruptedError):
        workspace.assemble(LEASE, output, written, iter(()), ("id", "output"), stop=stop)

    def broken() -> Iterator[FailedRow]:
        yield FAILED
        raise TimeoutError("the store is away")

    with pytest.raises((TimeoutError, MeshError)):
        workspace.assemble(LEASE, output, written, broken(), ("id", "output"), stop=threading.Event())
    lost = [*written[:2], Part(written[2].name.replace("000002", "000009"), 1, 1)]
    with pytest.raises(MeshError, match=r"retry the job") as error:
        assembled(workspace, output, lost)
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert not [name for name in place.names() if not name.endswith(".part")]


def test_no_folder_and_no_bucket_are_named(place: Place, tmp_path: Path) -> None:
    workspace = PlaceWorkspace(tmp_path / "data", Buckets())
    if place.server is None:
        output, words = place.output("missing/out.csv"), "there is no folder"
    else:
        uri = f"{place.kind}://no-such-bucket/out.csv"
        output = Output(uri, uri, Format.CSV)
        words = "there is no such bucket"
    with pytest.raises(MeshError, match=words) as error:
        workspace.check_output(output, INPUT)
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE


def test_local_parts_are_in_the_data_folder(tmp_path: Path) -> None:
    place = Place("local", tmp_path)
    parts(LocalWorkspace(tmp_path / "data"), place.output("out.csv"))
    assert len(list((tmp_path / "data" / "jobs" / LEASE.job_id).glob("*.part"))) == 3


def test_many_parts_are_looked_for_by_one_look_and_each_new_one_is_seen(bucket: Place) -> None:
    assert bucket.server is not None
    one, other = BucketWorkspace(Buckets()), BucketWorkspace(Buckets())
    output = bucket.output("out.jsonl")
    written = [one.write_part(LEASE, index, rows(index, 1), output) for index in range(8)]
    bucket.server.requests.clear()
    assert all(one.has_part(LEASE.job_id, part) for part in written)
    assert len(bucket.server.requests) == 1
    late = other.write_part(LATER, 8, rows(8, 1), output)
    assert one.has_part(LEASE.job_id, late)
    gone = written[3].name.rpartition("/")[2]
    bucket.remove(f".out.jsonl.batch_job_1/{gone}")
    one.write_part(LEASE, 9, rows(9, 1), output)
    assert [one.has_part(LEASE.job_id, part) for part in written] == [index != 3 for index in range(8)]
    other.discard(LEASE.job_id, output)
    assert not other.has_part(LEASE.job_id, late)


def after_the_look(place: Place, name: str, act: Callable[[], object]) -> None:
    """Acts once it was looked whether there is an output of that name, just before it is made to appear."""
    assert place.server is not None
    before = place.server.before

    def watch(request: Request) -> None:
        looked = request.method == "HEAD" and request.key.endswith(f"/{name}")
        before.append((lambda _: act()) if looked else watch)

    before.append(watch)


def test_what_appears_in_a_bucket_at_the_last_moment_is_not_replaced(bucket: Place, tmp_path: Path) -> None:
    workspace = PlaceWorkspace(tmp_path / "data", Buckets())
    output = bucket.output("out.jsonl")
    ready = assembled(workspace, output, parts(workspace, output))
    after_the_look(bucket, "out.jsonl", lambda: bucket.put("out.jsonl", b"mine"))
    with pytest.raises(MeshError, match="it exists now") as error:
        ready.publish()
    assert error.value.reason is Reason.OUTPUT_UNWRITABLE
    assert bucket.get("out.jsonl") == b"mine"
    assert "out.jsonl.errors.jsonl" not in bucket.names()


def test_an_output_whose_appearance_was_not_heard_of_has_appeared(bucket: Place, tmp_path: Path) -> None:
    """The first request did its work and its answer was lost, so that the second one meets what it wanted."""
    workspace = PlaceWorkspace(tmp_path / "data", Buckets())
    output = bucket.output("out.jsonl")
    ready = assembled(workspace, output, parts(workspace, output))
    (hidden,) = [name for name in bucket.names() if name.startswith(".out.jsonl.batch_job_1.3")]
    after_the_look(bucket, "out.jsonl", lambda: bucket.put("out.jsonl", bucket.get(hidden)))
    ready.publish()
    workspace.discard(LEASE.job_id, output)
    assert bucket.names() == ["out.jsonl", "out.jsonl.errors.jsonl"]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (PermissionDeniedError("secret"), Reason.OUTPUT_UNWRITABLE),
        (GenericError("secret <Code>AccessDenied</Code>"), Reason.OUTPUT_UNWRITABLE),
        (GenericError("secret"), Reason.DEPENDENCY_UNAVAILABLE),
    ],
)
def test_what_a_bucket_refuses_is_said_without_its_words(error: Exception, reason: Reason) -> None:
    with (
        pytest.raises(MeshError, match=r"output_uri 's3://b/k'") as caught,
        bucket_errors("s3://b/k", field="output_uri", reason=Reason.OUTPUT_UNWRITABLE),
    ):
        raise error
    assert caught.value.reason is reason
    assert "secret" not in caught.value.message
