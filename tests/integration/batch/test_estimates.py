"""How a real job says, while it runs, when it will be over; after its pace changed and after a pause too."""

from datetime import UTC
from pathlib import Path

from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from tests.integration.batch.driving import Service, write_rows
from tests.support.batch_servers import SumsServicer
from tests.support.waiting import eventually

ROWS = 2000


async def watched(service: Service, job_id: str) -> tuple[batch_job_pb2.BatchJob, list[batch_job_pb2.BatchJob]]:
    """The ended job, and each of its changes before."""
    stream = service.stub.WatchBatchJob(batch_service_pb2.WatchBatchJobRequest(job_id=job_id))
    seen = [job async for job in stream]
    assert seen[-1].status == "completed"
    return seen[-1], seen[:-1]


def check(seen: list[batch_job_pb2.BatchJob], *, after_rows: float) -> None:
    """After so many rows it says when it will be over, and how fast it is. How right that is depends on the machine
    here; test_pace.py says it without one."""
    looks = [job for job in seen if job.progress.processed_records >= after_rows and job.status == "running"]
    assert looks
    for job in looks:
        assert job.HasField("estimated_completion_time")
        assert job.estimated_completion_time.ToDatetime(UTC) >= job.updated_at.ToDatetime(UTC)
        assert job.metrics.throughput_per_sec > 0


async def test_a_job_says_after_a_tenth_when_it_will_end(service: Service, model: SumsServicer, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    model.takes_s = 0.1
    made = await service.submit(tmp_path / "in.jsonl", tmp_path / "out.jsonl")
    ended, seen = await watched(service, made.job_id)
    check(seen, after_rows=ROWS / 10)
    assert not ended.HasField("estimated_completion_time")


async def test_a_job_that_slows_down_and_pauses_says_it_again(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", ROWS)
    model.takes_s = 0.04
    made = await service.submit(tmp_path / "in.jsonl", tmp_path / "out.jsonl")

    async def done(rows: float) -> bool:
        return (await service.get(made.job_id)).progress.processed_records >= rows

    await eventually(lambda: done(ROWS / 4), what="a quarter is done")
    model.takes_s = 0.12
    await service.stub.PauseBatchJob(batch_service_pb2.PauseBatchJobRequest(job_id=made.job_id))
    paused = await service.get(made.job_id)
    assert not paused.HasField("estimated_completion_time")
    await service.stub.ResumeBatchJob(batch_service_pb2.ResumeBatchJobRequest(job_id=made.job_id))
    _, seen = await watched(service, made.job_id)
    check(seen, after_rows=paused.progress.processed_records + ROWS * 0.2)
