"""MonitorService: all that it does, and what it says about the rest."""

from services.common.access.book import AccessBook
from services.monitor.engines.alerts import Alerts
from services.monitor.engines.metrics import Metrics
from services.monitor.engines.outcomes import Outcomes
from services.monitor.engines.shadows import Shadows
from services.monitor.engines.usage import UsageReports
from services.monitor.servicers.alerts import AlertMethods
from services.monitor.servicers.later import LaterMonitorMethods
from services.monitor.servicers.metrics import MetricMethods
from services.monitor.servicers.outcomes import OutcomeMethods
from services.monitor.servicers.shadows import ShadowMethods
from services.monitor.servicers.usage import UsageMethods


class MonitorServicer(MetricMethods, OutcomeMethods, AlertMethods, ShadowMethods, UsageMethods, LaterMonitorMethods):
    """The service, made of its parts."""

    def __init__(
        self,
        *,
        metrics: Metrics,
        outcomes: Outcomes,
        alerts: Alerts,
        shadows: Shadows,
        usage: UsageReports,
        book: AccessBook,
    ) -> None:
        MetricMethods.__init__(self, metrics)
        OutcomeMethods.__init__(self, outcomes, book)
        AlertMethods.__init__(self, alerts, book)
        ShadowMethods.__init__(self, shadows)
        UsageMethods.__init__(self, usage)
