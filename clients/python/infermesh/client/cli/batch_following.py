"""Following a batch job until it has ended: a bar for whoever looks, lines where nobody does, JSON for scripts."""

from collections.abc import Iterator
from datetime import datetime

import grpc
from infermesh.batch.v1 import batch_job_pb2
from infermesh.client.batch import ENDED
from infermesh.client.cli.batch_views import FAILED_SHOWN_MAX, figures, phase, result_shown
from infermesh.client.cli.live import watched
from infermesh.client.cli.output import state
from infermesh.client.cli.session import Session
from infermesh.client.errors import InfermeshError
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table


def follow(session: Session, job_id: str, timeout_s: float) -> None:
    """Shows a job until it has ended, then what became of it. Raises InfermeshError where that is not "completed", and
    what watching raises. Who stops following, by Ctrl-C or an outage, is told how to come back; the job goes on."""
    seen = [batch_job_pb2.BatchJob(job_id=job_id)]

    def changes() -> Iterator[batch_job_pb2.BatchJob]:
        for job in session.client.batch.watch(job_id, timeout_s=timeout_s):
            seen[:] = [job]
            yield job

    try:
        last = watched(session, changes(), job_drawn, line=Lines())
    except KeyboardInterrupt:
        session.output.note(going_on(seen[0]))
        raise
    except InfermeshError as error:
        if error.is_transient and seen[0].status:
            session.output.note(going_on(seen[0]))
        raise
    if not session.output.as_json:
        failed = (
            session.client.batch.failed_rows(job_id, limit=FAILED_SHOWN_MAX) if last.progress.failed_records else ()
        )
        session.output.out.print(result_shown(last, list(failed)))
    raise_unless_completed(last)


def job_drawn(job: batch_job_pb2.BatchJob, _now: datetime) -> RenderableType:
    """A job as a bar, with its figures beneath; while nothing is counted the bar only says that it is alive."""
    progress = job.progress
    counted = bool(progress.total_records)
    top = Table.grid(expand=True, padding=(0, 1))
    top.add_column(no_wrap=True)
    top.add_column(ratio=1)
    top.add_column(no_wrap=True, justify="right")
    top.add_row(
        state(phase(job)),
        ProgressBar(total=progress.total_records if counted else None, completed=progress.processed_records),
        f"{progress.percent_complete:.1f} %" if counted else "",
    )
    below = figures(job)
    if phase(job) == "paused":
        again = f"`infermesh batch resume {job.job_id}` lets it go on"
        below = f"{below} · {again}" if below else again
    return Group(top, f"[dim]{escape(below)}[/]")


class Lines:
    """What a log says of a job: a line for each phase, and for each whole percent of the rows."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None

    def __call__(self, job: batch_job_pb2.BatchJob) -> str:
        """The line, as rich markup; empty where this change is worth none."""
        percent = int(job.progress.percent_complete)
        now = (phase(job), percent)
        if now == self._said:
            return ""
        self._said = now
        share = f"{percent} %" if job.progress.total_records else ""
        return escape(" · ".join(word for word in (f"{job.job_id} {now[0]}", share, figures(job)) if word))


def going_on(job: batch_job_pb2.BatchJob) -> str:
    """How to come back to a job that nobody follows any more, as rich markup."""
    name = escape(job.job_id)
    if job.status in ENDED:
        return f"job {name} is {job.status}: `infermesh batch show {name}` shows it."
    far = f", {job.progress.percent_complete:.1f} % done" if job.progress.total_records else ""
    return (
        f"job {name} goes on{far}.\n"
        f"[dim]`infermesh batch watch {name}` follows it, `infermesh batch cancel {name}` stops it.[/]"
    )


def raise_unless_completed(job: batch_job_pb2.BatchJob) -> None:
    """Turns a job that failed or was cancelled into the error, and so the exit code, that says so."""
    if job.status == "failed":
        raise InfermeshError(
            f"job {job.job_id} failed: {job.error_message}",
            code=grpc.StatusCode.UNKNOWN,
            reason=job.error_reason,
            advice=f"`infermesh batch retry {job.job_id}` tries it again, from where it stopped if it can.",
        )
    if job.status == "cancelled":
        raise InfermeshError(
            f"job {job.job_id} was cancelled",
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason="JOB_STATE_INVALID",
            advice=f"`infermesh batch retry {job.job_id}` begins it again.",
        )
