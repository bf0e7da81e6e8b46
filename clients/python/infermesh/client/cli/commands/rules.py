"""`infermesh rules`: when alerts are raised."""

from collections.abc import Sequence
from typing import Annotated

import typer
from infermesh.client.cli.completion import complete_model, complete_rule
from infermesh.client.cli.output import facts, state, table, when
from infermesh.client.cli.rule_words import condition_words, read_burn, read_when, seconds
from infermesh.client.cli.session import LimitOption, Session, command
from infermesh.monitor.v1 import alert_pb2
from rich.console import Group, RenderableType
from rich.markup import escape

RuleArgument = Annotated[
    str, typer.Argument(metavar="RULE", help="The rule's name.", show_default=False, autocompletion=complete_rule)
]
ModelOption = Annotated[
    str,
    typer.Option("--model", metavar="MODEL", help="Only this model. Default: each.", autocompletion=complete_model),
]
WhenOption = Annotated[
    str, typer.Option("--when", metavar="CONDITION", help="A metric and its limit, as 'error_rate > 5%'.")
]
WindowOption = Annotated[str, typer.Option("--window", metavar="TIME", help="Over how long; default 1m.")]
ForOption = Annotated[str, typer.Option("--for", metavar="TIME", help="How long it must hold; default: not at all.")]
RequestsOption = Annotated[
    int, typer.Option("--min-requests", metavar="NUMBER", min=0, help="Fewer decide nothing; default 100.")
]
SeverityOption = Annotated[str, typer.Option("--severity", metavar="LEVEL", help="info, warning or critical.")]
TellOption = Annotated[
    list[str] | None, typer.Option("--tell", metavar="CHANNEL", help="A channel that is told. Repeatable.")
]
CanaryOption = Annotated[
    str, typer.Option("--canary", metavar="WORD", help="What to do to a canary in progress: none, hold or rollback.")
]
DescriptionOption = Annotated[str, typer.Option("--description", metavar="TEXT", help="What it means when it fires.")]


def add_to(app: typer.Typer) -> None:
    """Registers the group."""
    group = typer.Typer(name="rules", help="Say when alerts are raised, and who is told.", no_args_is_help=True)

    @command(group, "list", epilog="Example: infermesh rules list --model digits")
    def list_(session: Session, *, model: ModelOption = "", limit: LimitOption = 200) -> None:
        """List the alert rules, by name."""
        found = list(session.client.rules.list(model=model, limit=limit))
        session.output.result({"alert_rules": found}, lambda: _listed(found))

    @command(group, "show")
    def show(session: Session, rule: RuleArgument) -> None:
        """Show a rule: what it watches, when it fires, what follows."""
        found = session.client.rules.get(rule)
        session.output.result(found, lambda: _shown(found))

    _add_create(group)
    _add_changes(group)
    app.add_typer(group)


def _add_create(group: typer.Typer) -> None:
    @command(
        group,
        "create",
        epilog="Example: infermesh rules create digits-errors --model digits --when 'error_rate > 5%' --window 5m "
        "--for 1m --severity critical --tell oncall --canary rollback",
    )
    def create(
        session: Session,
        name: Annotated[str, typer.Argument(metavar="NAME", help="A name of your choice.", show_default=False)],
        *,
        condition: WhenOption = "",
        burn: Annotated[
            str,
            typer.Option(metavar="RATE", help="An error budget: '0.999 1h 5m 14.4', objective, windows and rate."),
        ] = "",
        latency: Annotated[
            float, typer.Option(metavar="MS", min=0, help="With --burn: what takes longer is bad. Default: failures.")
        ] = 0.0,
        drift: Annotated[str, typer.Option(metavar="LEVEL", help="Drift at least moderate or high.")] = "",
        feature: Annotated[
            list[str] | None, typer.Option(metavar="FEATURE", help="With --drift: only this one. Repeatable.")
        ] = None,
        event: Annotated[
            list[str] | None,
            typer.Option(
                metavar="EVENT",
                help="canary_failed, canary_held, rolled_back, ab_test_ended or deployment_failed. Repeatable.",
            ),
        ] = None,
        model: ModelOption = "",
        version: Annotated[str, typer.Option(metavar="VERSION", help="Only this version. Default: each.")] = "",
        window: WindowOption = "",
        lasting: ForOption = "",
        min_requests: RequestsOption = 0,
        severity: SeverityOption = "warning",
        tell: TellOption = None,
        canary: CanaryOption = "",
        description: DescriptionOption = "",
        disabled: Annotated[bool, typer.Option("--disabled", help="Keep it, and do not evaluate it yet.")] = False,
    ) -> None:
        """Make a rule, of one condition: --when, --burn, --drift or --event."""
        if sum(map(bool, (condition, burn, drift, event))) != 1:
            raise typer.BadParameter("say one condition: --when, --burn, --drift or --event", param_hint="--when")
        rule = alert_pb2.AlertRule(
            name=name,
            description=description,
            model_name=model,
            version=version,
            severity=severity,
            notification_channels=tell or (),
            rollout_action=canary,
            enabled=not disabled,
        )
        if condition:
            threshold = _timed(read_when(condition), window, lasting, min_requests)
            rule.threshold.CopyFrom(threshold)
        elif burn:
            rule.burn_rate.CopyFrom(read_burn(burn, latency))
        elif drift:
            rule.drift.CopyFrom(alert_pb2.DriftCondition(min_severity=drift, features=feature or ()))
        else:
            rule.event.CopyFrom(alert_pb2.EventCondition(events=event or ()))
        made = session.client.rules.create(rule)
        session.output.result(made, lambda: _shown(made))


