"""Batch jobs as people see them: how far one is, what became of it, lists, samples and rows that failed."""

import json
from collections.abc import Sequence

from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2
from infermesh.client.batch import ENDED
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.quantities import length
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

FAILED_SHOWN_MAX = 10
"""Rows that failed, beneath a job; `infermesh batch failed` lists them all."""
_CELL_MAX = 60
_NOT_SAMPLED = frozenset({"probabilities", "model_version"})
"""Columns of the output that a table of a sample leaves out: too wide, and the same in each row. --json has all."""
_FOLDED_WIDTHS = {"job": 30, "status": 9, "model": 8, "rows": 10, "created": 10}
"""How wide the columns of a list are at least: an id, a status, words, millions, a date. With their gaps 79."""


def phase(job: batch_job_pb2.BatchJob) -> str:
    """What a job is at, in a word or a few; of one that has ended its status."""
    progress = job.progress
    if job.status in ENDED:
        return job.status
    if job.paused:
        return "paused"
    if job.status != "running":
        return "waiting for its turn"
    if not progress.total_chunks:
        return "cutting"
    return "predicting" if progress.completed_chunks < progress.total_chunks else "publishing"


def figures(job: batch_job_pb2.BatchJob) -> str:
    """How far a job is, how fast it goes, how long it will still take, and how many rows failed; empty before it has
    begun."""
    progress, pace = job.progress, job.metrics.throughput_per_sec
    words = []
    if progress.total_records:
        words.append(f"{progress.processed_records:,.0f} of {progress.total_records:,.0f} rows")
    if pace and (job.status in ENDED or phase(job) == "predicting"):
        words.append(f"{pace:,.0f} rows/s")
        left = progress.total_records - progress.processed_records
        if left > 0 and job.status not in ENDED:
            words.append(f"{length(left / pace)} left")
    if progress.failed_records:
        words.append(f"{progress.failed_records:,.0f} failed")
    return " · ".join(words)


def result_shown(job: batch_job_pb2.BatchJob, failed: Sequence[batch_job_pb2.FailedRow]) -> RenderableType:
    """What became of a job that has ended, with the first rows that failed."""
    progress, metrics = job.progress, job.metrics
    done = "" if job.status == "completed" else f"{progress.processed_records:,.0f} of "
    bad = f"{progress.failed_records:,.0f}"
    shown = facts(
        (
            ("job", f"{escape(job.job_id)} {state(job.status)}"),
            ("model", f"{escape(job.model_name)} {escape(job.model_version)}"),
            ("output", escape(job.output_uri) if job.status == "completed" else "none"),
            ("rows", f"{done}{progress.total_records:,.0f}" if progress.total_records else ""),
            ("failed", f"{bad}, all in {escape(job.errors_uri)}" if job.errors_uri and not done else bad),
            ("seconds", f"{metrics.running_s:,.1f}"),
            ("rows/s", f"{metrics.throughput_per_sec:,.0f}"),
        )
    )
    return Group(shown, "", *_first_failed(job, failed)) if failed else shown


def job_shown(job: batch_job_pb2.BatchJob, failed: Sequence[batch_job_pb2.FailedRow]) -> RenderableType:
    """All of a job, with the first rows that failed and who was told of it."""
    percent = f"{job.progress.percent_complete:.1f} %" if job.progress.total_records else ""
    shown = facts(
        (
            ("job", escape(job.job_id)),
            ("name", escape(job.job_name)),
            ("status", state(job.status if job.status in ENDED or not job.paused else "paused")),
            ("phase", phase(job) if job.status == "running" else ""),
            ("model", f"{escape(job.model_name)} {escape(job.model_version)}"),
            ("input", escape(job.input_uri)),
            ("output", escape(job.output_uri)),
            ("progress", " · ".join(word for word in (percent, figures(job)) if word)),
            ("failed rows", escape(job.errors_uri)),
            ("created", when(job.created_at)),
            ("started", when(job.started_at)),
            ("ended", when(job.completed_at)),
            ("expected", when(job.estimated_completion_time)),
            ("error", f"[red]{escape(job.error_message)}[/]" if job.error_message else ""),
        )
    )
    parts: list[RenderableType] = [shown]
    if failed:
        parts += ["", *_first_failed(job, failed)]
    if job.deliveries:
        parts += ["", deliveries_listed(job.deliveries)]
    return Group(*parts)


