"""`infermesh batch`: predictions for files."""

import json
from typing import Annotated

import typer
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import ENDED, WATCH_TIMEOUT_S
from infermesh.client.cli.batch_following import follow as follow_job
from infermesh.client.cli.batch_views import FAILED_SHOWN_MAX, failed_listed, job_shown, jobs_listed, sample_shown
from infermesh.client.cli.feature_sources import OPTION_SOURCE, OPTION_TIME, read_sources
from infermesh.client.cli.input_options import DelimiterOption, FeatureOption, FormatOption, read_features
from infermesh.client.cli.notify_options import NotifyOption, read_notifications
from infermesh.client.cli.output import state
from infermesh.client.cli.session import ModelArgument, Session, VersionOption, command
from rich.console import Group, RenderableType
from rich.markup import escape

KeyOption = Annotated[str, typer.Option(metavar="COLUMN", help="The column that identifies a row.")]
ColumnsOption = Annotated[
    list[str] | None,
    typer.Option("--column", metavar="COLUMN", help="Copy this column of INPUT beside the key. Repeatable."),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.", show_default=False)]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Say how much each feature contributed to each prediction. Takes far longer.")
]
MaxFailedOption = Annotated[
    float | None, typer.Option(metavar="SHARE", min=0, max=1, help="Fail with more bad rows; 1: all may be.")
]
WatchTimeoutOption = Annotated[
    float, typer.Option("--for", metavar="SECONDS", min=0.001, help="Stop watching after so long; the job goes on.")
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="batch", help="Predict every row of a file, in the background.", no_args_is_help=True)
    _add_submit(group)
    _add_sample(group)
    _add_looks(group)
    _add_changes(group)
    app.add_typer(group)


def _add_submit(group: typer.Typer) -> None:
    @command(
        group,
        "submit",
        epilog="Example: infermesh batch submit digits rows.parquet predictions.parquet --version v1.0.0 --follow",
    )
    def submit(
        session: Session,
        model: ModelArgument,
        source: Annotated[str, typer.Argument(metavar="INPUT", help="The rows: .parquet, .csv or .jsonl.")],
        target: Annotated[str, typer.Argument(metavar="OUTPUT", help="The predictions: .parquet, .csv or .jsonl.")],
        *,
        version: VersionOption = "",
        name: Annotated[str, typer.Option(help="A name for people.")] = "",
        key: KeyOption = "",
        column: ColumnsOption = None,
        input_format: FormatOption = "",
        delimiter: DelimiterOption = "",
        feature: FeatureOption = None,
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
        explain: ExplainOption = False,
        batch_size: Annotated[int, typer.Option(min=0, help="Rows in one request; 0: the default.")] = 0,
        parallelism: Annotated[int, typer.Option(min=0, help="Requests at once; 0: the default.")] = 0,
        timeout_minutes: Annotated[int, typer.Option(min=0, help="Fail after so long; 0: the default.")] = 0,
        max_failed: MaxFailedOption = None,
        notify: NotifyOption = None,
        follow: Annotated[
            bool,
            typer.Option("--follow", "-f", help="Follow it until it has ended; Ctrl-C leaves it running."),
        ] = False,
    ) -> None:
        """Start a job, and print its id.

        Columns are matched to features by name. Features that are no columns come from the files of --feature-source,
        as they were at each row's moment; without such files from the feature store, as they are now. Paths are read
        by the batch service, which runs on the mesh's machine.

        --follow shows a bar, or a line for each change where there is no terminal, and in the end the result; with
        --json a line for each change. The exit code is 0 where the job is completed, 1 where it failed and 5 where it
        was cancelled.
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
            reading=batch_job_pb2.InputOptions(
                format=input_format,
                key_column=key,
                feature_columns=read_features(feature or ()),
                delimiter=delimiter,
                event_time_column=event_time,
                feature_sources=sources,
            ),
            writing=batch_job_pb2.OutputOptions(overwrite=overwrite, columns=column or (), explain=explain),
            notifications=read_notifications(notify or ()),
        )
        if follow:
            session.output.note(f"{escape(job.job_id)} [dim]{escape(job.model_name)} {escape(job.model_version)}[/]")
            follow_job(session, job.job_id, WATCH_TIMEOUT_S)
        else:
            session.output.result(job, lambda: _submitted(job))


def _add_sample(group: typer.Typer) -> None:
    @command(group, "sample", epilog="Example: infermesh batch sample digits rows.parquet --rows 10")
    def sample(
        session: Session,
        model: ModelArgument,
        source: Annotated[str, typer.Argument(metavar="INPUT", help="The rows: .parquet, .csv or .jsonl.")],
        *,
        version: VersionOption = "",
        rows: Annotated[
            int, typer.Option(min=0, max=1000, help="How many of the first rows; 0: 100, or 10 that are explained.")
        ] = 0,
        key: KeyOption = "",
        column: ColumnsOption = None,
        input_format: FormatOption = "",
        delimiter: DelimiterOption = "",
        feature: FeatureOption = None,
        explain: ExplainOption = False,
    ) -> None:
        """Predict the first rows of a file now, and show what a job's output would hold of them. Writes nothing."""
        found = session.client.batch.sample(
            model,
            source,
            version=version,
            row_count=rows,
            reading=batch_job_pb2.InputOptions(
                format=input_format,
                key_column=key,
                feature_columns=read_features(feature or ()),
                delimiter=delimiter,
            ),
            writing=batch_job_pb2.OutputOptions(columns=column or (), explain=explain),
            timeout_s=session.timeout_s,
        )
        shown = {
            "model_version": found.model_version,
            "columns": list(found.columns),
            "rows": [json.loads(row) for row in found.rows_json],
            "failed_rows": list(found.failed_rows),
        }
        session.output.result(shown, lambda: sample_shown(model, found))


