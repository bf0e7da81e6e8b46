"""`infermesh status`: which parts answer, and what is served."""

from collections.abc import Iterator, Sequence
from contextlib import suppress

import typer
from infermesh.client.cli.deployment_views import listed
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.figures import count
from infermesh.client.cli.output import state, table
from infermesh.client.cli.session import Session, command
from infermesh.client.errors import InfermeshError
from infermesh.client.health import PartHealth
from infermesh.deployer.v1 import deployment_pb2
from infermesh.monitor.v1 import monitor_service_pb2
from infermesh.router.v1 import receiver_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_DEPLOYMENTS_MAX = 1000


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(app, "status")
    def status(session: Session) -> None:
        """Show which parts of the mesh answer, and what is deployed. Where there are several batchers, each is shown.

        The exit code is 4 where a part or a batcher is away. Predictions go on without the control plane: of these
        parts they need one batcher alone.
        """
        parts = session.client.health.check()
        batchers: list[receiver_pb2.Batcher] = []
        batchers_unknown = ""
        try:
            batchers = session.client.health.batchers()
        except InfermeshError as error:
            batchers_unknown = error.message
        deployments: list[deployment_pb2.Deployment] = []
        unknown = ""
        try:
            deployments = list(session.client.deployments.list(limit=_DEPLOYMENTS_MAX))
        except InfermeshError as error:
            unknown = error.message
        log: monitor_service_pb2.LogHealth | None = None
        with suppress(InfermeshError):
            log = session.client.logs.health()
        value = {
            "gateway": session.client.gateway,
            "parts": [{"name": part.name, "healthy": part.healthy, "explanation": part.explanation} for part in parts],
            "batchers": batchers,
            "batchers_unknown": batchers_unknown,
            "deployments": deployments,
            "deployments_unknown": unknown,
            "prediction_log": log,
        }
        served = f"[yellow]what is deployed is not known now: {escape(unknown)}[/]" if unknown else listed(deployments)
        session.output.result(value, lambda: _shown(session.client.gateway, parts, batchers, served, log))
        if not all(part.healthy for part in parts) or not all(batcher.connected for batcher in batchers):
            raise typer.Exit(ExitCode.UNAVAILABLE)


def _shown(
    gateway: str,
    parts: Sequence[PartHealth],
    batchers: Sequence[receiver_pb2.Batcher],
    served: RenderableType,
    log: monitor_service_pb2.LogHealth | None,
) -> RenderableType:
    health = table("part", "state", "why")
    health.add_row("gateway", state("answers"), f"[dim]{escape(gateway)}[/]")
    for part in parts:
        health.add_row(part.name, state("answers" if part.healthy else "away"), escape(part.explanation))
        if part.name == "batcher" and len(batchers) > 1:
            for row in _each(batchers):
                health.add_row(*row)
    missing = _missing(log)
    return Group(health, *((missing,) if missing else ()), "", served)


def _missing(log: monitor_service_pb2.LogHealth | None) -> str:
    """What is wrong with the prediction log; nothing, where nothing is, or the monitor does not say."""
    if log is None:
        return ""
    if not log.stored:
        return "[yellow]the prediction log is not stored now: the monitor's database is away; predictions go on[/]"
    if not log.dropped_count and not log.unkept_count:
        return ""
    return (
        f"[yellow]missing in the prediction log of the last {log.window_minutes} minutes: "
        f"{count(log.dropped_count)} requests were dropped, {count(log.unkept_count)} counted and not kept[/]"
    )


def _each(batchers: Sequence[receiver_pb2.Batcher]) -> Iterator[tuple[str, str, str]]:
    for batcher in sorted(batchers, key=lambda one: (one.batcher_id, one.address)):
        name = f"  {escape(batcher.batcher_id or batcher.address)}"
        where = f"[dim]{escape(batcher.address)}[/]"
        if not batcher.connected:
            yield name, state("away"), f"{where}, the router has no word from it; its log says why"
        elif batcher.error_message:
            yield name, state("behind"), f"{where}, it serves an older table: {escape(batcher.error_message)}"
        else:
            yield name, state("connected" if batcher.current else "behind"), where
