"""`infermesh audit`, and of `infermesh models` what tells of the past: changes, lineage, removing."""

import sys
from datetime import datetime
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_model, complete_version
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.history_views import change_line, changes_listed, lineage_shown
from infermesh.client.cli.session import EtagOption, LimitOption, ModelArgument, Session, command
from infermesh.client.client import Client
from infermesh.registry.v1 import change_pb2
from rich.markup import escape

_VERSIONS_MAX = 50
_OptionalVersion = Annotated[
    str | None,
    typer.Argument(metavar="[VERSION]", help="A version.", show_default=False, autocompletion=complete_version),
]
_OptionalModel = Annotated[
    str,
    typer.Argument(metavar="[MODEL]", help="Only of this model.", show_default=False, autocompletion=complete_model),
]
_TypeOption = Annotated[
    str, typer.Option("--type", metavar="TYPE", help="model, version, alias, team, member, api_key or artifact.")
]
_CursorOption = Annotated[
    str, typer.Option("--cursor", metavar="CURSOR", help="Go on behind it; 0 begins with the first change there is.")
]
_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]


def add_history(group: typer.Typer) -> None:
    """Registers the commands about history among those of models."""
    _add_lineage(group)
    _add_watch(group)
    _add_delete(group)

    @command(group, "changes", epilog="Example: infermesh models changes digits")
    def changes(session: Session, model: ModelArgument, *, limit: LimitOption = 50) -> None:
        """Show what happened to a model, its versions and aliases, newest first."""
        found = _changes_of(session.client, model, limit)
        session.output.result({"changes": found}, lambda: changes_listed(found))


def add_audit(app: typer.Typer) -> None:
    """Registers `infermesh audit`."""

    @command(app, "audit", epilog="Example: infermesh audit --type api_key --actor ann --since 2026-02-01")
    def audit(
        session: Session,
        *,
        kind: _TypeOption = "",
        name: Annotated[str, typer.Option(metavar="NAME", help="Of this alone, as digits or digits@v1.0.0.")] = "",
        actor: Annotated[str, typer.Option(metavar="WHO", help="Only what this user or key did.")] = "",
        team: Annotated[str, typer.Option(metavar="TEAM", help="Only what members of this team did.")] = "",
        since: Annotated[
            datetime | None, typer.Option(formats=_FORMATS, help="Only from then on, in this machine's time.")
        ] = None,
        until: Annotated[
            datetime | None, typer.Option(formats=_FORMATS, help="Only before then, in this machine's time.")
        ] = None,
        limit: LimitOption = 50,
    ) -> None:
        """Show who changed what, newest first. With --json also what it was before and after."""
        found = list(
            session.client.changes.list(
                resource_type=kind,
                resource_name=name,
                actor=actor,
                team=team,
                start=since.astimezone() if since is not None else None,
                end=until.astimezone() if until is not None else None,
                limit=limit,
            )
        )
        session.output.result({"changes": found}, lambda: changes_listed(found))


def _changes_of(client: Client, model: str, limit: int) -> list[change_pb2.Change]:
    """Of the model, of its highest versions and of its aliases, as many as there are now."""
    versions = client.models.versions(model, limit=_VERSIONS_MAX)
    names = [model, *(f"{model}@{one.version}" for one in versions)]
    names += [f"{model}/{alias}" for alias in client.models.get(model).aliases]
    found = [change for name in names for change in client.changes.list(resource_name=name, limit=limit)]
    return sorted(found, key=lambda change: -int(change.cursor))[:limit]


def _add_lineage(group: typer.Typer) -> None:
    @command(
        group,
        "lineage",
        epilog="Examples: infermesh models lineage digits v1.1.0 · infermesh models lineage --node dataset:mnist",
    )
    def lineage(
        session: Session,
        model: _OptionalModel = "",
        version: _OptionalVersion = None,
        *,
        node: Annotated[
            str, typer.Option(metavar="NODE", help="Begin here: dataset:, run:, commit: or person:NAME.")
        ] = "",
        direction: Annotated[str, typer.Option(metavar="WORD", help="ancestors, descendants or both.")] = "both",
        depth: Annotated[int, typer.Option(min=1, max=100, help="So many steps.")] = 10,
    ) -> None:
        """Show what a version was made from, and what was made from it."""
        if bool(model) == bool(node):
            raise typer.BadParameter("give a MODEL and its VERSION, or --node", param_hint="MODEL")
        graph = session.client.models.lineage(
            model, (version or "latest") if model else "", node=node, direction=direction, depth_max=depth
        )
        session.output.result(graph, lambda: lineage_shown(graph))


def _add_watch(group: typer.Typer) -> None:
    @command(group, "watch", epilog="Example: infermesh models watch digits --cursor 0")
    def watch(
        session: Session, model: _OptionalModel = "", *, kind: _TypeOption = "", cursor: _CursorOption = ""
    ) -> None:
        """Show changes as they happen, until Ctrl-C."""
        for change in session.client.changes.watch(cursor=cursor, resource_types=[kind] if kind else [], model=model):
            session.output.line(change, change_line(change))


def _add_delete(group: typer.Typer) -> None:
    @command(group, "delete", epilog="Examples: infermesh models delete digits v1.0.0 · infermesh models delete digits")
    def delete(
        session: Session,
        model: ModelArgument,
        version: _OptionalVersion = None,
        *,
        yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
        etag: EtagOption = "",
    ) -> None:
        """Remove a version, or a model with all its versions, for good. What is deployed is not removed."""
        what = f"{version} of {model}" if version else f"{model} with all its versions"
        if not yes:
            _confirm(session, what)
        if version:
            session.client.models.delete_version(model, version, etag=etag)
        else:
            session.client.models.delete(model, etag=etag)
        removed = {"model_name": model, "version": version or "", "removed": True}
        session.output.result(removed, lambda: f"removed {escape(what)}")


def _confirm(session: Session, what: str) -> None:
    if session.output.as_json or not sys.stdin.isatty():
        raise typer.BadParameter(f"removing {what} cannot be undone; add --yes", param_hint="--yes")
    if not typer.confirm(f"Remove {what}? This cannot be undone, and numbers are never given out again", err=True):
        raise typer.Exit(ExitCode.FAILURE)
