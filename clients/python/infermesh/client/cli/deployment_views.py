"""Deployments as people look at them: how far one is, what there is, how checks went, what happened."""

from collections.abc import Sequence

import grpc
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.session import Session
from infermesh.client.deployments import is_stopped
from infermesh.client.errors import InfermeshError
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.spinner import Spinner

_MARKS = {"True": "[green]✓[/]", "False": "[red]✗[/]"}
_UNSTARTED = "[dim]·[/]"
_UNDER_WAY = ("Building", "Asked")
"""Reasons of conditions that are not true and need not be."""


def coming_up(deployment: deployment_pb2.Deployment) -> RenderableType:
    """How far a deployment is, drawn again and again."""
    title = f"{escape(deployment.model_name)} {escape(deployment.version)} {state(deployment.status)}"
    return Group(Spinner("dots", text=title), *(f"  {line}" for line in steps(deployment)))


def steps(deployment: deployment_pb2.Deployment) -> list[str]:
    """What is known of each step, a line each, as rich markup. What is under way is no failure, and neither is to be
    awake."""
    return [
        f"{_UNSTARTED if step.reason in _UNDER_WAY else _MARKS.get(step.status, _UNSTARTED)} {escape(step.type)}"
        + (f" [dim]{escape(step.message)}[/]" if step.message else "")
        for step in deployment.conditions
    ]


def deployed(deployment: deployment_pb2.Deployment) -> RenderableType:
    """What came of it."""
    name, version = escape(deployment.model_name), escape(deployment.version)
    title = f"[bold]{name} {version}[/] {state(deployment.status)} as {escape(deployment.deployment_name)}"
    if deployment.status != "active":
        return Group(title, f"[dim]infermesh deployments {name} shows how far it is.[/]")
    took = f", loaded in {deployment.load_time_ms:.0f} ms" if deployment.load_time_ms else ""
    return Group(
        title + took,
        *(f"  {line}" for line in steps(deployment)),
        f"[dim]infermesh predict {name} --version {version} asks it.[/]"
        if not is_stopped(deployment)
        else f"[dim]infermesh update {name} {escape(deployment.deployment_name)} --replicas 1 has it loaded again.[/]",
    )


def listed(deployments: list[deployment_pb2.Deployment]) -> RenderableType:
    """A table of deployments, and under it what is wrong with any."""
    if not deployments:
        return "[dim]nothing is deployed; `infermesh deploy MODEL VERSION` makes a registered version answer[/]"
    shown = table("model", "deployment", "version", "status", "replicas", "since", right=["replicas"])
    for one in deployments:
        changing = one.served_version and one.served_version != one.version
        version = f"{one.served_version} → {one.version}" if changing else one.version
        shown.add_row(
            escape(one.model_name),
            escape(one.deployment_name),
            escape(version),
            f"{state(one.status)} [dim]asleep[/]" if _sleeps(one) else state(one.status),
            f"{one.ready_replicas}/{one.replicas}",
            when(one.deployed_at),
        )
    wrong = [one for one in deployments if one.error_message]
    if not wrong:
        return shown
    names = ((f"{one.model_name} {one.version}", f"[red]{escape(one.error_message)}[/]") for one in wrong)
    return Group(shown, "", facts((escape(name), text) for name, text in names))


def _sleeps(deployment: deployment_pb2.Deployment) -> bool:
    """Whether it is unloaded until somebody asks for it."""
    return any(one.type == "Asleep" and one.status == "True" for one in deployment.conditions)


def checked(session: Session, checks: deployer_service_pb2.ValidateDeploymentResponse) -> None:
    """Prints how each check went. Raises the first that did not pass."""
    lines = [f"{_MARKS[one.status]} {escape(one.type)} [dim]{escape(one.message)}[/]" for one in checks.checks]
    session.output.result(checks, lambda: Group(*lines))
    failed = next((one for one in checks.checks if one.status != "True"), None)
    if failed is not None:
        raise InfermeshError(
            f"it cannot be deployed: {failed.message}",
            code=grpc.StatusCode.FAILED_PRECONDITION,
            reason=failed.reason,
        )


def happened(events: Sequence[deployer_service_pb2.DeploymentEvent]) -> RenderableType:
    """A table of what happened, the newest first."""
    shown = table("when", "what", "status", "by", "message")
    for one in events:
        shown.add_row(
            when(one.time), escape(one.type), state(one.status), escape(one.actor or "mesh"), escape(one.message)
        )
    return shown if events else "[dim]nothing happened in the last 30 days[/]"
