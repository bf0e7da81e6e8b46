"""`infermesh logs`: predictions one by one."""

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated

import typer
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.log_views import entry_line, export_shown, listed, policy_shown
from infermesh.client.cli.quantities import now, parse_fraction, parse_length, parse_moment
from infermesh.client.cli.session import EtagOption, LimitOption, ModelArgument, Session, VersionOption, command
from infermesh.client.polling import followed
from infermesh.monitor.v1 import inference_log_pb2

_PERIOD_S = 1.0
"""Any monitor may store an entry or write an export, so none could tell of it sooner than its table does."""
_FOLLOWED_MAX = 1000
"""Entries of one look."""
_OVERLAP = timedelta(seconds=15)
"""Entries are stored some seconds after they were answered."""
_LONGEST = timedelta(days=30)


class Format(StrEnum):
    """How exported files look."""

    PARQUET = "parquet"
    BULK_JSON = "bulk_json"


SinceOption = Annotated[str, typer.Option("--since", metavar="WHEN", help="30m, 6h, 7d, or a moment.")]
UntilOption = Annotated[str, typer.Option("--until", metavar="WHEN", help="A moment. Default: now.")]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="logs", help="See, export and choose what is logged of predictions.", no_args_is_help=True)
    _add_list(group)
    _add_export(group)
    _add_policy(group)
    app.add_typer(group)


def _add_list(group: typer.Typer) -> None:
    @command(
        group, "list", epilog="Examples: infermesh logs list digits --errors --since 6h · infermesh logs list digits -f"
    )
    def list_(
        session: Session,
        model: ModelArgument,
        version: VersionOption = "",
        *,
        request: Annotated[
            str, typer.Option("--request", metavar="ID", help="One request, of the last 30 days unless --since says.")
        ] = "",
        user: Annotated[str, typer.Option("--user", metavar="USER", help="Of one caller.")] = "",
        errors: Annotated[bool, typer.Option("--errors", help="Only those that failed.")] = False,
        since: SinceOption = "",
        until: UntilOption = "",
        follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with those that come.")] = False,
        limit: LimitOption = 50,
    ) -> None:
        """List logged requests, newest first.

        All that fail are logged, of the others the share that the logging policy says.
        """
        asked: dict[str, str | bool] = {"version": version, "request_id": request, "user": user, "errors_only": errors}
        if follow:
            if until:
                raise typer.BadParameter("what is followed has no end", param_hint="--until")
            _follow(session, _new_entries(session, model, asked))
            return
        end = parse_moment(until, "--until") if until else now()
        start = _since(since, end) if since else end - (_LONGEST if request else timedelta(hours=1))
        found = list(session.client.logs.list(model, start=start, end=end, limit=limit, **asked))  # type: ignore[arg-type]
        session.output.result({"inference_logs": found}, lambda: listed(found))


def _since(text: str, end: datetime) -> datetime:
    if text.strip()[-1:] in "smhd" and text.strip()[:1].isdigit() and "T" not in text:
        return end - parse_length(text, "--since", example="30m, 6h or 7d")
    return parse_moment(text, "--since")


def _new_entries(
    session: Session, model: str, asked: dict[str, str | bool]
) -> Iterator[inference_log_pb2.InferenceLog]:
    """Entries as they come, oldest first. They come in no strict order, so each look goes back a little."""
    seen: dict[tuple[str, int, int], None] = {}
    warned = False
    start = now() - _OVERLAP

    def look(left_s: float) -> list[inference_log_pb2.InferenceLog]:
        nonlocal start
        began = now()
        asking = session.client.logs.list(
            model,
            start=start,
            limit=_FOLLOWED_MAX,
            timeout_s=min(left_s, session.timeout_s),
            **asked,  # type: ignore[arg-type]
        )
        found = list(asking)
        start = began - _OVERLAP
        return found

    # Until whoever follows has seen enough.
    looks = followed(look, ended=lambda _: False, what=f"the log of {model}", timeout_s=math.inf, period_s=_PERIOD_S)
    for found in looks:
        if len(found) == _FOLLOWED_MAX and not warned:
            warned = True
            session.output.note(
                f"more come than can be shown: the newest {_FOLLOWED_MAX:,} of a look; choose by --errors, --user, -v"
            )
        for entry in reversed(found):
            key = (entry.request_id, entry.timestamp.seconds, entry.timestamp.nanos)
            if key not in seen:
                seen[key] = None
                yield entry
        while len(seen) > 10 * _FOLLOWED_MAX:
            del seen[next(iter(seen))]


