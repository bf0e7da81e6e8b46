"""What needs no mesh of jobs: where a file is, and how a job looks in a terminal."""

import io
from pathlib import Path

import pytest
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import location
from infermesh.client.cli.batch_following import Lines, going_on, job_drawn
from infermesh.client.cli.batch_views import deliveries_listed, figures, job_shown, job_table, phase, result_shown
from infermesh.client.cli.quantities import now
from rich.console import Console, RenderableType

Job = batch_job_pb2.BatchJob


def test_a_relative_path_is_one_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location("rows.csv") == str(tmp_path / "rows.csv")
    assert location(Path("/data/rows.csv")) == "/data/rows.csv"
    assert location("s3://bucket/rows.csv") == "s3://bucket/rows.csv"


def job(status: str = "running", done: int = 0, total: int = 0, *, failed: int = 0, paused: bool = False) -> Job:
    """A job of ten steps, once it is cut."""
    progress = batch_job_pb2.BatchJobProgress(
        processed_records=done,
        total_records=total,
        failed_records=failed,
        percent_complete=100 * done / total if total else 0,
        total_chunks=10 if total else 0,
        completed_chunks=10 * done // total if total else 0,
    )
    metrics = batch_job_pb2.BatchJobMetrics(throughput_per_sec=10 if done else 0, running_s=61.25)
    return Job(
        job_id="batch_job_00000000000000000000",
        status=status,
        paused=paused,
        output_uri="/out.csv",
        progress=progress,
        metrics=metrics,
    )


def printed(what: RenderableType, width: int) -> list[str]:
    """The lines of something in a terminal of this width."""
    out = io.StringIO()
    Console(file=out, width=width, highlight=False).print(what)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (job("pending"), "waiting for its turn"),
        (job("pending", 50, 100), "waiting for its turn"),
        (job("pending", paused=True), "paused"),
        (job("running"), "cutting"),
        (job("running", 0, 100), "predicting"),
        (job("running", 99, 100), "predicting"),
        (job("running", 100, 100), "publishing"),
        (job("completed", 100, 100), "completed"),
        (job("cancelled", 50, 100, paused=True), "cancelled"),
    ],
)
def test_what_a_job_is_at_has_a_name(seen: Job, words: str) -> None:
    assert phase(seen) == words


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (job("running"), ""),
        (job("running", 0, 100), "0 of 100 rows"),
        (job("running", 50, 100), "50 of 100 rows · 10 rows/s · 5s left"),
        (job("running", 10, 72_620, failed=3), "10 of 72,620 rows · 10 rows/s · 2h 01m left · 3 failed"),
        (job("running", 100, 100), "100 of 100 rows"),
        (job("pending", 50, 100, paused=True), "50 of 100 rows"),
        (job("completed", 100, 100), "100 of 100 rows · 10 rows/s"),
    ],
)
def test_figures_say_what_is_known_and_no_more(seen: Job, text: str) -> None:
    assert figures(seen) == text


@pytest.mark.parametrize("width", [80, 140])
def test_a_bar_fills_the_terminal_and_says_all_beneath(width: int) -> None:
    seen = job("running", 420_000, 1_000_000, failed=1_234)
    seen.metrics.throughput_per_sec = 8_512
    top, below = printed(job_drawn(seen, now()), width)
    assert len(top) == width
    assert top.startswith("predicting ━")
    assert top.endswith(" 42.0 %")
    assert below == "420,000 of 1,000,000 rows · 8,512 rows/s · 1m 08s left · 1,234 failed"


@pytest.mark.parametrize("seen", [job("running"), job("pending")])
def test_a_bar_lives_while_nothing_is_counted(seen: Job) -> None:
    top, *_ = printed(job_drawn(seen, now()), 80)
    assert top.startswith(f"{phase(seen)} ━")
    assert "%" not in top


def test_a_paused_job_says_how_it_goes_on() -> None:
    text = " ".join(printed(job_drawn(job("pending", 50, 100, paused=True), now()), 140))
    assert "paused" in text
    assert "`infermesh batch resume batch_job_00000000000000000000` lets it go on" in text


