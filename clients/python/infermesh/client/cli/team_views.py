"""How teams, their limits and their keys look in the terminal."""

from collections.abc import Sequence
from datetime import UTC, datetime

from infermesh.client.cli.output import quantity, table, when
from infermesh.registry.v1 import team_pb2
from rich.console import RenderableType
from rich.markup import escape


def teams_listed(teams: Sequence[team_pb2.Team]) -> RenderableType:
    """A line for each team."""
    if not teams:
        return "[dim]no teams[/]"
    listed = table("team", "quota", "rate", "what it is")
    for team in teams:
        listed.add_row(team.name, quota_of(team.resource_quota), limits_of(team.rate_limit), escape(team.description))
    return listed


def keys_listed(keys: Sequence[team_pb2.ApiKey], now: datetime) -> RenderableType:
    """A line for each key."""
    if not keys:
        return "[dim]no keys[/]"
    listed = table("key", "name", "state", "role", "for", "last used", "made by")
    for key in keys:
        narrowed = [*key.scopes, *key.models]
        listed.add_row(
            key.key_id,
            escape(key.name),
            key_state(key, now),
            key.role,
            escape(", ".join(narrowed)) or "all of it",
            when(key.last_used_at) or "never",
            escape(key.created_by),
        )
    return listed


def key_state(key: team_pb2.ApiKey, now: datetime) -> str:
    """Whether a key is good, as rich markup."""
    if key.HasField("revoked_at"):
        return "[red]revoked[/]"
    if not key.HasField("expires_at"):
        return "[green]good[/]"
    if key.expires_at.ToDatetime(UTC) <= now:
        return "[dim]expired[/]"
    return f"[green]good[/] until {when(key.expires_at)}"


def quota_of(quota: team_pb2.ResourceQuota) -> str:
    """What a team may use, in one line; "no limit" where it has none."""
    parts = []
    if quota.cpu:
        parts.append(f"{quota.cpu} CPU")
    if quota.memory:
        parts.append(f"{quota.memory} memory")
    for name, what in (("gpu", "GPUs"), ("models", "models"), ("batch_concurrency", "batch jobs")):
        if quota.HasField(name):  # type: ignore[arg-type]
            parts.append(f"{getattr(quota, name)} {what}")
    if quota.HasField("artifact_bytes"):
        parts.append(f"{quantity(quota.artifact_bytes)} of artifacts")
    return ", ".join(parts) or "no limit"


def limits_of(limit: team_pb2.RateLimit) -> str:
    """How fast one may call."""
    if not limit.requests_per_sec:
        return "no limit"
    burst = f", {limit.burst:g} at once" if limit.burst else ""
    return f"{limit.requests_per_sec:g}/s{burst}"
