"""What people are told of a job."""

from datetime import timedelta

from services.batch.domain.job import Job, Status
from services.common.delivery.slack import escaped


def subject(job: Job) -> str:
    """One line."""
    return f"Batch job {job.spec.job_name} {_verb(job)}"


def letter(job: Job) -> str:
    """The body of an e-mail."""
    lines = [f"Batch job {job.job_id} ({job.spec.job_name}) {_verb(job)}.", ""]
    lines += [f"{name + ':':<10}{value}" for name, value in _facts(job)]
    if job.status is Status.FAILED:
        lines += ["", job.error_message, "", f"It goes on where it stopped: infermesh batch retry {job.job_id}"]
    return "\n".join(lines) + "\n"


def slack_text(job: Job) -> str:
    """A message in Slack's mrkdwn."""
    head = f"Batch job *{escaped(job.spec.job_name)}* (`{job.job_id}`) {_verb(job)}"
    lines = [head, *(f"• {name}: {escaped(value)}" for name, value in _facts(job))]
    if job.status is Status.FAILED:
        lines.append(f"> {escaped(job.error_message)}")
    return "\n".join(lines)


def _verb(job: Job) -> str:
    words = {
        Status.RUNNING: "runs",
        Status.COMPLETED: "is completed",
        Status.FAILED: "failed",
        Status.CANCELLED: "was cancelled",
    }
    return words[job.status]


def _facts(job: Job) -> list[tuple[str, str]]:
    facts = [("Model", f"{job.spec.version.model} {job.spec.version.version}")]
    if job.total_rows:
        failed = f", {job.failed_rows:,} could not be predicted" if job.failed_rows else ""
        facts.append(("Rows", f"{job.processed_rows:,} of {job.total_rows:,}{failed}"))
    if job.status.ended and job.running_s:
        facts.append(("Ran for", str(timedelta(seconds=round(job.running_s)))))
    facts.append(("Input", job.spec.input.uri))
    if job.status is Status.COMPLETED:
        facts.append(("Output", job.spec.output.uri))
    return facts