def test_a_log_has_a_line_for_each_phase_and_percent() -> None:
    line = Lines()
    states = [job("pending"), job("running"), job("running"), *(job("running", done, 1000) for done in range(100))]
    said = [text for text in map(line, [*states, job("pending", 99, 1000, paused=True)]) if text]
    assert len(said) == 2 + 10 + 1
    assert said[0] == "batch_job_00000000000000000000 waiting for its turn"
    assert said[1].endswith("cutting")
    assert said[-2] == "batch_job_00000000000000000000 predicting · 9 % · 90 of 1,000 rows · 10 rows/s · 1m 31s left"
    assert said[-1] == "batch_job_00000000000000000000 paused · 9 % · 99 of 1,000 rows"


def test_who_stops_following_is_told_what_is_true() -> None:
    assert "goes on, 50.0 % done" in going_on(job("running", 50, 100))
    assert "is failed: `infermesh batch show" in going_on(job("failed", 50, 100))


@pytest.mark.parametrize("width", [80, 140])
def test_the_result_is_a_table_with_what_failed_beneath(width: int) -> None:
    ended = job("completed", 1_000_000, 1_000_000, failed=12)
    ended.errors_uri = "/out.csv.errors.jsonl"
    failed = [batch_job_pb2.FailedRow(row_number=7, key="k7", error_reason="SCHEMA_VIOLATION", error_message="a [b]")]
    lines = [" ".join(line.split()) for line in printed(result_shown(ended, failed), width)]
    for line in ("output /out.csv", "rows 1,000,000", "failed 12, all in /out.csv.errors.jsonl", "seconds 61.2"):
        assert line in lines
    assert "7 k7 SCHEMA_VIOLATION a [b]" in lines
    assert lines[-1] == "and 11 more: infermesh batch failed batch_job_00000000000000000000"


def test_a_job_that_did_not_complete_has_no_output() -> None:
    lines = [" ".join(line.split()) for line in printed(result_shown(job("failed", 50, 100), []), 80)]
    assert "output none" in lines
    assert "rows 50 of 100" in lines


@pytest.mark.parametrize("width", [80, 140])
def test_who_was_told_is_shown_with_why_who_was_not(width: int) -> None:
    told = batch_job_pb2.NotificationDelivery
    waiting = told(means="slack", address="alerts", status="failed", outcome="waiting", tries=2, last_problem="away")
    waiting.next_try_time.FromSeconds(1_770_000_000)
    given_up = told(
        means="webhook", address="https://a.example/…", status="failed", outcome="given_up", tries=1, last_problem="404"
    )
    seen = job("failed")
    seen.deliveries.extend([waiting, given_up, told(means="email", address="a@b.example", outcome="sent", tries=1)])
    text = " ".join(" ".join(printed(job_shown(seen, []), width)).split())
    assert " ".join(" ".join(printed(deliveries_listed(seen.deliveries), width)).split()) in text
    for word in (
        "#alerts",
        "waiting",
        "away; again at",
        "https://a.example/…",
        "given_up",
        "404",
        "a@b.example",
        "sent",
    ):
        assert word in text


def listed(width: int) -> list[str]:
    """The lines of a list of two jobs."""
    made = []
    for number, (status, done) in enumerate((("running", 625_000), ("completed", 1_250_000))):
        progress = batch_job_pb2.BatchJobProgress(
            processed_records=done, total_records=1_250_000, percent_complete=done / 12_500, failed_records=number * 12
        )
        one = Job(
            job_id=f"batch_job_{number:020x}",
            status=status,
            model_name="digits",
            model_version="v1.10.0",
            progress=progress,
        )
        one.created_at.FromSeconds(1_770_000_000)
        made.append(one)
    out = io.StringIO()
    Console(file=out, width=width, soft_wrap=True, highlight=False).print(job_table(made))
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_a_list_folds_between_words_alone(width: int) -> None:
    lines = listed(width)
    words = {word for line in lines for word in line.split()}
    assert {"batch_job_00000000000000000000", "batch_job_00000000000000000001"} <= words
    assert {"running", "completed", "digits", "v1.10.0", "1,250,000,", "2026-02-02", "02:40:00"} <= words


def test_a_list_fits_the_usual_terminal() -> None:
    assert max(map(len, listed(80))) <= 80
    assert len(listed(80)) == 2 + 2 * 2
    assert len(listed(120)) == 2 + 2
