"""How alerts leave: to Slack, PagerDuty (Events API v2), webhooks and by e-mail; and to the router, to stop a canary.

PagerDuty's events are as its documentation has them: POST /v2/enqueue with routing_key, event_action, dedup_key and a
payload of summary, source and severity; one dedup_key, the alert's id, for all that is said of one alert.
"""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import orjson

from services.common.delivery.letters import UndeliveredError
from services.common.delivery.mail import Mailer
from services.common.delivery.outward import Outward
from services.common.delivery.posting import ID_HEADER, SIGNATURE_HEADER, post_json, signature
from services.common.errors import MeshError
from services.monitor.domain.alerts import Alert
from services.monitor.domain.channels import Channel
from services.monitor.domain.telling import Stage
from services.monitor.domain.wording import letter_text, slack_text, subject_line
from services.monitor.ports_alerts import Canaries, ChannelStore, Notice, TellingStore

PAGER_DUTY_URL = "https://events.pagerduty.com/v2/enqueue"
ACTION_WITHIN = timedelta(minutes=10)
"""What an alert does to a canary is done within so long, or not at all: later it would hit something else."""
_EVENT_ACTIONS = {Stage.ACKNOWLEDGED: "acknowledge", Stage.RESOLVED: "resolve"}
_SUMMARY_MAX = 1024


class _ToChannel:
    """What couriers to channels share: the channel as it is now, and its secret."""

    def __init__(self, channels: ChannelStore) -> None:
        self._channels = channels

    async def _channel(self, letter: Notice) -> tuple[Channel, str]:
        try:
            channel = await self._channels.get(letter.channel)
            if channel is None or channel.spec.means != letter.means:
                raise UndeliveredError(f"channel {letter.channel!r} is not there any more", passing=False)
            return channel, await self._channels.secret(letter.channel) if channel.has_secret else ""
        except MeshError as error:
            raise UndeliveredError(error.message, passing=True) from error


class SlackCourier(_ToChannel):
    """A `Courier` to Slack's incoming webhooks."""

    def __init__(self, outward: Outward, channels: ChannelStore) -> None:
        super().__init__(channels)
        self._outward = outward

    async def deliver(self, letter: Notice) -> None:
        """Posts a message. Slack knows no ids: a message whose answer was lost appears twice."""
        _, url = await self._channel(letter)
        await post_json(self._outward, url, orjson.dumps({"text": slack_text(letter.stage, letter.alerts)}))


class PagerDutyCourier(_ToChannel):
    """A `Courier` to PagerDuty's Events API v2."""

    def __init__(self, outward: Outward, channels: ChannelStore, *, url: str = PAGER_DUTY_URL) -> None:
        super().__init__(channels)
        self._outward = outward
        self._url = url

    async def deliver(self, letter: Notice) -> None:
        """Sends one event; a repeat changes nothing, because its dedup_key is the same."""
        _, key = await self._channel(letter)
        for alert in letter.alerts:
            await post_json(self._outward, self._url, orjson.dumps(pager_duty_event(letter.stage, alert, key)))


class WebhookCourier(_ToChannel):
    """A `Courier` to any HTTP receiver: the alert as JSON, signed where the channel has a secret."""

    def __init__(
        self,
        outward: Outward,
        channels: ChannelStore,
        *,
        now: Callable[[], datetime],
        written: Callable[[Alert], bytes],
    ) -> None:
        super().__init__(channels)
        self._outward = outward
        self._now = now
        self._written = written

    async def deliver(self, letter: Notice) -> None:
        """POSTs each alert as it was when this was written, with the id of the letter."""
        channel, secret = await self._channel(letter)
        for alert in letter.alerts:
            body = self._written(alert)
            headers = {"user-agent": "infermesh-monitor", ID_HEADER: letter.notice_id}
            if secret:
                headers[SIGNATURE_HEADER] = signature(secret.encode(), int(self._now().timestamp()), body)
            await post_json(self._outward, channel.spec.target, body, headers)


class EmailCourier(_ToChannel):
    """A `Courier` of e-mail."""

    def __init__(self, mailer: Mailer, channels: ChannelStore) -> None:
        super().__init__(channels)
        self._mailer = mailer

    async def deliver(self, letter: Notice) -> None:
        """Hands one letter to the mail server for all receivers."""
        channel, _ = await self._channel(letter)
        await self._mailer.send(
            channel.spec.addresses,
            subject=subject_line(letter.stage, letter.alerts),
            body=letter_text(letter.stage, letter.alerts),
            letter_id=letter.notice_id,
        )


class RolloutCourier:
    """A `Courier` to the router: what a rule does to a canary. What became of it is noted with the alert."""

    def __init__(self, canaries: Canaries, telling: TellingStore, *, now: Callable[[], datetime]) -> None:
        self._canaries = canaries
        self._telling = telling
        self._now = now

    async def deliver(self, letter: Notice) -> None:
        """Holds the canary or rolls it back."""
        (alert,) = letter.alerts
        verb = "put on hold" if letter.stage == "hold" else "rolled back"
        try:
            if self._now() - letter.created_at > ACTION_WITHIN:
                words = f"the canary was not {verb}: the router did not answer within {ACTION_WITHIN.seconds // 60} min"
            else:
                words = await self._canaries.act(alert, letter.stage)
            await self._telling.done(alert.alert_id, words, now=self._now())
        except MeshError as error:
            raise UndeliveredError(error.message, passing=True) from error


def pager_duty_event(stage: str, alert: Alert, routing_key: str) -> Mapping[str, object]:
    """An event of the Events API v2."""
    event: dict[str, object] = {
        "routing_key": routing_key,
        "event_action": _EVENT_ACTIONS.get(Stage(stage), "trigger"),
        "dedup_key": alert.alert_id,
    }
    if event["event_action"] != "trigger":
        return event
    source = f"{alert.model} {alert.version}".strip() or "infermesh"
    details = {"probable_cause": alert.probable_cause, "undo_command": alert.undo_command, "canary": alert.done}
    event["client"] = "infermesh"
    event["payload"] = {
        "summary": alert.summary[:_SUMMARY_MAX],
        "source": source,
        # infermesh's severities are all of PagerDuty's too.
        "severity": alert.severity,
        "timestamp": alert.started_at.isoformat(),
        "component": alert.model,
        "class": alert.rule,
        "custom_details": {name: value for name, value in details.items() if value},
    }
    return event
