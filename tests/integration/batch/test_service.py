"""Jobs in a real process over real files, a real PostgreSQL and a real gRPC model: made, killed, resumed, stopped."""

import csv
import json
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from grpc_health.v1 import health_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.errors import MeshError, Reason
from tests.integration.batch.driving import ModelPort, Service, unreachable, write_rows
from tests.support.batch_servers import SumsServicer
from tests.support.waiting import eventually

ROWS = 200


def written(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def errors_of(output: Path) -> Path:
    return output.with_name(f"{output.name}.errors.jsonl")


def names(folder: Path, pattern: str) -> list[str]:
    return sorted(path.name for path in folder.glob(pattern))


def folder_of(job: batch_job_pb2.BatchJob, tmp_path: Path) -> Path:
    return tmp_path / "data" / "jobs" / job.job_id


async def test_every_row_is_predicted_beside_its_key(service: Service, model: SumsServicer, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS, bad=(7,))
    made = await service.submit(source, target, job_name="nightly", labels={"team": "red"})
    assert made.status in ("pending", "running")
    assert made.model_version == "v1.0.0"
    job = await service.ended(made.job_id)
    assert job.status == "completed", job.error_message
    assert (job.progress.total_records, job.progress.processed_records, job.progress.failed_records) == (ROWS, ROWS, 1)
    assert job.progress.percent_complete == 100
    assert job.metrics.throughput_per_sec > 0
    assert job.metrics.avg_latency_ms > 0
    rows = written(target)
    assert [row["id"] for row in rows] == [1000 + row for row in range(ROWS) if row != 7]
    assert [row["output"] for row in rows] == [row / 4 + row % 90 for row in range(ROWS) if row != 7]
    assert set(rows[0]) == {"id", "output", "confidence", "class", "probabilities", "model_version"}
    (failed,) = written(errors_of(target))
    assert (failed["row_number"], failed["key"], failed["error_reason"]) == (7, "1007", "SCHEMA_VIOLATION")
    listed = await service.stub.ListFailedRows(batch_service_pb2.ListFailedRowsRequest(job_id=job.job_id))
    assert [row.error_message for row in listed.failed_rows] == [failed["error_message"]]
    assert all(headers["x-priority"] == "background" for headers in model.headers)
    assert 'batch_rows_total{model="sums",outcome="predicted",version="v1.0.0"} 199.0' in service.metrics()
    await eventually(lambda: not folder_of(job, tmp_path).exists(), what="parts are cleared away")
    assert names(tmp_path, ".out*") == []


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
async def test_killed_in_its_middle_a_job_resumes_and_its_output_is_the_same(
    service: Service, model: SumsServicer, tmp_path: Path, ending: str
) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, ROWS, bad=(0, 7, 150))
    whole = tmp_path / f"whole.{ending}"
    assert (await service.ended((await service.submit(source, whole)).job_id)).status == "completed"
    target = tmp_path / f"resumed.{ending}"
    answered = model.answered_rows
    model.hold_after(20)
    job_id = (await service.submit(source, target)).job_id
    for chunks in (1, 2):
        # How many it sends at once is the worker's to find out.
        await eventually(lambda: model.held >= 1, what="the job is in its middle")
        await eventually(partial(chunks_done, service, job_id, chunks), what="chunks are recorded")
        await service.kill()
        assert not target.exists()
        model.held = 0
        model.hold_after(13)
        await service.start()
    model.release()
    job = await service.ended(job_id)
    assert job.status == "completed", job.error_message
    assert (job.progress.processed_records, job.progress.failed_records) == (ROWS, 3)
    assert target.read_bytes() == whole.read_bytes()
    assert errors_of(target).read_bytes() == errors_of(whole).read_bytes()
    # What was recorded before a kill was not asked again.
    assert ROWS - 3 <= model.answered_rows - answered < 2 * ROWS
    if ending == "csv":
        with target.open(newline="") as file:
            assert len(list(csv.DictReader(file))) == ROWS - 3
    elif ending == "parquet":
        assert pq.read_table(target).num_rows == ROWS - 3


async def chunks_done(service: Service, job_id: str, chunks: int = 1) -> bool:
    return (await service.get(job_id)).progress.completed_chunks >= chunks


