"""`infermesh jobs`: predictions for files."""

from collections.abc import Sequence
from typing import Annotated

import grpc
import typer
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import ENDED, WATCH_TIMEOUT_S
from infermesh.client.cli.feature_sources import OPTION_SOURCE, OPTION_TIME, read_sources
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.session import ModelArgument, Session, VersionOption, command
from infermesh.client.errors import InfermeshError
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table

_FAILED_SHOWN_MAX = 10
_FOLDED_WIDTHS = {"job": 30, "status": 9, "model": 8, "rows": 10, "created": 10}
"""How wide the columns of a list are at least: an id, a status, words, millions, a date. With their gaps 79."""

JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
WatchTimeoutOption = Annotated[
    float, typer.Option("--for", metavar="SECONDS", min=0.001, help="Stop watching after so long; the job goes on.")
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="jobs", help="Predict every row of a file, in the background.", no_args_is_help=True)
    _add_submit(group)
    _add_looks(group)

    @command(group, "cancel")
    def cancel(session: Session, job: JobArgument) -> None:
        """Stop a job for good. Nothing of its output remains."""
        cancelled = session.client.batch.cancel(job)
        session.output.result(cancelled, lambda: f"{escape(cancelled.job_id)} {state(cancelled.status)}")

    app.add_typer(group)


def _add_submit(group: typer.Typer) -> None:
    @command(
        group,
        "submit",
        epilog="Example: infermesh jobs submit digits rows.parquet predictions.parquet --version v1.0.0 --watch",
    )
    def submit(
        session: Session,
        model: ModelArgument,
        source: Annotated[str, typer.Argument(metavar="INPUT", help="The rows: .parquet, .csv or .jsonl.")],
        target: Annotated[str, typer.Argument(metavar="OUTPUT", help="The predictions: .parquet, .csv or .jsonl.")],
        *,
        version: VersionOption = "",
        name: Annotated[str, typer.Option(help="A name for people.")] = "",
        key: Annotated[str, typer.Option(metavar="COLUMN", help="The column that identifies a row.")] = "",
        feature_source: Annotated[
            list[str] | None,
            typer.Option(
                OPTION_SOURCE,
                metavar="FILE=ENTITY",
                help="Features that the rows do not have, as they were over time: a Parquet or CSV file, and the "
                "column, of it and of INPUT, that says whose they are. Or JSON, or `@PATH`, with uri, entity, "
                "timestamp_column, features, max_age_s, format. Repeatable; needs --event-time.",
            ),
        ] = None,
        event_time: Annotated[
            str,
            typer.Option(
                OPTION_TIME,
                metavar="COLUMN",
                help="The column of INPUT with the moment of each row: it gets the latest values at or before it.",
            ),
        ] = "",
        overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output that exists.")] = False,
        batch_size: Annotated[int, typer.Option(min=0, help="Rows in one request; 0: the default.")] = 0,
        parallelism: Annotated[int, typer.Option(min=0, help="Requests at once; 0: the default.")] = 0,
        timeout_minutes: Annotated[int, typer.Option(min=0, help="Fail after so long; 0: the default.")] = 0,
        max_failed: Annotated[
            float | None, typer.Option(metavar="SHARE", min=0, max=1, help="Fail with a larger share of failed rows.")
        ] = None,
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Watch it until it has ended.")] = False,
    ) -> None:
        """Start a job, and print its id.

        Columns are matched to features by name. Features that are no columns come from the files of --feature-source,
        as they were at each row's moment; without such files from the feature store, as they are now. Paths are read
        by the batch service, which runs on the mesh's machine.
        """
        sources = read_sources(feature_source or (), event_time)
        job = session.client.batch.submit(
            model,
            source,
            target,
            version=version,
            name=name,
            batch_size=batch_size,
            max_parallelism=parallelism,
            timeout_minutes=timeout_minutes,
            max_failed_fraction=max_failed,
            reading=batch_job_pb2.InputOptions(key_column=key, event_time_column=event_time, feature_sources=sources),
            writing=batch_job_pb2.OutputOptions(overwrite=overwrite),
        )
        if watch:
            session.output.note(f"{escape(job.job_id)} [dim]{escape(job.model_name)} {escape(job.model_version)}[/]")
            _watch(session, job.job_id, WATCH_TIMEOUT_S)
        else:
            session.output.result(job, lambda: _submitted(job))


