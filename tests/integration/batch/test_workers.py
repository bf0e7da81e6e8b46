"""Workers as processes: how many there are, how they stop, who starts them again, who survives whom."""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.clock import SystemClock
from tests.integration.batch.driving import Service, write_rows
from tests.support.batch_servers import SumsServicer
from tests.support.waiting import eventually

ROWS = 200
CLOCK = SystemClock()


def ids(path: Path) -> list[int]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def group_of(process: psutil.Process) -> str:
    """How nice its session is; empty where sessions are no groups."""
    path = Path(f"/proc/{process.pid}/autogroup")
    return path.read_text().partition(" ")[2].strip() if path.exists() else ""


async def chunks(service: Service, job_id: str) -> list[batch_job_pb2.BatchChunk]:
    listed = await service.stub.ListBatchChunks(batch_service_pb2.ListBatchChunksRequest(job_id=job_id))
    return list(listed.chunks)


@pytest.mark.parametrize("workers", [0, 1, 3])
async def test_any_number_of_workers_does_a_job(service: Service, tmp_path: Path, workers: int) -> None:
    await eventually(lambda: len(service.workers()) == workers, what="workers run")
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, 20 * ROWS)
    job = await service.ended((await service.submit(source, target, batch_size=50)).job_id)
    assert job.status == "completed", job.error_message
    assert ids(target) == [1000 + row for row in range(20 * ROWS)]
    names = {chunk.worker for chunk in await chunks(service, job.job_id)}
    assert names <= ({"batch-0"} if not workers else {f"batch-0-worker-{place}" for place in range(workers)})


@pytest.mark.parametrize("more_settings", [{"worker_niceness": 19, "lease_s": 60.0}])
@pytest.mark.parametrize("workers", [1])
async def test_a_worker_gives_way_to_all_else_on_its_processors_and_its_service_does_not(
    service: Service, tmp_path: Path
) -> None:
    await eventually(lambda: [one.nice() for one in service.workers()] == [19], what="it is nice")
    (worker,) = service.workers()
    parent = worker.parent()
    assert parent is not None
    assert parent.nice() == 0
    # Where sessions share the processors, the niceness of a process holds only within its own.
    await eventually(lambda: group_of(worker) in {"", "nice 19"}, what="its session is, too")
    assert group_of(parent) in {"", "nice 0"}
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    job = await service.ended((await service.submit(source, target, batch_size=50)).job_id)
    assert job.status == "completed", job.error_message


@pytest.mark.parametrize("more_settings", [{"worker_niceness": 19}])
@pytest.mark.parametrize("workers", [1])
async def test_a_worker_that_shall_end_gives_way_no_more(service: Service) -> None:
    """Nice as it was, it would take long to end beside busy processors, and its service with it."""
    await eventually(lambda: [one.nice() for one in service.workers()] == [19], what="it is nice")
    (worker,) = service.workers()
    await eventually(lambda: group_of(worker) in {"", "nice 19"}, what="its session is, too")
    worker.suspend()
    stopping = asyncio.create_task(service.stop())

    def hurried() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return group_of(worker) == "nice 0" or worker.nice() == 0
        return False

    await eventually(hurried, what="it is hurried")
    await stopping
    assert not worker.is_running(), "it stood still, so it was killed"


_TOGETHER = """
import asyncio, ctypes, os, sys
from services.batch.worker.niceness import give_way
from services.common.clock import SystemClock
os.setsid()
if os.getuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # PR_SET_DUMPABLE: what is in /proc of it is its own again
sys.stdin.read()
asyncio.run(give_way(19, clock=SystemClock()))
print(open("/proc/self/autogroup").read())
"""
"""A worker of somebody without privileges, who starts when he is told to."""


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="sessions are no groups to this kernel")
def test_all_workers_give_way_that_start_at_the_same_time() -> None:
    started = [
        subprocess.Popen([sys.executable, "-c", _TOGETHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for one in started:
        assert one.stdin is not None
        one.stdin.close()
        one.stdin = None
    said = [one.communicate(timeout=30)[0] for one in started]
    assert [one.strip().partition(" ")[2] for one in said] == ["nice 19"] * 4


@pytest.mark.parametrize("workers", [2])
async def test_several_workers_do_one_job_and_a_dead_one_is_replaced(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(0)
    job = await service.submit(source, target, max_parallelism=4)
    await eventually(lambda: len(model.holding) == 2, what="both workers wait for the model")
    before = {process.pid for process in service.workers()}
    victim = service.workers()[0]
    victim.kill()

    def replaced() -> bool:
        return len({process.pid for process in service.workers()} - {victim.pid}) == 2

    await eventually(replaced, what="another one is started")
    assert len(before) == 2
    await eventually(lambda: len(model.holding) == 3, what="it waits for the model, too")
    model.release()
    ended = await service.ended(job.job_id)
    assert ended.status == "completed", ended.error_message
    assert ids(target) == [1000 + row for row in range(ROWS)]
    assert {chunk.worker for chunk in await chunks(service, job.job_id)} == {"batch-0-worker-0", "batch-0-worker-1"}


@pytest.mark.parametrize("workers", [0, 2])
async def test_a_cancelled_job_is_let_go_of_within_seconds(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, ROWS)
    model.hold_after(3)
    job = await service.submit(source, tmp_path / "out.jsonl", max_parallelism=4)
    await eventually(lambda: model.held >= 2, what="requests are under way")
    held, began_s = model.held, CLOCK.monotonic()
    await service.stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=job.job_id))
    await eventually(lambda: model.given_up == model.held >= held, what="nobody waits for the model")
    assert CLOCK.monotonic() - began_s < 5
    model.release()
    other = await service.ended((await service.submit(source, tmp_path / "other.jsonl")).job_id)
    assert other.status == "completed"


@pytest.mark.parametrize("workers", [2])
async def test_changes_of_a_running_job_hold_for_what_is_sent_after_them(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(4)
    job = await service.submit(source, target, batch_size=10, max_parallelism=8)
    await eventually(lambda: model.held >= 1, what="the job is in its middle")
    changed = batch_job_pb2.BatchJob(job_id=job.job_id, batch_size=2, max_parallelism=2)
    await service.stub.UpdateBatchJob(batch_service_pb2.UpdateBatchJobRequest(job=changed))
    # Heartbeats tell it, ten a second.
    began_s = CLOCK.monotonic()
    await eventually(lambda: CLOCK.monotonic() - began_s > 1.5)
    model.release()
    assert (await service.ended(job.job_id)).status == "completed"
    assert ids(target) == [1000 + row for row in range(ROWS)]
    # What was under way is answered as it was sent, unless its worker was late and another one has done it.
    assert set(model.sizes) == {2, 10}
    assert 4 <= model.sizes.count(10) <= 4 + model.held, model.sizes
    assert model.sizes.count(2) >= ROWS // 2 - 5 * model.sizes.count(10)


@pytest.mark.parametrize("workers", [2])
async def test_no_worker_outlives_the_service(service: Service) -> None:
    await eventually(lambda: len(service.workers()) == 2, what="workers run")
    for end in (service.kill, service.stop):
        processes = service.workers()
        await end()
        await eventually(lambda: not any(alive(process) for process in processes), what="they are gone")  # noqa: B023
        await service.start()
        await eventually(lambda: len(service.workers()) == 2, what="workers run again")


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
