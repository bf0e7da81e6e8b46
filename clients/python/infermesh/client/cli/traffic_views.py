"""A model's traffic, drawn: shares, plans, rules, the history, and where a request would go."""

from collections.abc import Mapping, Sequence

from infermesh.client.cli.output import bar, facts, state, table, when
from infermesh.client.cli.routes import condition_text, shadow_text, split_text
from infermesh.router.v1 import router_service_pb2, traffic_pb2, traffic_rule_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

_PLAIN_RULE = "split"
"""The name of the rule that holds where no canary or A/B test does."""


def traffic_shown(traffic: traffic_pb2.Traffic) -> RenderableType:
    """Who gets what share, who decided that, and what is not as it was asked for."""
    shares = table("version", "share", "", "now", right=["share", "now"])
    shared = dict(traffic.traffic_split)
    versions = sorted({*shared, *traffic.ready_versions}, key=lambda version: (-shared.get(version, 0), version))
    for version in versions:
        share = shared.get(version, 0)
        now = traffic.effective_split.get(version, 0)
        shares.add_row(
            escape(version),
            f"{share} %",
            f"[cyan]{bar(share / 100)}[/]",
            "" if now == share else f"[yellow]{now} %[/]",
        )
    about = facts(
        (
            ("model", escape(traffic.model_name)),
            ("chosen", escape(_strategy(traffic.routing_strategy, traffic.sticky_key_header))),
            ("first", escape("; ".join(condition_text(one) for one in traffic.conditions))),
            ("decided by", escape(_decider(traffic))),
            ("copies to", escape("; ".join(shadow_text(one) for one in traffic.shadows))),
            ("since", when(traffic.updated_at)),
            ("by", escape(traffic.updated_by)),
            ("why", escape(traffic.reason)),
            ("etag", escape(traffic.etag)),
        )
    )
    wrong = [f"[yellow]{escape(item.message)}[/]" for item in traffic.status_conditions if item.status == "False"]
    return Group(about, "", shares, *wrong)


def _decider(traffic: traffic_pb2.Traffic) -> str:
    """The canary or A/B test that decides the shares; empty where they are the plain ones, as they mostly are."""
    return "" if traffic.governing_rule == _PLAIN_RULE else traffic.governing_rule


def _strategy(strategy: str, header: str) -> str:
    return f"{strategy} by {header}" if header else strategy


def plan_shown(plan: router_service_pb2.TrafficPlan) -> RenderableType:
    """What a change would do: each version's share now and then, and every other thing that would change."""
    if not plan.changes:
        return "[dim]nothing would change[/]"
    before, after = dict(plan.before.traffic_split), dict(plan.after.traffic_split)
    shares = table("version", "now", "then", "moves", "", right=["now", "then", "moves"])
    for version in sorted({*before, *after}, key=lambda one: (-after.get(one, 0), one)):
        now, then = before.get(version, 0), after.get(version, 0)
        moves = f"{then - now:+d} %" if then != now else ""
        shares.add_row(escape(version), f"{now} %", f"{then} %", moves, f"[cyan]{bar(then / 100)}[/]")
    changes = [f"• {escape(change)}" for change in plan.changes]
    moved = f"{plan.moved_percent} % of the traffic would get another version; nothing was changed"
    return Group(*((shares, "") if before or after else ()), *changes, f"[dim]{moved}[/]")


def changes_listed(changes: Sequence[traffic_pb2.TrafficChange]) -> RenderableType:
    """The history, a row each."""
    if not changes:
        return "[dim]no changes[/]"
    shown = table("when", "what", "who", "before", "after", "why")
    for one in changes:
        shown.add_row(
            when(one.time),
            escape(one.action),
            escape(one.actor),
            escape(split_text(dict(one.before))),
            escape(split_text(dict(one.after))),
            escape(one.reason),
        )
    return shown


def rules_listed(rules: Sequence[traffic_rule_pb2.TrafficRule]) -> RenderableType:
    """The rules, a row each."""
    if not rules:
        return "[dim]no rules: the version that was ready first has all traffic[/]"
    shown = table("rule", "type", "status", "shares", "chosen", "since", "until")
    for rule in rules:
        shown.add_row(
            escape(rule.rule_name),
            escape(rule.rule_type),
            state(rule.status),
            escape(split_text(dict(rule.version_weights))),
            escape(_strategy(rule.routing_strategy, rule.sticky_key_header)),
            when(rule.start_time),
            when(rule.end_time),
        )
    return shown


def resolved_shown(
    model: str, headers: Mapping[str, str], route: router_service_pb2.ResolveRouteResponse
) -> RenderableType:
    """Where a request would go, and why."""
    odds = split_text(dict(route.split))
    gets = f"[bold]{escape(route.version)}[/]" if route.version else f"[bold]by chance[/] {escape(odds)}"
    sent = ", ".join(f"{name}: {value}" for name, value in headers.items())
    return facts(
        (
            ("model", escape(model)),
            ("headers", escape(sent)),
            ("version", gets),
            ("decided by", escape(route.decided_by)),
            ("why", escape(route.explanation)),
            ("shares", escape(odds) if route.version else ""),
        )
    )