def _add_changes(group: typer.Typer) -> None:
    def tell(session: Session, job: batch_job_pb2.BatchJob) -> None:
        session.output.result(job, lambda: f"{escape(job.job_id)} {state(_word(job))}")

    @command(group, "pause")
    def pause(session: Session, job: JobArgument) -> None:
        """Stop a job for now. What is done stays done."""
        tell(session, session.client.batch.pause(job))

    @command(group, "resume")
    def resume(session: Session, job: JobArgument) -> None:
        """Let a paused job go on."""
        tell(session, session.client.batch.resume(job))

    @command(group, "cancel")
    def cancel(session: Session, job: JobArgument) -> None:
        """Stop a job for good. Nothing of its output remains."""
        tell(session, session.client.batch.cancel(job))

    @command(group, "change", epilog="Example: infermesh batch change JOB --max-failed 0.01")
    def change(
        session: Session,
        job: JobArgument,
        *,
        name: Annotated[str, typer.Option(help="A name for people.")] = "",
        batch_size: Annotated[int, typer.Option(min=0, help="Rows in one request.")] = 0,
        parallelism: Annotated[int, typer.Option(min=0, help="Requests at once.")] = 0,
        timeout_minutes: Annotated[int, typer.Option(min=0, help="Fail after so long.")] = 0,
        max_failed: MaxFailedOption = None,
    ) -> None:
        """Change what is asked of a job; what is not named stays. One that failed goes by it once it is retried."""
        if not (name or batch_size or parallelism or timeout_minutes or max_failed is not None):
            raise typer.BadParameter(
                "nothing to change; name one of --name, --batch-size, --parallelism, --timeout-minutes, --max-failed"
            )
        changed = session.client.batch.change(
            job,
            name=name,
            batch_size=batch_size,
            max_parallelism=parallelism,
            timeout_minutes=timeout_minutes,
            max_failed_fraction=max_failed,
        )
        tell(session, changed)

    @command(group, "retry")
    def retry(session: Session, job: JobArgument) -> None:
        """Begin a failed or cancelled job again: a failed one goes on where it stopped."""
        tell(session, session.client.batch.retry(job))

    @command(group, "delete")
    def delete(session: Session, job: JobArgument) -> None:
        """Forget a job that has ended. Its output stays."""
        session.client.batch.delete(job)
        session.output.result({"job_id": job}, lambda: f"{escape(job)} is forgotten; its output stays")


def _add_looks(group: typer.Typer) -> None:
    @command(group, "watch")
    def watch(session: Session, job: JobArgument, for_s: WatchTimeoutOption = WATCH_TIMEOUT_S) -> None:
        """Follow a job until it has ended. With --json: a line for each change.

        The exit code is 0 where the job is completed, 1 where it failed and 5 where it was cancelled.
        """
        follow_job(session, job, for_s)

    @command(group, "show")
    def show(session: Session, job: JobArgument) -> None:
        """Show a job: how far it is, the first rows that could not be predicted, and who was told of it."""
        found = session.client.batch.get(job)
        failed: list[batch_job_pb2.FailedRow] = []
        if found.progress.failed_records and not session.output.as_json:
            failed = list(session.client.batch.failed_rows(job, limit=FAILED_SHOWN_MAX))
        session.output.result(found, lambda: job_shown(found, failed))

    @command(group, "list")
    def list_(
        session: Session,
        model: Annotated[str, typer.Option(metavar="MODEL", help="Only of this model.")] = "",
        status: Annotated[str, typer.Option(metavar="STATUS", help="Only with this status.")] = "",
        schedule: Annotated[str, typer.Option(metavar="SCHEDULE", help="Only of this schedule, by its id.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    ) -> None:
        """List jobs, newest first."""
        jobs = list(session.client.batch.list(model=model, status=status, schedule_id=schedule, limit=limit))
        session.output.result({"jobs": jobs}, lambda: jobs_listed(jobs))

    @command(group, "failed")
    def failed(
        session: Session,
        job: JobArgument,
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    ) -> None:
        """List the rows that could not be predicted, each with its reason."""
        rows = list(session.client.batch.failed_rows(job, limit=limit))
        session.output.result({"failed_rows": rows}, lambda: failed_listed(rows))


def _word(job: batch_job_pb2.BatchJob) -> str:
    return "paused" if job.paused and job.status not in ENDED else job.status


def _submitted(job: batch_job_pb2.BatchJob) -> RenderableType:
    watching = f"[dim]infermesh batch watch {escape(job.job_id)} follows it.[/]"
    return Group(
        f"{escape(job.job_id)} {state(job.status)}: {escape(job.model_name)} {escape(job.model_version)}", watching
    )
