"""The command tree, and the entry point."""

import importlib.metadata
import sys
from typing import Annotated

import typer
from infermesh.client.cli.commands import (
    ab_tests,
    alerts,
    artifacts,
    batch,
    canaries,
    channels,
    deployment_changes,
    deployments,
    drift,
    features,
    keys,
    logs,
    metrics,
    models,
    outcomes,
    predict,
    rules,
    schedules,
    shadows,
    silences,
    status,
    teams,
    traffic,
    up,
    usage,
)
from infermesh.client.cli.completion import GATEWAY_VARIABLE
from infermesh.client.cli.failures import ExitCode
from infermesh.client.client import GATEWAY_DEFAULT

_HELP = "Register, deploy and serve machine-learning models, and watch them answer."
_EPILOG = (
    "Exit codes: 0 done, 1 failure, 2 wrong usage or value, 3 not found, 4 unavailable, 5 conflict with the current "
    "state, 6 timeout, 7 denied, 8 over a limit, 9 not implemented yet, 130 interrupted."
)

_GROUPS = (
    *(up, status, models, artifacts, deployments, deployment_changes, predict, features),
    *(traffic, canaries, ab_tests, shadows, outcomes, drift),
    *(alerts, rules, channels, silences),
    *(batch, schedules, metrics, logs, teams, keys, usage),
)


def build_app() -> typer.Typer:
    """A fresh command tree. Commands come in the order in which a newcomer needs them."""
    app = typer.Typer(
        name="infermesh",
        help=_HELP,
        epilog=_EPILOG,
        no_args_is_help=True,
        rich_markup_mode="markdown",
        pretty_exceptions_show_locals=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_before)
    for group in _GROUPS:
        group.add_to(app)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"infermesh {importlib.metadata.version('infermesh')}")
        raise typer.Exit(ExitCode.OK)


def _before(
    context: typer.Context,
    gateway: Annotated[
        str | None,
        typer.Option("--gateway", metavar="HOST:PORT", help=f"As {GATEWAY_VARIABLE}. Default: {GATEWAY_DEFAULT}."),
    ] = None,
    _version: Annotated[
        bool,
        # Eager: it needs no command after it.
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and leave."),
    ] = False,
) -> None:
    context.obj = {"gateway": gateway}


def main() -> None:
    """Runs the command line and leaves with its exit code."""
    try:
        build_app()(prog_name="infermesh")
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