async def test_a_stop_gives_the_job_back_and_the_next_start_goes_on(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(20)
    job = await service.submit(source, target)
    await eventually(lambda: chunks_done(service, job.job_id), what="a chunk is recorded")
    await service.stop()
    model.release()
    await service.start()
    ended = await service.ended(job.job_id)
    assert ended.status == "completed"
    assert [row["id"] for row in written(target)] == [1000 + row for row in range(ROWS)]


async def test_a_cancelled_job_leaves_nothing(service: Service, model: SumsServicer, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(20)
    job = await service.submit(source, target)
    await eventually(lambda: chunks_done(service, job.job_id), what="a chunk is recorded")
    for _ in range(2):
        cancelled = await service.stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=job.job_id))
        assert cancelled.status == "cancelled"
    await eventually(lambda: not folder_of(job, tmp_path).exists(), what="parts are cleared away")
    model.release()
    assert (await service.get(job.job_id)).status == "cancelled"
    assert names(tmp_path, "*out*") == []
    retried = await service.stub.RetryBatchJob(batch_service_pb2.RetryBatchJobRequest(job_id=job.job_id))
    assert (retried.status, retried.attempt, retried.progress.processed_records) == ("pending", 2, 0)
    assert (await service.ended(job.job_id)).status == "completed"
    assert len(written(target)) == ROWS
    with pytest.raises(MeshError, match="completed") as error:
        await service.stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=job.job_id))
    assert error.value.reason is Reason.JOB_STATE_INVALID


async def test_a_dead_batcher_is_waited_for(
    service: Service, model: SumsServicer, model_port: ModelPort, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    await model_port.close()
    job = await service.submit(source, target)

    async def tried_again() -> bool:
        return "DEPENDENCY_UNAVAILABLE" in service.metrics()

    await eventually(tried_again, what="requests are sent again")
    assert (await service.get(job.job_id)).status == "running"
    await model_port.open()
    assert (await service.ended(job.job_id)).status == "completed"
    assert [row["id"] for row in written(target)] == [1000 + row for row in range(ROWS)]


async def test_a_dead_database_is_waited_for(
    service: Service, model: SumsServicer, database_url: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(20)
    job = await service.submit(source, target)
    await eventually(lambda: chunks_done(service, job.job_id), what="a chunk is recorded")
    async with unreachable(database_url):
        model.release()
        with pytest.raises(MeshError) as error:
            await service.get(job.job_id)
        assert error.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        await eventually(lambda: not_serving(service), what="the service says that it is not healthy")
    assert (await service.ended(job.job_id)).status == "completed"
    assert [row["id"] for row in written(target)] == [1000 + row for row in range(ROWS)]


async def not_serving(service: Service) -> bool:
    return await service.health() == health_pb2.HealthCheckResponse.NOT_SERVING


async def test_requests_that_the_batcher_puts_off_are_sent_again(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    model.trouble = [
        MeshError(Reason.BACKEND_UNAVAILABLE, "restarting"),
        MeshError(Reason.QUEUE_FULL, "full", retry_after_s=0.3),
    ]
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, 40)
    job = await service.ended((await service.submit(source, target)).job_id)
    assert job.status == "completed"
    assert job.metrics.retry_count == 2
    assert len(written(target)) == 40
    counted = 'batch_request_retries_total{reason="QUEUE_FULL"} 1.0'
    await eventually(lambda: counted in service.metrics(), what="the worker says what it sent again")


async def test_what_cannot_be_is_refused_at_once(service: Service, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, 5)
    (tmp_path / "there.jsonl").write_text("mine")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "open.csv").write_text('id,a,b\n1,2,3\n2,"3,4\n')
    (tmp_path / "lacks.csv").write_text("id,a\n1,2\n")
    (tmp_path / "no.parquet").write_text("PAR")
    refusals: list[tuple[dict[str, object], Reason, str]] = [
        ({"model_name": "nobody"}, Reason.MODEL_NOT_FOUND, "nobody"),
        ({"model_version": "v9.0.0"}, Reason.VERSION_NOT_FOUND, "v9.0.0"),
        ({"batch_size": 70_000, "timeout_minutes": 50_000}, Reason.INVALID_FIELD, "batch_size.*timeout_minutes"),
        ({"notify_on_completion": "a@b.example"}, Reason.INVALID_FIELD, "INFERMESH_BATCH_SMTP_HOST"),
        ({"input_uri": "/nowhere/in.jsonl"}, Reason.INPUT_UNREADABLE, "/nowhere/in.jsonl"),
        ({"input_uri": str(tmp_path / "empty.csv")}, Reason.INPUT_UNREADABLE, "empty"),
        ({"input_uri": str(tmp_path / "open.csv")}, Reason.INPUT_UNREADABLE, "line 3 has a quote"),
        ({"input_uri": str(tmp_path / "lacks.csv")}, Reason.INPUT_UNREADABLE, "no column for 'b'"),
        ({"input_uri": str(tmp_path / "no.parquet")}, Reason.INPUT_UNREADABLE, "no Parquet file"),
        ({"output_uri": str(tmp_path / "there.jsonl")}, Reason.OUTPUT_UNWRITABLE, "exists"),
        ({"output_uri": "/nowhere/out.jsonl"}, Reason.OUTPUT_UNWRITABLE, "no folder"),
        ({"output_uri": str(source)}, Reason.INVALID_FIELD, "another file"),
    ]
    for changes, reason, words in refusals:
        with pytest.raises(MeshError, match=words) as error:
            await service.submit(source, target, **changes)
        assert error.value.reason is reason, changes
    with pytest.raises(MeshError) as error:
        await service.get("nobody")
    assert error.value.reason is Reason.JOB_NOT_FOUND
    assert list((await service.stub.ListBatchJobs(batch_service_pb2.ListBatchJobsRequest())).jobs) == []


async def test_the_same_request_id_is_the_same_job(service: Service, tmp_path: Path) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, 5)
    first = await service.submit(source, target, request_id="once")
    await service.ended(first.job_id)
    again = await service.submit(source, target, request_id="once")
    assert again.job_id == first.job_id
    with pytest.raises(MeshError) as error:
        await service.submit(source, target, request_id="once", labels={"a": "b"})
    assert error.value.reason is Reason.REQUEST_ID_REUSED


