"""The calls of MonitorService whose contract is final and whose behaviour is not built yet."""

from collections.abc import Callable
from typing import Never, cast

from infermesh.monitor.v1 import monitor_service_pb2_grpc

from services.common.errors import MeshError, Reason


def later(sentence: str) -> Callable[..., Never]:
    """A method, unary or streaming, that answers UNIMPLEMENTED with `sentence`."""

    async def refuse(_servicer: object, _request: object, _context: object) -> Never:
        raise MeshError(Reason.NOT_IMPLEMENTED, sentence)

    return cast("Callable[..., Never]", refuse)


_LOG = "the prediction log cannot be read by API yet; query the table monitor.inference_logs"
_POLICY = "logging policies do not exist yet; INFERMESH_MONITOR_LOG_SAMPLE_RATE sets the share logged of every version"
_DRIFT = "drift is not judged yet; GetModelMetrics shows the prediction and confidence distributions"
_RULES = "alerts have no rules of their own yet, rollouts alone raise them; let Prometheus alert on /metrics"
_CHANNELS = "alerts are not sent anywhere yet; follow them with WatchAlerts"
_SILENCES = "alerts cannot be silenced yet; AcknowledgeAlert says that someone looks after one"


class LaterMonitorMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """All that MonitorService does not do yet."""

    ListInferenceLogs = later(_LOG)
    ExportInferenceLogs = later(_LOG)
    GetLogExport = later(_LOG)
    GetLoggingPolicy = later(_POLICY)
    UpdateLoggingPolicy = later(_POLICY)

    CreateBaseline = later(_DRIFT)
    GetBaseline = later(_DRIFT)
    ListBaselines = later(_DRIFT)
    DeleteBaseline = later(_DRIFT)
    GetDriftReport = later(_DRIFT)
    ListDriftReports = later(_DRIFT)
    CreateDriftReport = later(_DRIFT)

    CreateAlertRule = later(_RULES)
    GetAlertRule = later(_RULES)
    ListAlertRules = later(_RULES)
    UpdateAlertRule = later(_RULES)
    DeleteAlertRule = later(_RULES)
    CreateNotificationChannel = later(_CHANNELS)
    GetNotificationChannel = later(_CHANNELS)
    ListNotificationChannels = later(_CHANNELS)
    UpdateNotificationChannel = later(_CHANNELS)
    DeleteNotificationChannel = later(_CHANNELS)
    TestNotificationChannel = later(_CHANNELS)
    CreateSilence = later(_SILENCES)
    ListSilences = later(_SILENCES)
    DeleteSilence = later(_SILENCES)
