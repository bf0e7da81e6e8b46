"""Completion of names that only a mesh knows. A shell waits for it, so it is quick or says nothing, and never fails."""

import os
from collections.abc import Callable, Iterable, Sequence

import typer
from infermesh.client.client import GATEWAY_DEFAULT, Client
from infermesh.client.errors import InfermeshError

GATEWAY_VARIABLE = "INFERMESH_GATEWAY"
_TIMEOUT_S = 1.0
_OFFERED_MAX = 100

Offer = tuple[str, str]
"""A word, and what it is."""


def complete_model(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of models that begin with what is typed."""
    return _asked(
        context,
        lambda mesh: (
            (model.name, f"{model.framework} {model.latest_version}")
            for model in mesh.models.list(prefix=incomplete, limit=_OFFERED_MAX)
        ),
    )


def complete_version(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Versions of the model that is on the command line already."""
    model = context.params.get("model")
    if not isinstance(model, str):
        return []
    offers = _asked(
        context,
        lambda mesh: ((one.version, one.stage) for one in mesh.models.versions(model, limit=_OFFERED_MAX)),
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_share(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Versions of the model as the beginnings of shares: "v1.0.0="."""
    return [(f"{version}=", what) for version, what in complete_version(context, incomplete)]


def complete_ab_test(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of the A/B tests of the model that is on the command line already."""
    model = context.params.get("model")
    if not isinstance(model, str):
        return []
    offers = _asked(
        context, lambda mesh: ((one.name, one.status) for one in mesh.ab_tests.list(model, limit=_OFFERED_MAX))
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_alert(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Ids of alerts that are not over, each with what is wrong."""
    offers = _asked(
        context,
        lambda mesh: (
            (one.alert_id, one.summary) for one in mesh.alerts.list(limit=_OFFERED_MAX) if one.status != "resolved"
        ),
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_rule(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of alert rules, each with what it means."""
    offers = _asked(context, lambda mesh: ((one.name, one.description) for one in mesh.rules.list(limit=_OFFERED_MAX)))
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_channel(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of notification channels."""
    offers = _asked(context, lambda mesh: ((one.name, "") for one in mesh.channels.list(limit=_OFFERED_MAX)))
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_silence(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Ids of silences, each with why."""
    offers = _asked(
        context, lambda mesh: ((one.silence_id, one.reason) for one in mesh.silences.list(limit=_OFFERED_MAX))
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_deployment(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of deployments of the model that is on the command line already."""
    model = context.params.get("model")
    if not isinstance(model, str):
        return []
    offers = _asked(
        context,
        lambda mesh: (
            (one.deployment_name, one.version) for one in mesh.deployments.list(model=model, limit=_OFFERED_MAX)
        ),
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_team(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Names of teams that begin with what is typed."""
    offers = _asked(context, lambda mesh: ((one.name, one.description) for one in mesh.teams.list(limit=_OFFERED_MAX)))
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def complete_key(context: typer.Context, incomplete: str) -> Sequence[Offer]:
    """Ids of the keys of the team that is on the command line already, but for those that are revoked."""
    team = context.params.get("team")
    if not isinstance(team, str):
        return []
    offers = _asked(
        context,
        lambda mesh: (
            (one.key_id, one.name) for one in mesh.keys.list(team, limit=_OFFERED_MAX) if not one.HasField("revoked_at")
        ),
    )
    return [offer for offer in offers if offer[0].startswith(incomplete)]


def _asked(context: typer.Context, ask: Callable[[Client], Iterable[Offer]]) -> list[Offer]:
    given = context.params.get("gateway") or (context.find_root().params or {}).get("gateway")
    gateway = str(given or os.environ.get(GATEWAY_VARIABLE) or GATEWAY_DEFAULT)
    try:
        with Client(gateway, timeout_s=_TIMEOUT_S) as mesh:
            return list(ask(mesh))
    except (InfermeshError, ValueError):
        return []
