"""Schedules by a real process over a real PostgreSQL, whose clock cannot be told: moments are put into the past."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.errors import MeshError, Reason
from tests.integration.batch.driving import Service, write_rows
from tests.support.batch_servers import SumsServicer
from tests.support.waiting import eventually


def schedule(folder: Path, **changes: object) -> batch_job_pb2.BatchSchedule:
    made = batch_job_pb2.BatchSchedule(
        schedule_name="nightly",
        cron="0 3 * * *",
        time_zone="Europe/Berlin",
        job=batch_job_pb2.BatchJob(
            model_name="sums",
            input_uri=str(folder / "in.jsonl"),
            output_uri=str(folder / "out-{date}-{run}.jsonl"),
            batch_size=5,
            labels={"made": "by-schedule"},
            input=batch_job_pb2.InputOptions(key_column="id"),
        ),
    )
    made.MergeFrom(batch_job_pb2.BatchSchedule(**changes))  # type: ignore[arg-type]
    return made


async def create(
    service: Service, wish: batch_job_pb2.BatchSchedule, request_id: str = ""
) -> batch_job_pb2.BatchSchedule:
    request = batch_service_pb2.CreateBatchScheduleRequest(schedule=wish, request_id=request_id)
    return await service.stub.CreateBatchSchedule(request)


async def get(service: Service, schedule_id: str) -> batch_job_pb2.BatchSchedule:
    return await service.stub.GetBatchSchedule(batch_service_pb2.GetBatchScheduleRequest(schedule_id=schedule_id))


async def let_come(url: str, schedule_id: str) -> None:
    """The next moment came a minute ago."""
    async with await psycopg.AsyncConnection.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        await connection.execute(
            "UPDATE batch.batch_schedules SET next_at = now() - interval '1 minute' WHERE schedule_id = %s",
            (schedule_id,),
        )


async def ran(service: Service, schedule_id: str, count: int) -> batch_job_pb2.BatchSchedule:
    async def look() -> batch_job_pb2.BatchSchedule | None:
        found = await get(service, schedule_id)
        return found if found.run_count == count else None

    found = await eventually(look, timeout_s=20, what=f"run {count}")
    assert found is not None
    return found


async def test_a_schedule_makes_its_jobs_and_outlives_its_service(
    service: Service, database_url: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", 20)
    made = await create(service, schedule(tmp_path), "once")
    assert await create(service, schedule(tmp_path), "once") == made
    assert (made.overlap, made.job.model_name, made.job.labels["made"]) == ("skip", "sums", "by-schedule")
    assert made.job.input.key_column == "id"
    assert not made.HasField("last_run_time")
    next_run = made.next_run_time.ToDatetime(UTC)
    assert timedelta(0) < next_run - datetime.now(UTC) <= timedelta(days=1, hours=1)  # noqa: TID251 - beside a process
    await service.kill()
    await let_come(database_url, made.schedule_id)
    await service.start()
    first = await ran(service, made.schedule_id, 1)
    job = await service.ended(first.last_job_id)
    assert (job.status, job.schedule_id) == ("completed", made.schedule_id)
    assert Path(job.output_uri).name.endswith("-1.jsonl")
    assert await asyncio.to_thread(Path(job.output_uri).exists)
    assert first.next_run_time == made.next_run_time
    await let_come(database_url, made.schedule_id)
    second = await ran(service, made.schedule_id, 2)
    await service.ended(second.last_job_id)
    request = batch_service_pb2.ListBatchJobsRequest(schedule_id=made.schedule_id, page_size=1)
    page = await service.stub.ListBatchJobs(request)
    assert [item.job_id for item in page.jobs] == [second.last_job_id]
    request.page_token = page.next_page_token
    assert [item.job_id for item in (await service.stub.ListBatchJobs(request)).jobs] == [first.last_job_id]
    await service.stub.DeleteBatchSchedule(batch_service_pb2.DeleteBatchScheduleRequest(schedule_id=made.schedule_id))
    with pytest.raises(MeshError) as error:
        await get(service, made.schedule_id)
    assert error.value.reason is Reason.SCHEDULE_NOT_FOUND
    assert (await service.get(job.job_id)).status == "completed"


async def test_a_run_that_is_not_over_is_replaced(
    service: Service, model: SumsServicer, database_url: str, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", 20)
    model.hold_after(0)
    made = await create(service, schedule(tmp_path, overlap="replace"))
    await let_come(database_url, made.schedule_id)
    first = await ran(service, made.schedule_id, 1)
    await eventually(lambda: model.held, what="the first run is in its middle")
    await let_come(database_url, made.schedule_id)
    second = await ran(service, made.schedule_id, 2)
    model.release()
    assert (await service.ended(first.last_job_id)).status == "cancelled"
    assert (await service.ended(second.last_job_id)).status == "completed"


async def test_what_cannot_run_says_why(service: Service, database_url: str, tmp_path: Path) -> None:
    made = await create(service, schedule(tmp_path))
    await let_come(database_url, made.schedule_id)
    failed = await ran(service, made.schedule_id, 1)
    assert failed.last_error_message.startswith("INPUT_UNREADABLE: ")
    assert failed.last_job_id == ""
    assert 'batch_schedule_runs_total{outcome="failed"} 1.0' in service.metrics()


async def test_a_schedule_is_changed_and_paused(service: Service, tmp_path: Path) -> None:
    made = await create(service, schedule(tmp_path))

    async def update(paths: tuple[str, ...] = (), **fields: object) -> batch_job_pb2.BatchSchedule:
        request = batch_service_pb2.UpdateBatchScheduleRequest(
            schedule=batch_job_pb2.BatchSchedule(schedule_id=made.schedule_id, **fields)  # type: ignore[arg-type]
        )
        request.update_mask.paths.extend(paths)
        return await service.stub.UpdateBatchSchedule(request)

    changed = await update(cron="30 4 * * *", time_zone="UTC", etag=made.etag)
    next_run = changed.next_run_time.ToDatetime(UTC)
    assert (next_run.hour, next_run.minute) == (4, 30)
    with pytest.raises(MeshError) as error:
        await update(cron="0 5 * * *", etag=made.etag)
    assert error.value.reason is Reason.ETAG_MISMATCH
    paused = await update(paused=True)
    assert (paused.paused, paused.HasField("next_run_time")) == (True, False)
    assert not (await update(("paused",))).paused
    job = schedule(tmp_path).job
    job.batch_size = 7
    assert (await update(job=job)).job.batch_size == 7
    for fields, words in (
        ({"cron": "0 5"}, "five fields"),
        ({"overlap": "both"}, "skip, queue, replace"),
        ({"job": batch_job_pb2.BatchJob(model_name="sums", input_uri="/in.csv", output_uri="/out.csv")}, "output_uri"),
    ):
        with pytest.raises(MeshError, match=words):
            await update(**fields)
    with pytest.raises(MeshError, match="update_mask"):
        await update(("schedule_name",))


async def test_every_wrong_field_of_a_schedule_is_named(service: Service, tmp_path: Path) -> None:
    wish = schedule(tmp_path, schedule_name="Nightly!", cron="61 * * * *", time_zone="Mars", overlap="all")
    wish.job.batch_size = 100_000
    with pytest.raises(MeshError) as error:
        await create(service, wish)
    assert [violation.field for violation in error.value.violations] == [
        "schedule.schedule_name",
        "schedule.cron",
        "schedule.time_zone",
        "schedule.overlap",
        "schedule.job.batch_size",
    ]
    wish = schedule(tmp_path)
    wish.job.output_uri = "/out-{day}.jsonl"
    with pytest.raises(MeshError, match=r"\{date\}, \{time\} and \{run\}"):
        await create(service, wish)
    with pytest.raises(MeshError, match="five fields"):
        await create(service, schedule(tmp_path, cron="0 0 30 2 *"))
    wish = schedule(tmp_path)
    wish.job.model_name = "unknown"
    with pytest.raises(MeshError) as error:
        await create(service, wish)
    assert error.value.reason is Reason.MODEL_NOT_FOUND
    await create(service, schedule(tmp_path))
    with pytest.raises(MeshError) as error:
        await create(service, schedule(tmp_path))
    assert error.value.reason is Reason.SCHEDULE_EXISTS
    listed = await service.stub.ListBatchSchedules(batch_service_pb2.ListBatchSchedulesRequest())
    assert [item.schedule_name for item in listed.schedules] == ["nightly"]