def _add_looks(group: typer.Typer) -> None:
    @command(group, "watch")
    def watch(session: Session, job: JobArgument, for_s: WatchTimeoutOption = WATCH_TIMEOUT_S) -> None:
        """Follow a job until it has ended. With --json: a line for each change.

        The exit code is 0 where the job is completed, 1 where it failed and 5 where it was cancelled.
        """
        _watch(session, job, for_s)

    @command(group, "show")
    def show(session: Session, job: JobArgument) -> None:
        """Show a job, how far it is, and the first rows that could not be predicted."""
        found = session.client.batch.get(job)
        failed: list[batch_job_pb2.FailedRow] = []
        if found.progress.failed_records and not session.output.as_json:
            failed = list(session.client.batch.failed_rows(job, limit=_FAILED_SHOWN_MAX))
        session.output.result(found, lambda: _shown(found, failed))

    @command(group, "list")
    def list_(
        session: Session,
        model: Annotated[str, typer.Option(metavar="MODEL", help="Only of this model.")] = "",
        status: Annotated[str, typer.Option(metavar="STATUS", help="Only with this status.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    ) -> None:
        """List jobs, newest first."""
        jobs = list(session.client.batch.list(model=model, status=status, limit=limit))
        session.output.result({"jobs": jobs}, lambda: _listed(jobs))

    @command(group, "failed")
    def failed(
        session: Session,
        job: JobArgument,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    ) -> None:
        """List the rows that could not be predicted, each with its reason."""
        rows = list(session.client.batch.failed_rows(job, limit=limit))
        session.output.result({"failed_rows": rows}, lambda: _failed(rows))


def _watch(session: Session, job_id: str, timeout_s: float) -> None:
    last = batch_job_pb2.BatchJob(job_id=job_id)
    if session.output.as_json:
        for last in session.client.batch.watch(job_id, timeout_s=timeout_s):
            session.output.line(last, "")
    else:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            TaskProgressColumn(),
            MofNCompleteColumn(),
            TextColumn("[dim]{task.fields[pace]}[/]"),
        )
        with Progress(*columns, console=session.output.err, expand=True) as progress:
            task = progress.add_task(state("pending"), total=None, pace="")
            for last in session.client.batch.watch(job_id, timeout_s=timeout_s):
                progress.update(
                    task,
                    description=state(_word(last)),
                    completed=int(last.progress.processed_records),
                    total=int(last.progress.total_records) or None,
                    pace=pace(last),
                )
        session.output.out.print(_shown(last, []))
    _raise_unless_completed(last)


def _raise_unless_completed(job: batch_job_pb2.BatchJob) -> None:
    if job.status == "failed":
        raise InfermeshError(
            f"job {job.job_id} failed: {job.error_message}", code=grpc.StatusCode.UNKNOWN, reason=job.error_reason
        )
    if job.status == "cancelled":
        raise InfermeshError(
            f"job {job.job_id} was cancelled", code=grpc.StatusCode.FAILED_PRECONDITION, reason="JOB_STATE_INVALID"
        )


def pace(job: batch_job_pb2.BatchJob) -> str:
    """How fast a job goes, how many rows failed, and how long it will still take; empty before it has begun."""
    words = []
    if job.metrics.throughput_per_sec:
        words.append(f"{job.metrics.throughput_per_sec:,.0f} rows/s")
    if job.progress.failed_records:
        words.append(f"{job.progress.failed_records:,.0f} failed")
    left = job.progress.total_records - job.progress.processed_records
    if job.status not in ENDED and left > 0 and job.metrics.throughput_per_sec:
        words.append(f"{_length(left / job.metrics.throughput_per_sec)} left")
    return " · ".join(words)


def _length(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _word(job: batch_job_pb2.BatchJob) -> str:
    return "paused" if job.paused and job.status not in ENDED else job.status


def _submitted(job: batch_job_pb2.BatchJob) -> RenderableType:
    watching = f"[dim]infermesh jobs watch {escape(job.job_id)} follows it.[/]"
    return Group(
        f"{escape(job.job_id)} {state(job.status)}: {escape(job.model_name)} {escape(job.model_version)}", watching
    )


def _shown(job: batch_job_pb2.BatchJob, failed: list[batch_job_pb2.FailedRow]) -> RenderableType:
    progress = job.progress
    percent = f"{progress.percent_complete:.1f} % of " if progress.total_records else ""
    shown = facts(
        (
            ("job", escape(job.job_id)),
            ("name", escape(job.job_name)),
            ("status", state(_word(job))),
            ("model", f"{escape(job.model_name)} {escape(job.model_version)}"),
            ("input", escape(job.input_uri)),
            ("output", escape(job.output_uri)),
            ("rows", f"{percent}{progress.total_records:,.0f}" if progress.total_records else ""),
            ("pace", pace(job)),
            ("failed rows", escape(job.errors_uri)),
            ("created", when(job.created_at)),
            ("started", when(job.started_at)),
            ("ended", when(job.completed_at)),
            ("expected", when(job.estimated_completion_time)),
            ("error", f"[red]{escape(job.error_message)}[/]" if job.error_message else ""),
        )
    )
    return Group(shown, "", _failed(failed)) if failed else shown


def _listed(jobs: list[batch_job_pb2.BatchJob]) -> RenderableType:
    return job_table(jobs) if jobs else "[dim]no jobs; `infermesh jobs submit MODEL INPUT OUTPUT` makes one[/]"


def job_table(jobs: Sequence[batch_job_pb2.BatchJob]) -> Table:
    """Jobs, a row each; where the terminal is narrow, a row folds into two lines and ids stay whole."""
    shown = table(*_FOLDED_WIDTHS, right=["rows"], whole=["status"], least=_FOLDED_WIDTHS)
    for job in jobs:
        shown.add_row(
            escape(job.job_id),
            state(_word(job)),
            escape(f"{job.model_name} {job.model_version}"),
            _rows(job),
            when(job.created_at),
        )
    return shown


def _rows(job: batch_job_pb2.BatchJob) -> str:
    """How many rows a job has, how far it is, and how many failed; empty while they are not counted."""
    progress = job.progress
    if not progress.total_records:
        return ""
    part = "" if job.status == "completed" else f"{progress.percent_complete:.0f} % of "
    failed = f", {progress.failed_records:,.0f} failed" if progress.failed_records else ""
    return f"{part}{progress.total_records:,.0f}{failed}"


def _failed(rows: list[batch_job_pb2.FailedRow]) -> RenderableType:
    if not rows:
        return "[dim]no row failed[/]"
    shown = table("row", "key", "reason", "what is wrong", right=["row"])
    for row in rows:
        shown.add_row(f"{row.row_number:.0f}", escape(row.key), escape(row.error_reason), escape(row.error_message))
    return shown
