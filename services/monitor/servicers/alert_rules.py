"""MonitorService: alert rules, notification channels and silences."""

from google.protobuf import empty_pb2
from infermesh.monitor.v1 import alert_pb2, monitor_service_pb2, monitor_service_pb2_grpc

from services.common.access.book import AccessBook, Sight
from services.common.errors import invalid
from services.common.grpc.identity import current_identity
from services.common.grpc.interceptors import Context
from services.common.page import check_page_size, decode_number_token, decode_page_token, encode_page_token
from services.monitor.convert.alert_rules import (
    channel_change,
    channel_from_proto,
    channel_to_proto,
    rule_change,
    rule_from_proto,
    rule_to_proto,
    silence_from_proto,
    silence_to_proto,
    told_to_proto,
)
from services.monitor.engines.alert_rules import REQUEST_ID_MAX, AlertRules, Channels, Silences
from services.monitor.engines.alert_views import ChannelTests
from services.monitor.ports_alerts import Asked


class AlertRuleMethods(monitor_service_pb2_grpc.MonitorServiceServicer):
    """Translates between messages and `AlertRules`, `Channels` and `Silences`."""

    def __init__(
        self, *, rules: AlertRules, channels: Channels, silences: Silences, tests: ChannelTests, book: AccessBook
    ) -> None:
        self._rules = rules
        self._channels = channels
        self._silences = silences
        self._tests = tests
        self._rule_book = book

    async def CreateAlertRule(
        self, request: monitor_service_pb2.CreateAlertRuleRequest, _context: Context
    ) -> alert_pb2.AlertRule:
        """Makes a rule."""
        asked = _asked(request.request_id)
        return rule_to_proto(await self._rules.create(rule_from_proto(request.alert_rule), asked))

    async def GetAlertRule(
        self, request: monitor_service_pb2.GetAlertRuleRequest, _context: Context
    ) -> alert_pb2.AlertRule:
        """One rule."""
        return rule_to_proto(await self._rules.get(request.name, self._rule_sight()))

    async def ListAlertRules(
        self, request: monitor_service_pb2.ListAlertRulesRequest, _context: Context
    ) -> monitor_service_pb2.ListAlertRulesResponse:
        """Rules by name."""
        size = check_page_size(request.page_size)
        query = f"rules\n{request.model_name}"
        token = decode_page_token(request.page_token, query=query)
        found = await self._rules.find(
            request.model_name, after=token[0] if token else "", limit=size + 1, sight=self._rule_sight()
        )
        more = encode_page_token(found[size - 1].spec.name, query=query) if len(found) > size else ""
        return monitor_service_pb2.ListAlertRulesResponse(
            alert_rules=[rule_to_proto(rule) for rule in found[:size]], next_page_token=more
        )

    async def UpdateAlertRule(
        self, request: monitor_service_pb2.UpdateAlertRuleRequest, _context: Context
    ) -> alert_pb2.AlertRule:
        """Changes a rule."""
        sent = request.alert_rule
        updated = await self._rules.update(sent.name, rule_change(request), etag=sent.etag, sight=self._rule_sight())
        return rule_to_proto(updated)

    async def DeleteAlertRule(
        self, request: monitor_service_pb2.DeleteAlertRuleRequest, _context: Context
    ) -> empty_pb2.Empty:
        """Removes a rule."""
        await self._rules.delete(request.name, etag=request.etag, sight=self._rule_sight())
        return empty_pb2.Empty()

    async def CreateNotificationChannel(
        self, request: monitor_service_pb2.CreateNotificationChannelRequest, _context: Context
    ) -> alert_pb2.NotificationChannel:
        """Makes a channel."""
        spec, secret = channel_from_proto(request.notification_channel)
        return channel_to_proto(await self._channels.create(spec, secret, _asked(request.request_id)))

    async def GetNotificationChannel(
        self, request: monitor_service_pb2.GetNotificationChannelRequest, _context: Context
    ) -> alert_pb2.NotificationChannel:
        """One channel."""
        return channel_to_proto(await self._channels.get(request.name))

    async def ListNotificationChannels(
        self, request: monitor_service_pb2.ListNotificationChannelsRequest, _context: Context
    ) -> monitor_service_pb2.ListNotificationChannelsResponse:
        """Channels by name."""
        size = check_page_size(request.page_size)
        token = decode_page_token(request.page_token, query="channels")
        found = await self._channels.find(after=token[0] if token else "", limit=size + 1)
        more = encode_page_token(found[size - 1].spec.name, query="channels") if len(found) > size else ""
        return monitor_service_pb2.ListNotificationChannelsResponse(
            notification_channels=[channel_to_proto(channel) for channel in found[:size]], next_page_token=more
        )

    async def UpdateNotificationChannel(
        self, request: monitor_service_pb2.UpdateNotificationChannelRequest, _context: Context
    ) -> alert_pb2.NotificationChannel:
        """Changes a channel."""
        sent = request.notification_channel
        return channel_to_proto(await self._channels.update(sent.name, channel_change(request), etag=sent.etag))

    async def DeleteNotificationChannel(
        self, request: monitor_service_pb2.DeleteNotificationChannelRequest, _context: Context
    ) -> empty_pb2.Empty:
        """Removes a channel."""
        await self._channels.delete(request.name, etag=request.etag)
        return empty_pb2.Empty()

    async def TestNotificationChannel(
        self, request: monitor_service_pb2.TestNotificationChannelRequest, _context: Context
    ) -> alert_pb2.NotificationState:
        """Tries a channel."""
        return told_to_proto(await self._tests.test(await self._channels.get(request.name)))

    async def CreateSilence(
        self, request: monitor_service_pb2.CreateSilenceRequest, _context: Context
    ) -> alert_pb2.Silence:
        """Makes a silence."""
        silence = silence_from_proto(request.silence, now=self._silences.now())
        return silence_to_proto(await self._silences.create(silence, _asked(request.request_id)))

    async def ListSilences(
        self, request: monitor_service_pb2.ListSilencesRequest, _context: Context
    ) -> monitor_service_pb2.ListSilencesResponse:
        """Silences that are not over."""
        size = check_page_size(request.page_size)
        start = decode_number_token(request.page_token, query="silences") or 0
        found = await self._silences.find(self._rule_sight())
        more = encode_page_token(str(start + size), query="silences") if len(found) > start + size else ""
        return monitor_service_pb2.ListSilencesResponse(
            silences=[silence_to_proto(silence) for silence in found[start : start + size]], next_page_token=more
        )

    async def DeleteSilence(
        self, request: monitor_service_pb2.DeleteSilenceRequest, _context: Context
    ) -> empty_pb2.Empty:
        """Ends a silence."""
        await self._silences.delete(request.silence_id, self._rule_sight())
        return empty_pb2.Empty()

    def _rule_sight(self) -> Sight:
        return self._rule_book.sight(current_identity())


def _asked(request_id: str) -> Asked:
    if len(request_id) > REQUEST_ID_MAX or "\0" in request_id:
        raise invalid("request_id", request_id[:100], f"at most {REQUEST_ID_MAX} characters")
    return Asked(current_identity().actor, request_id)
