"""Jobs through the client and the command, against a server that says what a test wants."""

import json
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import typer
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2, batch_service_pb2_grpc
from infermesh.client.batch import Batch
from infermesh.client.cli import batch_following
from infermesh.client.cli.batch_following import Lines
from infermesh.client.cli.commands import batch as batch_commands
from infermesh.client.errors import InfermeshError
from infermesh.client.transport import Transport
from typer.testing import CliRunner, Result

Job = batch_job_pb2.BatchJob
Source = batch_job_pb2.FeatureSource
CTRL_C = "Ctrl-C"
Step = Job | grpc.StatusCode | str


def job(status: str, done: int = 0, total: int = 100, failed: int = 0) -> Job:
    return Job(
        job_id="batch_job_1",
        status=status,
        progress=batch_job_pb2.BatchJobProgress(
            processed_records=done,
            total_records=total,
            percent_complete=100 * done / total,
            failed_records=failed,
            total_chunks=10,
            completed_chunks=10 * done // total,
        ),
        metrics=batch_job_pb2.BatchJobMetrics(throughput_per_sec=10, running_s=12.34),
    )


def words_of(text: str) -> str:
    """A text without what only aligns it."""
    return " ".join(text.split())


class Servicer(batch_service_pb2_grpc.BatchServiceServicer):
    """Keeps what it was asked. Each watching gets the next script: jobs, a status to break off with, or the moment at
    which who watches presses Ctrl-C."""

    def __init__(self) -> None:
        self.created: list[batch_service_pb2.CreateBatchJobRequest] = []
        self.sampled: list[batch_service_pb2.SampleBatchJobRequest] = []
        self.listed: list[batch_service_pb2.ListBatchJobsRequest] = []
        self.scripts: list[list[Step]] = []
        self.watched = 0
        self.left = threading.Event()
        """Who watched has gone."""
        self.said = threading.Event()
        """Who watches has said something."""

    def CreateBatchJob(self, request: batch_service_pb2.CreateBatchJobRequest, context: grpc.ServicerContext) -> Job:
        self.created.append(request)
        return job("pending", total=1)

    def SampleBatchJob(
        self, request: batch_service_pb2.SampleBatchJobRequest, context: grpc.ServicerContext
    ) -> batch_service_pb2.SampleBatchJobResponse:
        self.sampled.append(request)
        return batch_service_pb2.SampleBatchJobResponse(columns=["id"], rows_json=['{"id": 1}'])

    def ListBatchJobs(
        self, request: batch_service_pb2.ListBatchJobsRequest, context: grpc.ServicerContext
    ) -> batch_service_pb2.ListBatchJobsResponse:
        self.listed.append(request)
        place = int(request.page_token or 0)
        return batch_service_pb2.ListBatchJobsResponse(
            jobs=[Job(job_id=f"job_{place + number}") for number in range(2)], next_page_token=str(place + 2)
        )

    def CancelBatchJob(self, request: batch_service_pb2.CancelBatchJobRequest, context: grpc.ServicerContext) -> Job:
        context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"job {request.job_id} is completed")

    def WatchBatchJob(
        self, request: batch_service_pb2.WatchBatchJobRequest, context: grpc.ServicerContext
    ) -> Iterator[Job]:
        self.watched += 1
        for step in self.scripts.pop(0):
            if isinstance(step, Job):
                yield step
            elif isinstance(step, str):
                context.add_callback(self.left.set)
                assert self.said.wait(30)
                signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
                assert self.left.wait(30)
            else:
                context.abort(step, "broken off")

    def ListFailedRows(
        self, request: batch_service_pb2.ListFailedRowsRequest, context: grpc.ServicerContext
    ) -> batch_service_pb2.ListFailedRowsResponse:
        rows = [
            batch_job_pb2.FailedRow(row_number=number, key=f"key-{number}", error_reason="SCHEMA_VIOLATION")
            for number in range(12)
        ]
        return batch_service_pb2.ListFailedRowsResponse(failed_rows=rows)


@pytest.fixture
def servicer() -> Servicer:
    return Servicer()  # type: ignore[abstract]  # only what the client calls


