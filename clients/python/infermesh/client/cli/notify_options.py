"""Whom to tell of a job, as people give it to an option: an e-mail address, a URL or a channel of Slack."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.batch.v1 import batch_job_pb2

_OPTION = "--notify"
_STATUSES = ("running", "completed", "failed", "cancelled")

NotifyOption = Annotated[
    list[str] | None,
    typer.Option(
        _OPTION,
        metavar="[STATUSES=]WHOM",
        help="Tell somebody how it ended: an e-mail address, an https:// URL, or '#channel' of Slack. Before '=' only "
        "of some: running, completed, failed, cancelled, with commas between. Repeatable.",
    ),
]


def read_notifications(arguments: Sequence[str]) -> list[batch_job_pb2.Notification]:
    """Each argument as a notification. Raises typer.BadParameter where one is none."""
    return [_read(argument) for argument in arguments]


def _read(argument: str) -> batch_job_pb2.Notification:
    head, mark, rest = argument.partition("=")
    named = head.split(",") if mark else []
    # What stands before "=" in a URL or an address is no list of statuses.
    known = bool(named) and all(word in _STATUSES for word in named)
    whom, statuses = (rest, named) if known else (argument, [])
    if whom.startswith("#") and len(whom) > 1:
        return batch_job_pb2.Notification(slack_channel=whom[1:], statuses=statuses)
    if "://" in whom:
        return batch_job_pb2.Notification(webhook_url=whom, statuses=statuses)
    if "@" in whom:
        return batch_job_pb2.Notification(email=whom, statuses=statuses)
    raise typer.BadParameter(
        f"{argument!r} is no e-mail address, no URL and no '#channel' of Slack", param_hint=_OPTION
    )
