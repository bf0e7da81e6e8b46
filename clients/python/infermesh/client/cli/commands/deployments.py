"""`infermesh deploy`, `undeploy`, `deployments`: which versions answer."""

from typing import Annotated

import grpc
import typer
from infermesh.client.cli.completion import complete_model
from infermesh.client.cli.deployment_names import deployment_name
from infermesh.client.cli.deployment_views import (
    checked,
    coming_up,
    deployed,
    listed,
)
from infermesh.client.cli.external import parse_external
from infermesh.client.cli.padding import parse_padding
from infermesh.client.cli.session import DeploymentArgument, ModelArgument, Session, VersionArgument, command
from infermesh.client.cli.splits import parse_split
from infermesh.client.deployments import WAIT_TIMEOUT_S, has_its_traffic, is_settled, is_stopped, raise_if_failed
from infermesh.client.errors import InfermeshError
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2
from rich.live import Live
from rich.markup import escape

WaitOption = Annotated[
    float, typer.Option("--for", metavar="SECONDS", min=0.001, help="The longest to wait; it goes on afterwards.")
]
NoWaitOption = Annotated[bool, typer.Option("--no-wait", help="Return at once.")]


def add_to(app: typer.Typer) -> None:
    """Registers the commands."""
    _add_deploy(app)
    _add_undeploy(app)
    _add_restart(app)

    @command(app, "deployments")
    def deployments(
        session: Session,
        model: Annotated[
            str | None,
            typer.Argument(
                metavar="[MODEL]", help="Only of this model.", show_default=False, autocompletion=complete_model
            ),
        ] = None,
        status: Annotated[str, typer.Option(metavar="STATUS", help="Only with this status.")] = "",
        limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 200,
    ) -> None:
        """List what is deployed, and why what does not answer does not."""
        found = list(session.client.deployments.list(model=model or "", status=status, limit=limit))
        session.output.result({"deployments": found}, lambda: listed(found))


def _add_deploy(app: typer.Typer) -> None:
    @command(
        app,
        "deploy",
        epilog="Examples: infermesh deploy iris v1.0.0 · infermesh deploy iris v1.1.0 --traffic v1.0.0=90,v1.1.0=10",
    )
    def deploy(
        session: Session,
        model: ModelArgument,
        version: VersionArgument,
        *,
        name: Annotated[
            str, typer.Option("--name", "-n", metavar="NAME", help="The deployment's name. Default: after the version.")
        ] = "",
        environment: Annotated[str, typer.Option(metavar="NAME", help="prod, staging or dev. Default: prod.")] = "",
        cluster: Annotated[
            str, typer.Option(metavar="NAME", help="A Kubernetes cluster of the mesh. Default: its own model servers.")
        ] = "",
        namespace: Annotated[
            str, typer.Option(metavar="NAME", help="With --cluster: the namespace there. Default: the team's.")
        ] = "",
        traffic: Annotated[
            str, typer.Option(metavar="SPLIT", help="The shares once it answers, as in v1.0.0=90,v1.1.0=10.")
        ] = "",
        batch_size: Annotated[int, typer.Option(metavar="ROWS", min=0, help="The most rows in one batch.")] = 0,
        batch_timeout_ms: Annotated[
            float | None, typer.Option(metavar="MS", min=0, help="The longest that a request waits for others.")
        ] = None,
        pad: Annotated[
            list[str] | None,
            typer.Option(
                metavar="[INPUT=]NUMBER",
                help="Let rows of different sizes share a batch, filled up with this number; may be repeated.",
            ),
        ] = None,
        pad_lengths: Annotated[
            str, typer.Option(metavar="INPUT", help="The input that tells the model the true lengths.")
        ] = "",
        pad_trim: Annotated[
            list[str] | None,
            typer.Option(metavar="OUTPUT", help="An output to cut back to each caller's own size; may be repeated."),
        ] = None,
        pad_waste: Annotated[
            float | None,
            typer.Option(
                metavar="SHARE", min=0, max=0.99, help="The most of a batch that may be filled in. Default: 0.5."
            ),
        ] = None,
        cache: Annotated[
            bool, typer.Option("--cache", help="The same input always gives the same output: keep answers.")
        ] = False,
        sleep_after_s: Annotated[
            int | None,
            typer.Option(
                "--sleep-after",
                metavar="SECONDS",
                min=0,
                max=604_800,
                help="Unload it when nobody has asked for so long; the next request has it loaded.",
            ),
        ] = None,
        int8: Annotated[
            bool, typer.Option("--int8", help="Run an ONNX model in 8-bit integers, proven on its reference sample.")
        ] = False,
        external: Annotated[
            str,
            typer.Option(
                metavar="PROTOCOL=HOST:PORT[,…]",
                help="Servers that already run it: oip-rest, oip-grpc, tensorflow-rest, tensorflow-grpc or torchserve. "
                "By TLS: https://HOST:PORT or grpcs://HOST:PORT.",
            ),
        ] = "",
        server_model: Annotated[
            str, typer.Option(metavar="NAME", help="With --external: the server's name for the model. Default: ours.")
        ] = "",
        server_version: Annotated[
            str, typer.Option(metavar="VERSION", help="With --external: the server's version. Default: its choice.")
        ] = "",
        signature: Annotated[
            str, typer.Option(metavar="NAME", help="With --external: the signature of TensorFlow Serving to call.")
        ] = "",
        credentials: Annotated[
            str,
            typer.Option(
                metavar="NAME", help="With --external: the token, kept by the mesh for your team, that it is shown."
            ),
        ] = "",
        schema: Annotated[
            str,
            typer.Option(
                metavar="JSON|@FILE",
                help="With --external: inputs and outputs, where neither server nor registry knows.",
            ),
        ] = "",
        check: Annotated[
            bool, typer.Option("--check", help="Say how each check goes, and deploy nothing. Fails where one does.")
        ] = False,
        no_wait: NoWaitOption = False,
        for_s: WaitOption = WAIT_TIMEOUT_S,
    ) -> None:
        """Deploy a registered version, and show how it comes up until it answers.

        With --external it is run by servers that are there already, and need not be registered.

        A model's first version gets all its traffic. Later ones answer when asked for by name, until
        `infermesh traffic set` gives them a share.
        """
        sleeps = deployment_pb2.Autoscaling(enabled=True, min_replicas=0, max_replicas=1, idle_timeout_s=sleep_after_s)
        padding = parse_padding(pad or (), lengths=pad_lengths, trim=pad_trim or (), waste=pad_waste)
        batching = deployment_pb2.Batching(
            max_batch_size=batch_size or None, batch_timeout_ms=batch_timeout_ms, padding=padding
        )
        serving = deployment_pb2.ServingOptions(deterministic=cache, precision="int8" if int8 else "")
        call = session.client.deployments.check if check else session.client.deployments.deploy
        made = call(
            model,
            version,
            name=name,
            environment=environment,
            cluster=cluster,
            namespace=namespace,
            traffic_split=parse_split(traffic.split(","), "--traffic") if traffic else None,
            batching=batching if batching.ListFields() else None,
            autoscaling=sleeps if sleep_after_s is not None else None,
            serving=serving if serving.ListFields() else None,
            external_backend=parse_external(
                external,
                model=server_model,
                version=server_version,
                signature=signature,
                credentials=credentials,
                schema=schema,
            ),
        )
        if isinstance(made, deployer_service_pb2.ValidateDeploymentResponse):
            checked(session, made)
            return
        last = made if no_wait else followed(session, made, for_s)
        session.output.result(last, lambda: deployed(last))


