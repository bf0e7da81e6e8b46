"""`infermesh status`: which parts answer, and what is served."""

import typer
from infermesh.client.cli.commands.deployments import listed
from infermesh.client.cli.failures import ExitCode
from infermesh.client.cli.output import state, table
from infermesh.client.cli.session import Session, command
from infermesh.client.errors import InfermeshError
from infermesh.client.health import PartHealth
from infermesh.deployer.v1 import deployment_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_DEPLOYMENTS_MAX = 1000


def add_to(app: typer.Typer) -> None:
    """Registers the command."""

    @command(app, "status")
    def status(session: Session) -> None:
        """Show which parts of the mesh answer, and what is deployed.

        The exit code is 4 where a part is away. Predictions go on without the control plane: of these parts they need
        the batcher alone.
        """
        parts = session.client.health.check()
        deployments: list[deployment_pb2.Deployment] = []
        unknown = ""
        try:
            deployments = list(session.client.deployments.list(limit=_DEPLOYMENTS_MAX))
        except InfermeshError as error:
            unknown = error.message
        value = {
            "gateway": session.client.gateway,
            "parts": [{"name": part.name, "healthy": part.healthy, "explanation": part.explanation} for part in parts],
            "deployments": deployments,
            "deployments_unknown": unknown,
        }
        session.output.result(value, lambda: _shown(session.client.gateway, parts, deployments, unknown))
        if not all(part.healthy for part in parts):
            raise typer.Exit(ExitCode.UNAVAILABLE)


def _shown(
    gateway: str, parts: list[PartHealth], deployments: list[deployment_pb2.Deployment], unknown: str
) -> RenderableType:
    health = table("part", "state", "why")
    health.add_row("gateway", state("answers"), f"[dim]{escape(gateway)}[/]")
    for part in parts:
        health.add_row(part.name, state("answers" if part.healthy else "away"), escape(part.explanation))
    served = f"[yellow]what is deployed is not known now: {escape(unknown)}[/]" if unknown else listed(deployments)
    return Group(health, "", served)
