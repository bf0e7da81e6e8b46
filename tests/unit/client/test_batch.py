"""What needs no mesh of jobs: where a file is, and how a job looks in a terminal."""

import io
from pathlib import Path

import pytest
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import location
from infermesh.client.cli.commands import jobs
from rich.console import Console

Job = batch_job_pb2.BatchJob


def test_a_relative_path_is_one_of_this_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert location("rows.csv") == str(tmp_path / "rows.csv")
    assert location(Path("/data/rows.csv")) == "/data/rows.csv"
    assert location("s3://bucket/rows.csv") == "s3://bucket/rows.csv"


@pytest.mark.parametrize(
    ("done", "total", "text"), [(0, 0, "10 rows/s"), (50, 100, "10 rows/s · 0:05 left"), (0, 72_610, "2:01:01 left")]
)
def test_the_time_left_follows_from_the_pace(done: int, total: int, text: str) -> None:
    progress = batch_job_pb2.BatchJobProgress(processed_records=done, total_records=total)
    running = Job(status="running", progress=progress, metrics=batch_job_pb2.BatchJobMetrics(throughput_per_sec=10))
    assert text in jobs.pace(running)


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
    Console(file=out, width=width, soft_wrap=True, highlight=False).print(jobs.job_table(made))
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
