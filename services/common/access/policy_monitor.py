"""What the monitor's methods ask of their callers."""

from services.common.access.policy_words import changes, internal, looks, operates, reads, rules, writes
from services.common.access.roles import Role, Scope
from services.common.access.rule import Access, Rule

_WATCH = Scope.DEPLOYMENTS_WRITE
"""Baselines, alert rules and silences belong to running a model."""

_outcomes = Rule(role=Role.VIEWER, scopes=frozenset({Scope.PREDICT}), access=Access.CALL, by_service=True)
"""Whoever asked for a prediction may say what became of it; the request's id says of which model it was."""

_rule_named = Rule(
    role=Role.DEPLOYER,
    scopes=frozenset({_WATCH}),
    access=Access.WRITE,
    model="alert_rule.model_name",
    optional=True,
    by_service=True,
)

MONITOR_RULES = {
    **rules(
        "infermesh.monitor.v1.MonitorService",
        {
            "GetModelMetrics": reads(),
            "ListVersionMetrics": reads(),
            "ListMetricPoints": reads(),
            "WatchModelMetrics": reads(),
            "ReportOutcome": _outcomes,
            "ReportOutcomes": _outcomes,
            "ListOutcomes": looks(),
            "ListShadowReports": reads(),
            "ListInferenceLogs": reads(),
            "ExportInferenceLogs": writes(_WATCH),
            "GetLogExport": looks(),
            "GetLogHealth": looks(),
            "GetLoggingPolicy": reads(),
            "UpdateLoggingPolicy": writes(_WATCH, "logging_policy.model_name"),
            "CreateBaseline": writes(_WATCH, "baseline.model_name"),
            "GetBaseline": reads(),
            "ListBaselines": reads(),
            "DeleteBaseline": writes(_WATCH),
            "GetDriftReport": reads(),
            "ListDriftReports": reads(),
            "CreateDriftReport": writes(_WATCH),
            # A rule, a channel or a silence for all models is for operators.
            "CreateAlertRule": writes(_WATCH, "alert_rule.model_name", optional=True),
            "GetAlertRule": looks(),
            "ListAlertRules": reads(optional=True),
            "UpdateAlertRule": _rule_named,
            "DeleteAlertRule": changes(_WATCH),
            "GetAlert": looks(),
            "ListAlerts": reads(optional=True),
            "AcknowledgeAlert": changes(_WATCH),
            "WatchAlerts": reads(optional=True),
            "CreateNotificationChannel": operates(),
            "GetNotificationChannel": operates(access=Access.READ),
            "ListNotificationChannels": operates(access=Access.READ),
            "UpdateNotificationChannel": operates(),
            "DeleteNotificationChannel": operates(),
            "TestNotificationChannel": operates(),
            "CreateSilence": writes(_WATCH, "silence.model_name", optional=True),
            "ListSilences": looks(),
            "DeleteSilence": changes(_WATCH),
            "ListTeamUsage": looks(team="team_name", optional=True),
            "ExportTeamUsage": looks(team="team_name", optional=True),
            "GetPriceTable": looks(),
            "UpdatePriceTable": operates(),
        },
    ),
    **rules("infermesh.monitor.v1.EvidenceService", {"WatchEvidence": internal()}),
    **rules("infermesh.monitor.v1.PredictionLogService", {"RecordPredictions": internal()}),
    **rules("infermesh.monitor.v1.LoggingPolicyService", {"WatchLoggingPolicies": internal()}),
    **rules("infermesh.monitor.v1.RolloutEventService", {"ReportEvents": internal()}),
}