def _follow(session: Session, entries: Iterator[inference_log_pb2.InferenceLog]) -> None:
    for entry in entries:
        session.output.line(entry, entry_line(entry))


def _add_export(group: typer.Typer) -> None:
    @command(
        group,
        "export",
        epilog="Example: infermesh logs export digits s3://bucket/logs/digits --since 7d --format bulk_json",
    )
    def export(
        session: Session,
        model: ModelArgument,
        output: Annotated[
            str, typer.Argument(metavar="FOLDER", help="A path on the monitor's machine, s3:// or gs://.")
        ],
        *,
        since: SinceOption = "1d",
        until: UntilOption = "",
        format: Annotated[Format, typer.Option(help="How the files look.")] = Format.PARQUET,  # noqa: A002
        wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until all is written.")] = True,
        for_s: Annotated[
            float,
            typer.Option("--for", metavar="SECONDS", min=0.001, help="The longest to wait; it goes on afterwards."),
        ] = 3600.0,
    ) -> None:
        """Write a part of the log to files: Parquet, or what Elasticsearch's bulk API takes.

        The folder must be empty or not there yet. The file _SUCCESS is written last.
        """
        end = parse_moment(until, "--until") if until else now()
        made = session.client.logs.export(model, output, start=_since(since, end), end=end, format=format.value)
        if wait and not _ended(made):
            made = _written(session, made.export_id, for_s)
        session.output.result(made, lambda: export_shown(made))
        if made.status == "failed":
            raise typer.Exit(ExitCode.FAILURE)

    @command(group, "exported")
    def exported(
        session: Session, export_id: Annotated[str, typer.Argument(metavar="ID", help="The export's id.")]
    ) -> None:
        """Show how far an export is."""
        found = session.client.logs.exported(export_id)
        session.output.result(found, lambda: export_shown(found))


def _ended(made: inference_log_pb2.LogExport) -> bool:
    return made.status not in {"pending", "running"}


def _written(session: Session, export_id: str, for_s: float) -> inference_log_pb2.LogExport:
    """The export once it has ended."""

    def look(left_s: float) -> inference_log_pb2.LogExport:
        return session.client.logs.exported(export_id, timeout_s=min(left_s, session.timeout_s))

    *_, last = followed(
        look,
        ended=_ended,
        what=f"export {export_id}",
        timeout_s=for_s,
        period_s=_PERIOD_S,
    )
    return last


def _add_policy(group: typer.Typer) -> None:
    policy = typer.Typer(name="policy", help="See and choose what of requests is logged.", no_args_is_help=True)

    @command(policy, "show")
    def show(session: Session, model: ModelArgument, version: VersionOption = "") -> None:
        """Show what is logged of a model, or of one version."""
        found = session.client.logs.policy(model, version=version)
        session.output.result(found, lambda: policy_shown(found))

    @command(
        policy, "set", epilog="Example: infermesh logs policy set digits --share 10% --output --redact probabilities"
    )
    def set_(
        session: Session,
        model: ModelArgument,
        version: VersionOption = "",
        *,
        share: Annotated[
            str, typer.Option("--share", metavar="SHARE", help="Of successful requests: 5% or 0.05.")
        ] = "",
        input_hash: Annotated[
            bool | None, typer.Option("--input-hash/--no-input-hash", help="Whether a hash of the input is logged.")
        ] = None,
        output: Annotated[bool | None, typer.Option("--output/--no-output", help="Whether the output is.")] = None,
        redact: Annotated[
            list[str] | None, typer.Option("--redact", metavar="OUTPUT", help="Log no value of it. Repeatable.")
        ] = None,
        redact_nothing: Annotated[
            bool, typer.Option("--redact-nothing", help="Log the values of all outputs.")
        ] = False,
        etag: EtagOption = "",
    ) -> None:
        """Choose what is logged; what is not said stays. It holds within seconds."""
        if redact and redact_nothing:
            raise typer.BadParameter("say one of them", param_hint="--redact, --redact-nothing")
        changes = (share, input_hash, output, redact, redact_nothing or None)
        if not any(one is not None and one != "" for one in changes):
            raise typer.BadParameter("say what is to change", param_hint="--share, --input-hash, --output, --redact")
        changed = session.client.logs.set_policy(
            model,
            version=version,
            sample_rate=parse_fraction(share, "--share") if share else None,
            input_hash=input_hash,
            output=output,
            redacted_fields=[] if redact_nothing else redact or None,
            etag=etag,
        )
        session.output.result(changed, lambda: policy_shown(changed))

    group.add_typer(policy)
