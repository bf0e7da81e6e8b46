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
_ALERTS = "alerts are not raised yet; let Prometheus alert on the services' /metrics"
_USAGE = "usage per team is not counted yet; ListVersionMetrics shows requests by version"
_SHADOWS = "answers of shadow copies are not compared yet; ask the version by name and compare the answers yourself"


class LaterMonitorMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """All that MonitorService does not do yet."""

    ListShadowReports = later(_SHADOWS)

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

    CreateAlertRule = later(_ALERTS)
    GetAlertRule = later(_ALERTS)
    ListAlertRules = later(_ALERTS)
    UpdateAlertRule = later(_ALERTS)
    DeleteAlertRule = later(_ALERTS)
    GetAlert = later(_ALERTS)
    ListAlerts = later(_ALERTS)
    AcknowledgeAlert = later(_ALERTS)
    WatchAlerts = later(_ALERTS)
    CreateNotificationChannel = later(_ALERTS)
    GetNotificationChannel = later(_ALERTS)
    ListNotificationChannels = later(_ALERTS)
    UpdateNotificationChannel = later(_ALERTS)
    DeleteNotificationChannel = later(_ALERTS)
    TestNotificationChannel = later(_ALERTS)
    CreateSilence = later(_ALERTS)
    ListSilences = later(_ALERTS)
    DeleteSilence = later(_ALERTS)

    ListTeamUsage = later(_USAGE)
