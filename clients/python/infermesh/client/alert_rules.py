"""When alerts are raised, whom they are sent to, and what is not sent for a while."""

from collections.abc import Iterator, Sequence

from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.client.transport import Transport, all_pages
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2, monitor_service_pb2_grpc

_PAGE_SIZE = 200


def _size(limit: int | None) -> int:
    return _PAGE_SIZE if limit is None else max(1, min(limit, _PAGE_SIZE))


class AlertRules:
    """When alerts are raised."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def create(
        self, rule: alert_pb2.AlertRule, *, request_id: str = "", timeout_s: float | None = None
    ) -> alert_pb2.AlertRule:
        """Makes a rule. Raises ALERT_RULE_EXISTS, and INVALID_FIELD with the place of what is wrong."""
        request = monitor_service_pb2.CreateAlertRuleRequest(alert_rule=rule, request_id=request_id)
        return self._transport.call(self._stub.CreateAlertRule, request, timeout_s=timeout_s)

    def get(self, name: str, *, timeout_s: float | None = None) -> alert_pb2.AlertRule:
        """One rule. Raises ALERT_NOT_FOUND."""
        request = monitor_service_pb2.GetAlertRuleRequest(name=name)
        return self._transport.call(self._stub.GetAlertRule, request, timeout_s=timeout_s)

    def list(
        self, *, model: str = "", limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[alert_pb2.AlertRule]:
        """Rules by name; those of one model alone where it is given."""

        def fetch(token: str) -> monitor_service_pb2.ListAlertRulesResponse:
            request = monitor_service_pb2.ListAlertRulesRequest(
                model_name=model, page_size=_size(limit), page_token=token
            )
            return self._transport.call(self._stub.ListAlertRules, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.alert_rules, limit=limit)

    def update(
        self, rule: alert_pb2.AlertRule, *, paths: Sequence[str] = (), timeout_s: float | None = None
    ) -> alert_pb2.AlertRule:
        """Changes these fields of a rule, all where there are none. Raises ETAG_MISMATCH where its etag is old."""
        mask = FieldMask(paths=paths)
        request = monitor_service_pb2.UpdateAlertRuleRequest(alert_rule=rule, update_mask=mask)
        return self._transport.call(self._stub.UpdateAlertRule, request, timeout_s=timeout_s)

    def delete(self, name: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Removes a rule; its alerts are resolved. Raises ALERT_NOT_FOUND."""
        request = monitor_service_pb2.DeleteAlertRuleRequest(name=name, etag=etag)
        self._transport.call(self._stub.DeleteAlertRule, request, timeout_s=timeout_s)


class Channels:
    """Where alerts are sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def create(
        self, channel: alert_pb2.NotificationChannel, *, request_id: str = "", timeout_s: float | None = None
    ) -> alert_pb2.NotificationChannel:
        """Makes a channel. Raises CHANNEL_EXISTS, and INVALID_FIELD with the place of what is wrong."""
        request = monitor_service_pb2.CreateNotificationChannelRequest(
            notification_channel=channel, request_id=request_id
        )
        return self._transport.call(self._stub.CreateNotificationChannel, request, timeout_s=timeout_s)

    def get(self, name: str, *, timeout_s: float | None = None) -> alert_pb2.NotificationChannel:
        """One channel, without its secret. Raises CHANNEL_NOT_FOUND."""
        request = monitor_service_pb2.GetNotificationChannelRequest(name=name)
        return self._transport.call(self._stub.GetNotificationChannel, request, timeout_s=timeout_s)

    def list(
        self, *, limit: int | None = None, timeout_s: float | None = None
    ) -> Iterator[alert_pb2.NotificationChannel]:
        """Channels by name."""

        def fetch(token: str) -> monitor_service_pb2.ListNotificationChannelsResponse:
            request = monitor_service_pb2.ListNotificationChannelsRequest(page_size=_size(limit), page_token=token)
            return self._transport.call(self._stub.ListNotificationChannels, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.notification_channels, limit=limit)

    def update(
        self, channel: alert_pb2.NotificationChannel, *, paths: Sequence[str] = (), timeout_s: float | None = None
    ) -> alert_pb2.NotificationChannel:
        """Changes these fields of a channel, all where there are none; a secret left empty stays as it is."""
        request = monitor_service_pb2.UpdateNotificationChannelRequest(
            notification_channel=channel, update_mask=FieldMask(paths=paths)
        )
        return self._transport.call(self._stub.UpdateNotificationChannel, request, timeout_s=timeout_s)

    def delete(self, name: str, *, etag: str = "", timeout_s: float | None = None) -> None:
        """Removes a channel. Raises CHANNEL_NOT_FOUND, and RESOURCE_IN_USE while a rule names it."""
        request = monitor_service_pb2.DeleteNotificationChannelRequest(name=name, etag=etag)
        self._transport.call(self._stub.DeleteNotificationChannel, request, timeout_s=timeout_s)

    def test(self, name: str, *, timeout_s: float | None = None) -> alert_pb2.NotificationState:
        """Sends a test alert, and says how that went."""
        request = monitor_service_pb2.TestNotificationChannelRequest(name=name)
        return self._transport.call(self._stub.TestNotificationChannel, request, timeout_s=timeout_s)


class Silences:
    """What is not sent for a while."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = monitor_service_pb2_grpc.MonitorServiceStub(transport.channel)

    def create(
        self, silence: alert_pb2.Silence, *, request_id: str = "", timeout_s: float | None = None
    ) -> alert_pb2.Silence:
        """Makes a silence. Raises INVALID_FIELD with the place of what is wrong."""
        request = monitor_service_pb2.CreateSilenceRequest(silence=silence, request_id=request_id)
        return self._transport.call(self._stub.CreateSilence, request, timeout_s=timeout_s)

    def list(self, *, limit: int | None = None, timeout_s: float | None = None) -> Iterator[alert_pb2.Silence]:
        """Silences that are not over, the one that ends first at the head."""

        def fetch(token: str) -> monitor_service_pb2.ListSilencesResponse:
            request = monitor_service_pb2.ListSilencesRequest(page_size=_size(limit), page_token=token)
            return self._transport.call(self._stub.ListSilences, request, timeout_s=timeout_s)

        return all_pages(fetch, lambda page: page.silences, limit=limit)

    def delete(self, silence_id: str, *, timeout_s: float | None = None) -> None:
        """Ends a silence. Raises SILENCE_NOT_FOUND."""
        request = monitor_service_pb2.DeleteSilenceRequest(silence_id=silence_id)
        self._transport.call(self._stub.DeleteSilence, request, timeout_s=timeout_s)
