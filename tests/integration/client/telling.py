"""The part of the scripted monitor that keeps alert rules, notification channels and silences."""

import grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from tests.integration.client.refusing import refuse


class Telling(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Keeps what it is given, by name."""

    def __init__(self) -> None:
        self.rules: dict[str, alert_pb2.AlertRule] = {}
        self.updates: list[monitor_service_pb2.UpdateAlertRuleRequest] = []
        self.channels: dict[str, alert_pb2.NotificationChannel] = {}
        self.silences: dict[str, alert_pb2.Silence] = {}
        self.test_error = ""

    def CreateAlertRule(
        self, request: monitor_service_pb2.CreateAlertRuleRequest, context: grpc.ServicerContext
    ) -> alert_pb2.AlertRule:
        self.rules[request.alert_rule.name] = request.alert_rule
        return request.alert_rule

    def GetAlertRule(
        self, request: monitor_service_pb2.GetAlertRuleRequest, context: grpc.ServicerContext
    ) -> alert_pb2.AlertRule:
        if request.name not in self.rules:
            refuse(context, code_pb2.NOT_FOUND, "ALERT_NOT_FOUND", f"no alert rule is called {request.name}")
        return self.rules[request.name]

    def ListAlertRules(
        self, request: monitor_service_pb2.ListAlertRulesRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListAlertRulesResponse:
        found = [rule for rule in self.rules.values() if request.model_name in {"", rule.model_name}]
        return monitor_service_pb2.ListAlertRulesResponse(alert_rules=found)

    def UpdateAlertRule(
        self, request: monitor_service_pb2.UpdateAlertRuleRequest, context: grpc.ServicerContext
    ) -> alert_pb2.AlertRule:
        self.updates.append(request)
        return self.rules[request.alert_rule.name]

    def DeleteAlertRule(
        self, request: monitor_service_pb2.DeleteAlertRuleRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        del self.rules[request.name]
        return empty_pb2.Empty()

    def CreateNotificationChannel(
        self, request: monitor_service_pb2.CreateNotificationChannelRequest, context: grpc.ServicerContext
    ) -> alert_pb2.NotificationChannel:
        channel = request.notification_channel
        channel.min_severity = channel.min_severity or "info"
        self.channels[channel.name] = channel
        return channel

    def ListNotificationChannels(
        self, request: monitor_service_pb2.ListNotificationChannelsRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListNotificationChannelsResponse:
        return monitor_service_pb2.ListNotificationChannelsResponse(notification_channels=self.channels.values())

    def TestNotificationChannel(
        self, request: monitor_service_pb2.TestNotificationChannelRequest, context: grpc.ServicerContext
    ) -> alert_pb2.NotificationState:
        status = "failed" if self.test_error else "sent"
        return alert_pb2.NotificationState(channel=request.name, status=status, error_message=self.test_error)

    def DeleteNotificationChannel(
        self, request: monitor_service_pb2.DeleteNotificationChannelRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        del self.channels[request.name]
        return empty_pb2.Empty()

    def CreateSilence(
        self, request: monitor_service_pb2.CreateSilenceRequest, context: grpc.ServicerContext
    ) -> alert_pb2.Silence:
        request.silence.silence_id = f"s{len(self.silences)}"
        self.silences[request.silence.silence_id] = request.silence
        return request.silence

    def ListSilences(
        self, request: monitor_service_pb2.ListSilencesRequest, context: grpc.ServicerContext
    ) -> monitor_service_pb2.ListSilencesResponse:
        return monitor_service_pb2.ListSilencesResponse(silences=self.silences.values())

    def DeleteSilence(
        self, request: monitor_service_pb2.DeleteSilenceRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        del self.silences[request.silence_id]
        return empty_pb2.Empty()