def _add_changes(group: typer.Typer) -> None:
    @command(
        group, "change", epilog="Example: infermesh rules change error-rate --when 'error_rate > 2%' --tell oncall"
    )
    def change(
        session: Session,
        rule: RuleArgument,
        *,
        condition: WhenOption = "",
        window: WindowOption = "",
        lasting: ForOption = "",
        min_requests: RequestsOption = 0,
        severity: SeverityOption = "",
        tell: TellOption = None,
        canary: CanaryOption = "",
        description: DescriptionOption = "",
    ) -> None:
        """Change what is said here of a rule; --tell replaces all of its channels."""
        sent = alert_pb2.AlertRule(
            name=rule,
            severity=severity,
            notification_channels=tell or (),
            rollout_action=canary,
            description=description,
        )
        given = {
            "severity": severity,
            "notification_channels": tell,
            "rollout_action": canary,
            "description": description,
        }
        paths = [path for path, value in given.items() if value]
        if condition:
            sent.threshold.CopyFrom(read_when(condition))
            paths += ["threshold.metric", "threshold.comparison", "threshold.threshold"]
        if window or lasting or min_requests:
            sent.threshold.CopyFrom(_timed(sent.threshold, window, lasting, min_requests))
            timed = {"threshold.window_s": window, "threshold.for_s": lasting, "threshold.min_requests": min_requests}
            paths += [path for path, value in timed.items() if value]
        if not paths:
            raise typer.BadParameter("say what to change; infermesh rules change --help lists it", param_hint="RULE")
        changed = session.client.rules.update(sent, paths=paths)
        session.output.result(changed, lambda: _shown(changed))

    @command(group, "enable")
    def enable(session: Session, rule: RuleArgument) -> None:
        """Have a rule evaluated."""
        sent = alert_pb2.AlertRule(name=rule, enabled=True)
        changed = session.client.rules.update(sent, paths=["enabled"])
        session.output.result(changed, lambda: _shown(changed))

    @command(group, "disable")
    def disable(session: Session, rule: RuleArgument) -> None:
        """Keep a rule, and do not evaluate it; its alerts are resolved."""
        changed = session.client.rules.update(alert_pb2.AlertRule(name=rule), paths=["enabled"])
        session.output.result(changed, lambda: _shown(changed))

    @command(group, "delete")
    def delete(session: Session, rule: RuleArgument) -> None:
        """Remove a rule; its alerts are resolved."""
        session.client.rules.delete(rule)
        session.output.result({"name": rule}, lambda: f"{escape(rule)} is removed")


def _timed(
    condition: alert_pb2.ThresholdCondition, window: str, lasting: str, min_requests: int
) -> alert_pb2.ThresholdCondition:
    made = alert_pb2.ThresholdCondition()
    made.CopyFrom(condition)
    made.window_s = seconds(window, "--window") if window else 0
    made.for_s = seconds(lasting, "--for") if lasting else 0
    made.min_requests = min_requests
    return made


def _watched(rule: alert_pb2.AlertRule) -> str:
    return f"{rule.model_name} {rule.version}".strip() or "each model"


def _listed(rules: Sequence[alert_pb2.AlertRule]) -> RenderableType:
    if not rules:
        return "[dim]no alert rules[/]"
    made = table("rule", "watches", "condition", "severity", "tells", least={"condition": 24})
    for one in rules:
        severity = state(one.severity) if one.enabled else "[dim]disabled[/]"
        made.add_row(
            escape(one.name),
            escape(_watched(one)),
            escape(condition_words(one)),
            severity,
            escape(", ".join(one.notification_channels)),
        )
    return made


def _shown(rule: alert_pb2.AlertRule) -> RenderableType:
    kind = rule.WhichOneof("condition")
    return Group(
        f"[bold]{escape(rule.name)}[/] {state(rule.severity)}{'' if rule.enabled else ' [dim]disabled[/]'}",
        facts(
            (
                ("watches", escape(_watched(rule))),
                ("condition", escape(condition_words(rule))),
                ("min requests", str(rule.threshold.min_requests) if kind == "threshold" else ""),
                ("tells", escape(", ".join(rule.notification_channels))),
                ("canary", rule.rollout_action if rule.rollout_action != "none" else ""),
                ("means", escape(rule.description)),
                ("made", escape(" ".join(part for part in (when(rule.created_at), rule.created_by) if part))),
                ("changed", when(rule.updated_at)),
            )
        ),
    )