@pytest.fixture
def address(servicer: Servicer) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    batch_service_pb2_grpc.add_BatchServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"127.0.0.1:{port}"
    server.stop(grace=None).wait()


@pytest.fixture
def batch(address: str) -> Iterator[Batch]:
    transport = Transport(address, timeout_s=30)
    yield Batch(transport)
    transport.close()


@pytest.fixture
def run(address: str) -> Callable[..., Result]:
    app = typer.Typer()
    batch_commands.add_to(app)
    return lambda *arguments: CliRunner().invoke(app, ["batch", *arguments, "--gateway", address])


def test_each_submission_has_an_id_of_its_own(batch: Batch, servicer: Servicer) -> None:
    batch.submit("digits", "/in.csv", "/out.csv", version="v1.0.0", max_failed_fraction=0.0)
    batch.submit("digits", "/in.csv", "/out.csv", request_id="mine")
    first, second = servicer.created
    assert first.request_id.startswith("req_")
    assert first.HasField("max_failed_fraction")
    assert second.request_id == "mine"
    assert not second.HasField("max_failed_fraction")


def test_lists_go_over_pages_and_end_at_the_limit(batch: Batch, servicer: Servicer) -> None:
    assert [item.job_id for item in batch.list(limit=3)] == ["job_0", "job_1", "job_2"]
    assert [item.page_token for item in servicer.listed] == ["", "2"]


def test_watching_outlives_broken_streams(batch: Batch, servicer: Servicer) -> None:
    servicer.scripts = [
        [job("pending"), grpc.StatusCode.UNAVAILABLE],
        [job("pending"), job("running", 10)],
        [grpc.StatusCode.INTERNAL],
        [job("running", 10), job("completed", 100), job("running", 1)],
    ]
    seen = [(item.status, item.progress.processed_records) for item in batch.watch("batch_job_1")]
    assert seen == [("pending", 0), ("running", 10), ("completed", 100)]
    assert servicer.watched == 4


def test_what_the_first_look_meets_is_raised(batch: Batch, servicer: Servicer) -> None:
    servicer.scripts = [[grpc.StatusCode.UNAVAILABLE]]
    with pytest.raises(InfermeshError, match="broken off"):
        batch.wait("batch_job_1")
    assert servicer.watched == 1


@pytest.mark.parametrize(
    "after", [[grpc.StatusCode.NOT_FOUND], [grpc.StatusCode.PERMISSION_DENIED]], ids=lambda steps: steps[0].name
)
def test_what_will_not_pass_ends_the_watching(batch: Batch, servicer: Servicer, after: Iterable[Step]) -> None:
    servicer.scripts = [[job("running"), grpc.StatusCode.UNAVAILABLE], list(after)]
    with pytest.raises(InfermeshError, match="broken off"):
        batch.wait("batch_job_1")


def test_an_outage_is_endured_for_so_long(batch: Batch, servicer: Servicer) -> None:
    away: list[Step] = [grpc.StatusCode.UNAVAILABLE]
    servicer.scripts = [[job("running")], *(away for _ in range(50))]
    with pytest.raises(InfermeshError) as caught:
        list(batch.watch("batch_job_1", outage_timeout_s=1.0))
    assert caught.value.code is grpc.StatusCode.UNAVAILABLE
    assert servicer.watched > 2


def test_watching_ends_at_its_deadline_and_says_how_far_the_job_is(batch: Batch, servicer: Servicer) -> None:
    moments = iter([0.0, 0.0, 5.0])
    servicer.scripts = [[job("running", 25), grpc.StatusCode.DEADLINE_EXCEEDED]]
    with pytest.raises(InfermeshError, match=r"within 5 s; it is running at 25\.0 %") as caught:
        list(batch.watch("batch_job_1", timeout_s=5, monotonic=lambda: next(moments)))
    assert caught.value.code is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_command_prints_a_line_for_each_change(run: Callable[..., Result], servicer: Servicer) -> None:
    servicer.scripts = [[job("running", 50), job("completed", 100)]]
    finished = run("watch", "batch_job_1", "--json")
    assert finished.exit_code == 0, finished.output
    assert [json.loads(line)["progress"]["processed_records"] for line in finished.stdout.splitlines()] == [50, 100]