def deliveries_listed(deliveries: Sequence[batch_job_pb2.NotificationDelivery]) -> RenderableType:
    """Who was told of a job, and why who was not."""
    shown = table("whom", "told of", "outcome", "tries", "why", right=["tries"], whole=["outcome"])
    for one in deliveries:
        later = f"again at {when(one.next_try_time)}" if one.outcome == "waiting" and one.tries else ""
        shown.add_row(
            escape(f"#{one.address}" if one.means == "slack" else one.address),
            escape(one.status),
            state(one.outcome),
            str(one.tries),
            escape("; ".join(word for word in (one.last_problem, later) if word)),
        )
    return shown


def jobs_listed(jobs: Sequence[batch_job_pb2.BatchJob]) -> RenderableType:
    """Jobs, or how to make one."""
    return job_table(jobs) if jobs else "[dim]no jobs; `infermesh batch submit MODEL INPUT OUTPUT` makes one[/]"


def job_table(jobs: Sequence[batch_job_pb2.BatchJob]) -> Table:
    """Jobs, a row each; where the terminal is narrow, a row folds into two lines and ids stay whole."""
    shown = table(*_FOLDED_WIDTHS, right=["rows"], whole=["status"], least=_FOLDED_WIDTHS)
    for job in jobs:
        shown.add_row(
            escape(job.job_id),
            state("paused" if job.paused and job.status not in ENDED else job.status),
            escape(f"{job.model_name} {job.model_version}"),
            _rows(job),
            when(job.created_at),
        )
    return shown


def failed_listed(rows: Sequence[batch_job_pb2.FailedRow]) -> RenderableType:
    """Rows that could not be predicted, each with its reason."""
    if not rows:
        return "[dim]no row failed[/]"
    shown = table("row", "key", "reason", "what is wrong", right=["row"])
    for row in rows:
        shown.add_row(f"{row.row_number:.0f}", escape(row.key), escape(row.error_reason), escape(row.error_message))
    return shown


def sample_shown(model: str, found: batch_service_pb2.SampleBatchJobResponse) -> RenderableType:
    """The first rows of what the output would be: key, columns, prediction, confidence; beneath, those that failed."""
    good, bad = len(found.rows_json), len(found.failed_rows)
    title = f"[bold]{escape(model)}[/] {escape(found.model_version)}: {good} of the first {good + bad} rows predicted"
    parts: list[RenderableType] = [title]
    if good:
        columns = [column for column in found.columns if column not in _NOT_SAMPLED]
        shown = table(*columns)
        for row in found.rows_json:
            values = json.loads(row)
            shown.add_row(*(escape(_cell(values.get(column))) for column in columns))
        parts += ["", shown]
    if bad:
        parts += ["", f"[yellow]{bad} failed[/]", "", failed_listed(list(found.failed_rows))]
    return Group(*parts)


def _first_failed(job: batch_job_pb2.BatchJob, failed: Sequence[batch_job_pb2.FailedRow]) -> tuple[RenderableType, ...]:
    shown = failed_listed(failed)
    more = round(job.progress.failed_records) - len(failed)
    if more <= 0:
        return (shown,)
    return (shown, "", f"[dim]and {more:,} more: infermesh batch failed {escape(job.job_id)}[/]")


def _rows(job: batch_job_pb2.BatchJob) -> str:
    """How many rows a job has, how far it is, and how many failed; empty while they are not counted."""
    progress = job.progress
    if not progress.total_records:
        return ""
    part = "" if job.status == "completed" else f"{progress.percent_complete:.0f} % of "
    failed = f", {progress.failed_records:,.0f} failed" if progress.failed_records else ""
    return f"{part}{progress.total_records:,.0f}{failed}"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _CELL_MAX else f"{text[: _CELL_MAX - 1]}…"
