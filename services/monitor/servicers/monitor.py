"""MonitorService: all that it does, and what it says about the rest."""

from services.monitor.engines.metrics import Metrics
from services.monitor.engines.outcomes import Outcomes
from services.monitor.servicers.later import LaterMonitorMethods
from services.monitor.servicers.metrics import MetricMethods
from services.monitor.servicers.outcomes import OutcomeMethods


class MonitorServicer(MetricMethods, OutcomeMethods, LaterMonitorMethods):
    """The service, made of its parts."""

    def __init__(self, *, metrics: Metrics, outcomes: Outcomes) -> None:
        MetricMethods.__init__(self, metrics)
        OutcomeMethods.__init__(self, outcomes)
