"""`infermesh update`, `events`: what a deployment shall be from now on, and what happened to it."""

from typing import Annotated

import typer
from infermesh.client.cli.commands.deployments import NoWaitOption, WaitOption, followed
from infermesh.client.cli.completion import complete_version
from infermesh.client.cli.deployment_names import deployment_name
from infermesh.client.cli.deployment_views import deployed, happened
from infermesh.client.cli.session import (
    DeploymentArgument,
    EtagOption,
    LimitOption,
    ModelArgument,
    Session,
    command,
)
from infermesh.client.deployments import WAIT_TIMEOUT_S
from infermesh.deployer.v1 import deployment_pb2


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    _add_update(app)

    @command(app, "events", epilog="Example: infermesh events iris prod")
    def events(session: Session, model: ModelArgument, deployment: DeploymentArgument, limit: LimitOption = 50) -> None:
        """Show what happened to a deployment, newest first: who changed what, when it answered, why it failed."""
        name = deployment_name(session, model, deployment)
        found = list(session.client.deployments.events(model, name, limit=limit))
        session.output.result({"events": found}, lambda: happened(found))


def _add_update(app: typer.Typer) -> None:
    @command(
        app,
        "update",
        epilog="Examples: infermesh update iris prod --to v1.1.0 --bake 600 · infermesh update iris prod --replicas 3",
    )
    def update(
        session: Session,
        model: ModelArgument,
        deployment: DeploymentArgument,
        *,
        to: Annotated[
            str,
            typer.Option("--to", metavar="VERSION", help="The version to go over to.", autocompletion=complete_version),
        ] = "",
        bake_s: Annotated[
            int | None,
            typer.Option(
                "--bake",
                metavar="SECONDS",
                min=0,
                max=604_800,
                help="Keep the old version loaded for so long, for a rollback that waits for nothing.",
            ),
        ] = None,
        replicas: Annotated[
            int | None,
            typer.Option(metavar="COUNT", min=0, max=1000, help="How many; 0 unloads it until further notice."),
        ] = None,
        etag: EtagOption = "",
        no_wait: NoWaitOption = False,
        for_s: WaitOption = WAIT_TIMEOUT_S,
    ) -> None:
        """Change a deployment: its version, or how many replicas it has. It keeps answering meanwhile.

        Another version is loaded and tried first; then it gets the traffic of the old one, which is kept for a
        rollback: `infermesh update MODEL DEPLOYMENT --to OLD` goes back.
        """
        if not to and bake_s is None and replicas is None:
            raise typer.BadParameter("say what to change", param_hint="--to, --replicas or --bake")
        name = deployment_name(session, model, deployment)
        current = session.client.deployments.get(model, name)
        resources, serving = current.resources, current.serving
        if replicas is not None:
            resources.replicas = replicas
        if bake_s is not None:
            serving.bake_time_s = bake_s
        changed = session.client.deployments.update(
            model,
            name,
            version=to,
            resources=resources if replicas is not None else None,
            serving=serving if bake_s is not None else None,
            etag=etag or current.etag,
        )
        last: deployment_pb2.Deployment = changed if no_wait else followed(session, changed, for_s, routed=bool(to))
        session.output.result(last, lambda: deployed(last))
