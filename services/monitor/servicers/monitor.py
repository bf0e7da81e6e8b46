"""MonitorService."""

from services.common.access.book import AccessBook
from services.monitor.engines.alert_rules import AlertRules, Channels, Silences
from services.monitor.engines.alert_views import AlertViews, ChannelTests
from services.monitor.engines.alerts import Alerts
from services.monitor.engines.baselines import Baselines
from services.monitor.engines.drift import Drift
from services.monitor.engines.log_exports import LogExports
from services.monitor.engines.log_search import LogSearch
from services.monitor.engines.logging_policies import LoggingPolicies
from services.monitor.engines.metrics import Metrics
from services.monitor.engines.outcomes import Outcomes
from services.monitor.engines.shadows import Shadows
from services.monitor.engines.usage import UsageReports
from services.monitor.servicers.alert_rules import AlertRuleMethods
from services.monitor.servicers.alerts import AlertMethods
from services.monitor.servicers.drift import DriftMethods
from services.monitor.servicers.inference_logs import InferenceLogMethods
from services.monitor.servicers.logging_policies import PolicyMethods
from services.monitor.servicers.metrics import MetricMethods
from services.monitor.servicers.outcomes import OutcomeMethods
from services.monitor.servicers.shadows import ShadowMethods
from services.monitor.servicers.usage import UsageMethods


class MonitorServicer(
    MetricMethods,
    OutcomeMethods,
    AlertMethods,
    AlertRuleMethods,
    ShadowMethods,
    UsageMethods,
    InferenceLogMethods,
    PolicyMethods,
    DriftMethods,
):
    """The service, made of its parts."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        outcomes: Outcomes,
        alerts: Alerts,
        alert_views: AlertViews,
        rules: AlertRules,
        channels: Channels,
        silences: Silences,
        channel_tests: ChannelTests,
        shadows: Shadows,
        usage: UsageReports,
        search: LogSearch,
        exports: LogExports,
        policies: LoggingPolicies,
        baselines: Baselines,
        drift: Drift,
        book: AccessBook,
    ) -> None:
        MetricMethods.__init__(self, metrics)
        OutcomeMethods.__init__(self, outcomes, book)
        AlertMethods.__init__(self, alerts, alert_views, book)
        AlertRuleMethods.__init__(
            self, rules=rules, channels=channels, silences=silences, tests=channel_tests, book=book
        )
        ShadowMethods.__init__(self, shadows)
        UsageMethods.__init__(self, usage)
        InferenceLogMethods.__init__(self, search, exports, book)
        PolicyMethods.__init__(self, policies)
        DriftMethods.__init__(self, baselines, drift)
