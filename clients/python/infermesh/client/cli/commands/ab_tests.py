"""`infermesh ab-test`: versions side by side, and what can be concluded from it."""

from typing import Annotated

import typer
from infermesh.client.ab_tests import WATCH_TIMEOUT_S
from infermesh.client.cli.ab_test_views import ab_test_shown, ab_tests_listed
from infermesh.client.cli.completion import complete_ab_test, complete_share, complete_version
from infermesh.client.cli.live import watched
from infermesh.client.cli.plots import plot_path, write_plot
from infermesh.client.cli.quantities import now, parse_fraction, parse_length
from infermesh.client.cli.session import EtagOption, LimitOption, ModelArgument, ReasonOption, Session, command
from infermesh.client.cli.splits import parse_split
from infermesh.router.v1 import ab_test_pb2
from rich.markup import escape

_SHARES = "VERSION=PERCENT"
_DAY_S = 86_400.0

TestArgument = Annotated[
    str, typer.Argument(metavar="TEST", help="The test's name.", show_default=False, autocompletion=complete_ab_test)
]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="ab-test", help="Test versions against each other.", no_args_is_help=True)
    _add_create(group)
    _add_looks(group)
    _add_ends(group)
    app.add_typer(group)


def _add_create(group: typer.Typer) -> None:
    @command(
        group,
        "create",
        epilog="Example: infermesh ab-test create digits forest v1.0.0=50 v1.1.0=50 --duration 7d --metric accuracy "
        "--metric latency --auto-promote",
    )
    def create(
        session: Session,
        model: ModelArgument,
        test: Annotated[str, typer.Argument(metavar="TEST", help="A name for the test.", show_default=False)],
        shares: Annotated[
            list[str],
            typer.Argument(
                metavar=f"{_SHARES}...",
                help="The shares, adding up to 100; the largest is the control.",
                show_default=False,
                autocompletion=complete_share,
            ),
        ],
        *,
        duration: Annotated[
            str, typer.Option("--duration", metavar="TIME", help="How long it runs, as 7d or 12h. Default: 7d.")
        ] = "",
        metric: Annotated[
            list[str] | None,
            typer.Option(
                "--metric",
                metavar="NAME",
                help="What is compared: latency, error_rate, accuracy, or what outcomes report. The first decides. "
                "Repeatable. Default: latency and error_rate.",
            ),
        ] = None,
        rollback_on_error_rate: Annotated[
            str, typer.Option(metavar="SHARE", help="End it at once where a version has more errors, as 5%.")
        ] = "",
        auto_promote: Annotated[
            bool, typer.Option("--auto-promote", help="Give a significant winner all traffic at the end.")
        ] = False,
        key: Annotated[
            str, typer.Option("--key", metavar="HEADER", help="The header that tells users apart. Default: x-user-id.")
        ] = "",
    ) -> None:
        """Start a test: each user gets one of the versions, and keeps it until the end."""
        length_s = parse_length(duration, "--duration", example="7d or 12h").total_seconds() if duration else 0.0
        made = session.client.ab_tests.create(
            model,
            test,
            parse_split(shares, _SHARES),
            duration_days=length_s / _DAY_S,
            metrics=metric or (),
            rollback_on_error_rate=parse_fraction(rollback_on_error_rate, "--rollback-on-error-rate")
            if rollback_on_error_rate
            else 0.0,
            auto_promote=auto_promote,
            sticky_key_header=key.lower(),
        )
        _print(session, made)
        session.output.note(f"[dim]infermesh ab-test show {escape(model)} {escape(test)} shows what it finds.[/]")


def _add_looks(group: typer.Typer) -> None:
    @command(group, "show", epilog="Example: infermesh ab-test show digits forest --plot forest.svg")
    def show(
        session: Session,
        model: ModelArgument,
        test: TestArgument,
        *,
        plot: Annotated[
            str, typer.Option("--plot", metavar="FILE", help="Draw the intervals into this .png or .svg too.")
        ] = "",
        watch: Annotated[bool, typer.Option("--watch", "-w", help="Follow it until it has ended.")] = False,
        for_s: Annotated[
            float, typer.Option("--for", metavar="SECONDS", min=0.001, help="Stop watching after so long.")
        ] = WATCH_TIMEOUT_S,
    ) -> None:
        """Show a test with its results up to now: each difference from the control with its intervals around 0.

        The wider interval holds however often one looks. With --watch and --json a line for each change.
        """
        picture = plot_path(plot) if plot else None
        if watch:
            found = watched(session, session.client.ab_tests.watch(model, test, timeout_s=for_s), ab_test_shown)
        else:
            found = session.client.ab_tests.get(model, test)
            _print(session, found)
        if picture is not None:
            write_plot(found, picture)
            session.output.note(f"[dim]drawn into {escape(str(picture))}[/]")

    @command(group, "list")
    def list_(
        session: Session,
        model: ModelArgument,
        status: Annotated[
            str, typer.Option(metavar="STATUS", help="Only running, completed, stopped or rolled_back ones.")
        ] = "",
        limit: LimitOption = 50,
    ) -> None:
        """List the tests of a model, newest first."""
        found = list(session.client.ab_tests.list(model, status=status, limit=limit))
        session.output.result({"ab_tests": found}, lambda: ab_tests_listed(found))


def _add_ends(group: typer.Typer) -> None:
    @command(group, "stop")
    def stop(
        session: Session, model: ModelArgument, test: TestArgument, reason: ReasonOption = "", etag: EtagOption = ""
    ) -> None:
        """End a test without a conclusion: the shares before it come back."""
        _print(session, session.client.ab_tests.stop(model, test, reason=reason, etag=etag))

    @command(group, "conclude", epilog="Example: infermesh ab-test conclude digits forest --promote v1.1.0")
    def conclude(
        session: Session,
        model: ModelArgument,
        test: TestArgument,
        *,
        promote: Annotated[
            str,
            typer.Option(
                metavar="VERSION",
                help="Who gets all traffic. Default: a winner with --auto-promote, else the shares before the test.",
                autocompletion=complete_version,
            ),
        ] = "",
        reason: ReasonOption = "",
        etag: EtagOption = "",
    ) -> None:
        """End a test now as if its time were over."""
        _print(session, session.client.ab_tests.conclude(model, test, promote=promote, reason=reason, etag=etag))


def _print(session: Session, test: ab_test_pb2.AbTest) -> None:
    session.output.result(test, lambda: ab_test_shown(test, now()))