def _add_undeploy(app: typer.Typer) -> None:
    @command(app, "undeploy", epilog="Examples: infermesh undeploy iris v1-0-0 · infermesh undeploy iris v1.0.0")
    def undeploy(
        session: Session,
        model: ModelArgument,
        deployment: DeploymentArgument,
        *,
        no_wait: NoWaitOption = False,
        for_s: WaitOption = WAIT_TIMEOUT_S,
    ) -> None:
        """Take a deployment away: out of the traffic, drained, unloaded. The version stays registered."""
        name = deployment_name(session, model, deployment)
        last = session.client.deployments.remove(model, name)
        if not no_wait:
            session.client.deployments.wait_removed(model, name, timeout_s=for_s)
        done = "is being removed" if no_wait else "is removed"
        session.output.result(
            {"removed": not no_wait, "deployment": last},
            lambda: f"deployment {escape(name)} of {escape(model)} ({escape(last.version)}) {done}",
        )


def _add_restart(app: typer.Typer) -> None:
    @command(app, "restart", epilog="Example: infermesh restart iris v1.0.0")
    def restart(
        session: Session,
        model: ModelArgument,
        deployment: DeploymentArgument,
        *,
        no_wait: NoWaitOption = False,
        for_s: WaitOption = WAIT_TIMEOUT_S,
    ) -> None:
        """Try again what failed, or load anew what answers; it keeps answering meanwhile."""
        begun = session.client.deployments.restart(model, deployment_name(session, model, deployment))
        last = begun if no_wait else followed(session, begun, for_s)
        session.output.result(last, lambda: deployed(last))


def followed(
    session: Session, made: deployment_pb2.Deployment, timeout_s: float, *, routed: bool = False
) -> deployment_pb2.Deployment:
    """The deployment once it answers, with `routed` once its traffic is led to it; its steps are drawn as they are
    reached. Raises where it failed."""
    last = made
    drawn = not session.output.as_json and session.output.err.is_terminal
    with Live(console=session.output.err, transient=True, refresh_per_second=10, auto_refresh=drawn) as live:
        for last in session.client.deployments.watch(made.model_name, made.deployment_name, timeout_s=timeout_s):
            if drawn:
                live.update(coming_up(last))
            if is_settled(last) and (not routed or last.status == "failed" or has_its_traffic(last)):
                break
        else:
            raise InfermeshError(
                f"deployment {made.deployment_name} of {made.model_name} was removed before it answered",
                code=grpc.StatusCode.NOT_FOUND,
                reason="DEPLOYMENT_NOT_FOUND",
            )
    raise_if_failed(last)
    if is_stopped(last):
        return last
    if not session.client.deployments.wait_routed(last):
        session.output.note("[yellow]it answers, but it is not known yet whether every gateway routes to it[/]")
    return last
