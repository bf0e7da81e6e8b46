"""Schedules, notifications and samples through the command, against a server that says what a test wants."""

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import typer
from google.protobuf import empty_pb2
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from infermesh.client.cli.commands import batch, schedules
from typer.testing import CliRunner, Result

Schedule = batch_job_pb2.BatchSchedule
SCHEDULE = Schedule(
    schedule_id="batch_schedule_1",
    schedule_name="nightly",
    cron="0 3 * * *",
    time_zone="Europe/Berlin",
    overlap="skip",
    job=batch_job_pb2.BatchJob(model_name="digits", input_uri="/in.csv", output_uri="/out-{run}.csv"),
    run_count=3,
    last_error_message="INPUT_UNREADABLE: there is no file",
)


class Servicer(batch_service_pb2_grpc.BatchServiceServicer):
    """Keeps what it was asked, and knows one schedule."""

    def __init__(self) -> None:
        self.asked: list[object] = []

    def _kept(self, request: object) -> None:
        self.asked.append(request)

    def CreateBatchJob(
        self, request: batch_service_pb2.CreateBatchJobRequest, context: grpc.ServicerContext
    ) -> batch_job_pb2.BatchJob:
        self._kept(request)
        return batch_job_pb2.BatchJob(job_id="batch_job_1", status="pending")

    def _job(self, request: object, context: grpc.ServicerContext) -> batch_job_pb2.BatchJob:
        self._kept(request)
        return batch_job_pb2.BatchJob(job_id="batch_job_1", status="pending", paused="Pause" in type(request).__name__)

    PauseBatchJob = ResumeBatchJob = RetryBatchJob = UpdateBatchJob = _job

    def _nothing(self, request: object, context: grpc.ServicerContext) -> empty_pb2.Empty:
        self._kept(request)
        return empty_pb2.Empty()

    DeleteBatchJob = DeleteBatchSchedule = _nothing

    def SampleBatchJob(
        self, request: batch_service_pb2.SampleBatchJobRequest, context: grpc.ServicerContext
    ) -> batch_service_pb2.SampleBatchJobResponse:
        self._kept(request)
        return batch_service_pb2.SampleBatchJobResponse(
            columns=["id", "size", "output", "confidence", "probabilities"],
            rows_json=[
                json.dumps(
                    {"id": 1000, "size": "x" * 99, "output": "[b]7", "confidence": 0.25, "probabilities": [0.25] * 40}
                )
            ],
            failed_rows=[batch_job_pb2.FailedRow(row_number=1, key="k", error_reason="SCHEMA_VIOLATION")],
            model_version="v1.0.0",
        )

    def CreateBatchSchedule(
        self, request: batch_service_pb2.CreateBatchScheduleRequest, context: grpc.ServicerContext
    ) -> Schedule:
        self._kept(request)
        return SCHEDULE

    def GetBatchSchedule(
        self, request: batch_service_pb2.GetBatchScheduleRequest, context: grpc.ServicerContext
    ) -> Schedule:
        self._kept(request)
        if request.schedule_id != SCHEDULE.schedule_id:
            context.abort(grpc.StatusCode.NOT_FOUND, f"there is no batch schedule {request.schedule_id}")
        return SCHEDULE

    def ListBatchSchedules(
        self, request: batch_service_pb2.ListBatchSchedulesRequest, context: grpc.ServicerContext
    ) -> batch_service_pb2.ListBatchSchedulesResponse:
        return batch_service_pb2.ListBatchSchedulesResponse(schedules=[SCHEDULE])

    def UpdateBatchSchedule(
        self, request: batch_service_pb2.UpdateBatchScheduleRequest, context: grpc.ServicerContext
    ) -> Schedule:
        self._kept(request)
        return SCHEDULE


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()  # type: ignore[abstract]  # only what the client calls


@pytest.fixture
def run(servicer: Servicer) -> Iterator[Callable[..., Result]]:
    server = grpc.server(ThreadPoolExecutor(4))
    batch_service_pb2_grpc.add_BatchServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    app = typer.Typer()
    batch.add_to(app)
    schedules.add_to(app)
    yield lambda *arguments: CliRunner().invoke(app, [*arguments, "--gateway", f"127.0.0.1:{port}"])
    server.stop(grace=None).wait()