def test_the_command_draws_what_became_of_it(run: Callable[..., Result], servicer: Servicer) -> None:
    servicer.scripts = [[job("running", 50), job("completed", 100)]]
    finished = run("watch", "batch_job_1")
    assert finished.exit_code == 0, finished.output
    assert "completed" in finished.stdout
    assert "seconds 12.3" in words_of(finished.stdout)


def test_a_submission_is_followed_to_its_end(run: Callable[..., Result], servicer: Servicer) -> None:
    pending = job("pending")
    servicer.scripts = [[pending, job("running", 50), job("running", 50, failed=1), job("completed", 100, failed=12)]]
    finished = run("submit", "digits", "/in.csv", "/out.csv", "--column", "a", "--column", "b", "--follow")
    assert finished.exit_code == 0, finished.output
    (request,) = servicer.created
    assert list(request.output.columns) == ["a", "b"]
    # Nobody looks: a line for each change that says something, on standard error.
    assert [line.split(" · ")[0] for line in finished.stderr.splitlines()[1:]] == [
        "batch_job_1 waiting for its turn",
        "batch_job_1 predicting",
        "batch_job_1 completed",
    ]
    assert "50 % · 50 of 100 rows · 10 rows/s · 5s left" in finished.stderr
    # What became of it is the result, with the first rows that failed.
    for word in ("completed", "rows 100", "failed 12", "rows/s 10", "key-9 SCHEMA_VIOLATION"):
        assert word in words_of(finished.stdout)
    assert "key-10" not in finished.stdout
    assert "and 2 more: infermesh batch failed batch_job_1" in finished.stdout


@pytest.mark.parametrize("command", [("submit", "digits", "/in", "/out.csv"), ("sample", "digits", "/in")])
def test_how_the_input_is_read_is_sent(
    run: Callable[..., Result], servicer: Servicer, command: tuple[str, ...]
) -> None:
    words = ("--input-format", "csv", "--delimiter", ";", "--feature", "X=pixels", "--feature", "y=a=b", "--key", "id")
    finished = run(*command, *words)
    assert finished.exit_code == 0, finished.output
    (read,) = (request.input for asked in (servicer.created, servicer.sampled) for request in asked)
    assert read == batch_job_pb2.InputOptions(
        format="csv", delimiter=";", feature_columns={"X": "pixels", "y": "a=b"}, key_column="id"
    )