async def test_a_sample_is_what_the_output_would_begin_with(service: Service, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    write_rows(source, ROWS, bad=(1,))
    sample = await service.stub.SampleBatchJob(
        batch_service_pb2.SampleBatchJobRequest(model_name="sums", input_uri=str(source), row_count=4)
    )
    assert [json.loads(row)["id"] for row in sample.rows_json] == [1000, 1002, 1003]
    assert [row.row_number for row in sample.failed_rows] == [1]
    assert list(sample.columns)[:2] == ["id", "output"]


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("in.csv", "id,a,b\n" + "1,one,2\n" * 30, "row 0: column 'a' is 'one'; expected FP64"),
        ("in.csv", "id;a;b\n1;0.5;2\n", ""),
        ("in.jsonl", '{"id": 1, "a": "one", "b": 2}\n' * 2, "row 0: column 'a' is 'one'; expected FP64"),
        ("in.jsonl", '{"id": 1, "a": 0.5, "b": 5000}\n' * 12, "column 'b' is 5000; expected INT64, at most 1000"),
    ],
)
async def test_an_input_of_which_no_row_fits_is_refused_with_what_is_wrong(
    service: Service, tmp_path: Path, name: str, content: str, why: str
) -> None:
    source, target = tmp_path / name, tmp_path / "out.jsonl"
    source.write_text(content)
    with pytest.raises(MeshError) as error:
        await service.submit(source, target)
    assert error.value.reason is Reason.INPUT_UNREADABLE
    assert why in error.value.message
    if why:
        assert [one.field for one in error.value.violations] == ["input_uri"]
        made = await service.submit(source, target, max_failed_fraction=1.0)
        job = await service.ended(made.job_id)
        assert (job.status, job.progress.failed_records) == ("completed", job.progress.total_records)
        assert target.read_text() == ""