def test_a_schedule_is_made_with_all_that_was_said(
    run: Callable[..., Result], servicer: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("nightly", "0 3 * * *", "digits", "in-{date}.csv", "/out-{run}.csv", "--time-zone", "Europe/Berlin")
    finished = run("schedules", "create", *words, "--overlap", "queue", "--notify", "failed=#alerts")
    assert finished.exit_code == 0, finished.output
    assert "there is no file" in finished.stdout
    (request,) = servicer.asked
    assert isinstance(request, batch_service_pb2.CreateBatchScheduleRequest)
    schedule = request.schedule
    assert request.request_id.startswith("req_")
    assert (schedule.schedule_name, schedule.cron, schedule.time_zone) == ("nightly", "0 3 * * *", "Europe/Berlin")
    assert (schedule.overlap, schedule.job.input_uri) == ("queue", str(tmp_path / "in-{date}.csv"))
    assert schedule.job.notifications[0].slack_channel == "alerts"


def test_a_schedule_is_named_by_its_name_or_id(run: Callable[..., Result], servicer: Servicer) -> None:
    for word in ("nightly", "batch_schedule_1"):
        finished = run("schedules", "show", word, "--json")
        assert finished.exit_code == 0, finished.output
        assert json.loads(finished.stdout)["cron"] == "0 3 * * *"
    missing = run("schedules", "show", "weekly")
    assert missing.exit_code == 3
    listed = run("schedules", "list")
    assert "nightly" in listed.stdout
    assert "0 3 * * * Europe/Berlin" in " ".join(listed.stdout.split())


def test_a_schedule_is_changed_paused_resumed_and_removed(run: Callable[..., Result], servicer: Servicer) -> None:
    assert run("schedules", "change", "nightly", "--cron", "30 4 * * *").exit_code == 0
    assert run("schedules", "pause", "nightly").exit_code == 0
    assert run("schedules", "resume", "nightly").exit_code == 0
    assert run("schedules", "delete", "nightly").exit_code == 0
    assert run("schedules", "change", "nightly").exit_code == 2
    changed, paused, resumed, deleted = servicer.asked
    for request, mask, value in ((changed, ["cron"], False), (paused, ["paused"], True), (resumed, ["paused"], False)):
        assert isinstance(request, batch_service_pb2.UpdateBatchScheduleRequest)
        assert (list(request.update_mask.paths), request.schedule.paused) == (mask, value)
    assert isinstance(deleted, batch_service_pb2.DeleteBatchScheduleRequest)
    assert deleted.schedule_id == "batch_schedule_1"


def test_whom_to_tell_is_read_off_one_option(run: Callable[..., Result], servicer: Servicer) -> None:
    told = ("ann@b.example", "failed,cancelled=bob@b.example", "https://a.example/?state=failed", "running=#alerts")
    words = [word for one in told for word in ("--notify", one)]
    finished = run("batch", "submit", "digits", "/in.csv", "/out.csv", *words)
    assert finished.exit_code == 0, finished.output
    (request,) = servicer.asked
    assert isinstance(request, batch_service_pb2.CreateBatchJobRequest)

    assert list(request.notifications) == [
        batch_job_pb2.Notification(email="ann@b.example"),
        batch_job_pb2.Notification(email="bob@b.example", statuses=["failed", "cancelled"]),
        batch_job_pb2.Notification(webhook_url="https://a.example/?state=failed"),
        batch_job_pb2.Notification(slack_channel="alerts", statuses=["running"]),
    ]
    wrong = run("batch", "submit", "digits", "/in.csv", "/out.csv", "--notify", "ann")
    assert wrong.exit_code == 2
    assert len(servicer.asked) == 1


def test_a_sample_is_a_table_of_the_first_rows(run: Callable[..., Result], servicer: Servicer) -> None:
    finished = run("batch", "sample", "digits", "/in.csv", "--rows", "7", "--column", "size")
    assert finished.exit_code == 0, finished.output
    for word in ("digits v1.0.0: 1 of the first 2 rows predicted", "size", "xx…", "1000", "[b]7", "SCHEMA_VIOLATION"):
        assert word in finished.stdout
    assert "probabilities" not in finished.stdout
    (request,) = servicer.asked
    assert isinstance(request, batch_service_pb2.SampleBatchJobRequest)
    assert (request.model_name, request.input_uri, request.row_count) == ("digits", "/in.csv", 7)
    assert list(request.output.columns) == ["size"]
    assert not request.output.explain
    whole = json.loads(run("batch", "sample", "digits", "/in.csv", "--json").stdout)
    assert whole["rows"][0]["probabilities"] == [0.25] * 40
    assert whole["columns"] == ["id", "size", "output", "confidence", "probabilities"]
    assert run("batch", "sample", "digits", "/in.csv", "--explain").exit_code == 0
    # The service knows how many are the default: 100, or fewer that are explained.
    explained = servicer.asked[-1]
    assert isinstance(explained, batch_service_pb2.SampleBatchJobRequest)
    assert (explained.output.explain, explained.row_count) == (True, 0)


def test_what_is_asked_of_a_job_is_changed_and_what_is_not_named_stays(
    run: Callable[..., Result], servicer: Servicer
) -> None:
    assert run("batch", "change", "batch_job_1", "--max-failed", "0", "--batch-size", "50").exit_code == 0
    (asked,) = servicer.asked
    assert isinstance(asked, batch_service_pb2.UpdateBatchJobRequest)
    named = {field.name: value for field, value in asked.job.ListFields()}
    assert named == {"job_id": "batch_job_1", "batch_size": 50, "max_failed_fraction": 0}
    nothing = run("batch", "change", "batch_job_1")
    assert nothing.exit_code == 2
    assert "nothing to change" in nothing.stderr
    assert len(servicer.asked) == 1


def test_jobs_are_paused_resumed_tried_again_and_forgotten(run: Callable[..., Result], servicer: Servicer) -> None:
    assert "paused" in run("batch", "pause", "batch_job_1").stdout
    for word in ("resume", "retry", "delete"):
        assert run("batch", word, "batch_job_1").exit_code == 0
    assert [type(request).__name__ for request in servicer.asked] == [
        "PauseBatchJobRequest",
        "ResumeBatchJobRequest",
        "RetryBatchJobRequest",
        "DeleteBatchJobRequest",
    ]