@pytest.mark.parametrize(("wrong", "word"), [(("X",), "names no column"), (("X=a", "X=b"), "is given twice")])
def test_a_feature_without_a_column_is_refused(
    run: Callable[..., Result], servicer: Servicer, wrong: tuple[str, ...], word: str
) -> None:
    finished = run("submit", "digits", "/in.csv", "/out.csv", *(part for one in wrong for part in ("--feature", one)))
    assert finished.exit_code == 2
    assert word in words_of(finished.output.replace("│", " "))
    assert servicer.created == []


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("cancelled", 5)])
def test_the_exit_code_says_how_it_ended(
    run: Callable[..., Result], servicer: Servicer, status: str, code: int
) -> None:
    servicer.scripts = [[job("running", 50), job(status, 50)]]
    finished = run("submit", "digits", "/in.csv", "/out.csv", "-f")
    assert finished.exit_code == code
    assert status in finished.stdout
    assert ("infermesh batch retry batch_job_1" in finished.stderr) == bool(code)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Ctrl-C interrupts, also where whoever started the tests in the background had it ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize(
    "arguments", [("submit", "digits", "/in.csv", "/out.csv", "--follow"), ("watch", "batch_job_1")]
)
def test_ctrl_c_leaves_the_job_running_and_says_how_to_come_back(
    run: Callable[..., Result], servicer: Servicer, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Heard(Lines):
        def __call__(self, job: Job) -> str:
            text = super().__call__(job)
            servicer.said.set()
            return text

    monkeypatch.setattr(batch_following, "Lines", Heard)
    servicer.scripts = [[job("running", 42), CTRL_C]]
    finished = run(*arguments)
    assert finished.exit_code == 130
    assert "job batch_job_1 goes on, 42.0 % done" in finished.stderr
    for word in ("watch", "cancel"):
        assert f"`infermesh batch {word} batch_job_1`" in finished.stderr
    assert finished.stdout == ""
    # It went away, and asked for nothing else: a cancellation would be a failure here.
    assert servicer.left.wait(30)


def test_an_outage_says_that_the_job_goes_on(
    run: Callable[..., Result], servicer: Servicer, monkeypatch: pytest.MonkeyPatch
) -> None:
    away: list[Step] = [grpc.StatusCode.UNAVAILABLE]
    servicer.scripts = [[job("running", 42)], *(away for _ in range(50))]
    monkeypatch.setattr(Batch.watch, "__kwdefaults__", {**(Batch.watch.__kwdefaults__ or {}), "outage_timeout_s": 0.5})
    finished = run("watch", "batch_job_1")
    assert finished.exit_code == 4
    assert "job batch_job_1 goes on, 42.0 % done" in finished.stderr


def test_feature_sources_and_the_column_of_moments_are_sent(
    run: Callable[..., Result], servicer: Servicer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = {"uri": "more.csv", "entity": "item", "timestamp_column": "seen", "features": ["price"], "max_age_s": 60}
    (tmp_path / "source.json").write_text(json.dumps({"uri": "file:///d/third.parquet", "entity": "shop"}))
    told = ("stats=2026.parquet=user_id", json.dumps(whole), "@source.json")
    sources = [word for one in told for word in ("--feature-source", one)]
    finished = run("submit", "digits", "/in.csv", "/out.csv", "--event-time", "when", *sources)
    assert finished.exit_code == 0, finished.output
    (request,) = servicer.created
    assert request.input.event_time_column == "when"
    assert list(request.input.feature_sources) == [
        Source(uri=str(tmp_path / "stats=2026.parquet"), entity="user_id"),
        Source(**{**whole, "uri": str(tmp_path / "more.csv")}),  # type: ignore[arg-type]
        Source(uri="file:///d/third.parquet", entity="shop"),
    ]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--feature-source", "stats.csv=user_id"], "--feature-source needs --event-time COLUMN"),
        (["--event-time", "when"], "--event-time when says nothing without --feature-source FILE=ENTITY"),
        (["--event-time", "when", "--feature-source", "stats.csv"], "'stats.csv' names no file; say FILE=ENTITY"),
        (["--event-time", "when", "--feature-source", "stats.csv="], "names no column that says whose values they are"),
        (["--event-time", "when", "--feature-source", '{"uri": "a.csv"}'], "names no column that says whose"),
        (
            ["--event-time", "when", "--feature-source", '{"url": "a.csv"}'],
            "url is no field of a feature source; allowed: uri",
        ),
        (["--event-time", "when", "--feature-source", '{"max_age_s": "x"}'], "max_age_s"),
        (["--event-time", "when", "--feature-source", "{"], "the value is no JSON"),
        (["--event-time", "when", "--feature-source", "@/nowhere"], "cannot read /nowhere"),
    ],
)
def test_what_is_wrong_with_a_source_is_said_before_anything_is_sent(
    run: Callable[..., Result], servicer: Servicer, arguments: list[str], words: str
) -> None:
    finished = run("submit", "digits", "/in.csv", "/out.csv", *arguments)
    assert finished.exit_code == 2
    assert words in " ".join(finished.output.replace("│", " ").split())
    assert servicer.created == []


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("cancelled", 5)])
def test_a_job_that_did_not_complete_is_a_failure(
    run: Callable[..., Result], servicer: Servicer, status: str, code: int
) -> None:
    ended = job(status)
    ended.error_message, ended.error_reason = "row 3 is damaged", "INPUT_UNREADABLE"
    servicer.scripts = [[ended]]
    finished = run("watch", "batch_job_1", "--json")
    assert finished.exit_code == code
    assert json.loads(finished.stdout)["status"] == status
    assert status in json.loads(finished.stderr)["error"]["message"]


def test_what_has_ended_cannot_be_cancelled(run: Callable[..., Result]) -> None:
    finished = run("cancel", "batch_job_1")
    assert finished.exit_code == 5
    assert finished.stdout == ""
    assert "is completed" in finished.stderr