async def test_a_job_none_of_whose_rows_is_predicted_fails_unless_all_may_fail(
    service: Service, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    # They fit, and the model refuses each.
    source.write_text("".join(json.dumps({"id": row, "a": 0.5, "b": 666}) + "\n" for row in range(12)))
    job = await service.ended((await service.submit(source, target)).job_id)
    assert (job.status, job.error_reason) == ("failed", Reason.SCHEMA_VIOLATION)
    assert "none of 12 rows was predicted; row 0: " in job.error_message
    assert names(tmp_path, "out*") == []
    allowed = await service.ended((await service.submit(source, target, max_failed_fraction=1.0)).job_id)
    assert (allowed.status, allowed.progress.failed_records) == ("completed", 12)
    assert len(written(errors_of(target))) == 12


async def test_a_job_that_failed_for_its_bounds_is_changed_and_retried(service: Service, tmp_path: Path) -> None:
    """As its error says."""
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS, bad=(1, 2, 3))
    job = await service.ended((await service.submit(source, target, max_failed_fraction=1e-6)).job_id)
    assert job.status == "failed"
    assert "raise it and retry the job" in job.error_message
    changed = batch_job_pb2.BatchJob(job_id=job.job_id, max_failed_fraction=0.5)
    update = batch_service_pb2.UpdateBatchJobRequest(job=changed)
    assert (await service.stub.UpdateBatchJob(update)).status == "failed"
    await service.stub.RetryBatchJob(batch_service_pb2.RetryBatchJobRequest(job_id=job.job_id))
    done = await service.ended(job.job_id)
    assert (done.status, done.progress.failed_records) == ("completed", 3)
    assert len(written(target)) == ROWS - 3
    with pytest.raises(MeshError, match="is completed and cannot be changed") as error:
        await service.stub.UpdateBatchJob(update)
    assert error.value.reason is Reason.JOB_STATE_INVALID


async def test_a_job_is_watched_paused_changed_and_resumed(
    service: Service, model: SumsServicer, tmp_path: Path
) -> None:
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    write_rows(source, ROWS)
    model.hold_after(20)
    job = await service.submit(source, target)
    await eventually(lambda: chunks_done(service, job.job_id), what="a chunk is recorded")
    paused = await service.stub.PauseBatchJob(batch_service_pb2.PauseBatchJobRequest(job_id=job.job_id))
    assert (paused.status, paused.paused) == ("pending", True)
    model.release()
    update = batch_service_pb2.UpdateBatchJobRequest(
        job=batch_job_pb2.BatchJob(job_id=job.job_id, batch_size=50, etag=paused.etag)
    )
    assert (await service.stub.UpdateBatchJob(update)).batch_size == 50
    with pytest.raises(MeshError) as error:
        await service.stub.UpdateBatchJob(update)
    assert error.value.reason is Reason.ETAG_MISMATCH
    await service.stub.ResumeBatchJob(batch_service_pb2.ResumeBatchJobRequest(job_id=job.job_id))
    seen = [
        item async for item in service.stub.WatchBatchJob(batch_service_pb2.WatchBatchJobRequest(job_id=job.job_id))
    ]
    assert seen[-1].status == "completed"
    assert [row["id"] for row in written(target)] == [1000 + row for row in range(ROWS)]


async def test_rows_get_the_features_that_held_at_their_own_moment(service: Service, tmp_path: Path) -> None:
    source, history, target = tmp_path / "in.csv", tmp_path / "history.csv", tmp_path / "out.jsonl"
    source.write_text(
        "id,a,user,when\n"
        "1,0.5,ann,2026-02-01T12:00:00Z\n"
        "2,0.5,ann,2026-02-01T11:59:59Z\n"
        "3,0.5,bob,2026-02-01T12:00:00Z\n"
        "4,0.5,ann,2026-02-03T00:00:00Z\n"
    )
    history.write_text(
        "user,event_timestamp,b\nann,2026-01-01,1\nann,2026-02-01T12:00:00Z,2\nann,2026-03-01,3\nbob,2026-03-01,9\n"
    )
    options = batch_job_pb2.InputOptions(
        event_time_column="when",
        feature_sources=[batch_job_pb2.FeatureSource(uri=str(history), entity="user")],
    )
    made = await service.submit(source, target, input=options)
    assert made.input.feature_sources[0].timestamp_column == "event_timestamp"
    job = await service.ended(made.job_id)
    assert job.status == "completed", job.error_message
    assert {row["id"]: row["output"] for row in written(target)} == {"1": 2.5, "2": 1.5, "4": 2.5}
    (failed,) = written(errors_of(target))
    assert (failed["key"], failed["error_reason"]) == ("3", "FEATURE_MISSING")
    options.feature_sources[0].timestamp_column = "seen"
    with pytest.raises(MeshError, match="no column 'seen'"):
        await service.submit(source, tmp_path / "other.jsonl", input=options)
