"""How alerts leave: exact payloads at local receivers for Slack, PagerDuty, webhooks and mail; what the router does."""

import json
import ssl
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from email.message import EmailMessage

import pytest

from services.common.delivery.letters import UndeliveredError
from services.common.delivery.mail import Mailer, MailServer
from services.common.delivery.outward import Outward
from services.common.errors import MeshError, Reason
from services.monitor.adapters.alert_couriers import (
    EmailCourier,
    PagerDutyCourier,
    RolloutCourier,
    SlackCourier,
    WebhookCourier,
)
from services.monitor.convert.alert_rules import alert_to_json
from services.monitor.domain.alerts import Alert, resolved
from services.monitor.domain.channels import Channel, ChannelSpec
from services.monitor.ports_alerts import Notice, Told
from tests.support.batch_receivers import mail_server, receiving
from tests.support.clock import NOON, FakeClock

ALERT = Alert(
    alert_id="a1",
    rule="too-many-errors",
    subject="too-many-errors/digits/v2.0.0",
    model="digits",
    version="v2.0.0",
    severity="critical",
    status="firing",
    summary="digits v2.0.0: the share of failed requests is 30 % over 60 s, above 20 %",
    probable_cause="12:00: traffic went from v1.0.0 100 % to v2.0.0 100 % (update), by <kim>",
    undo_command="infermesh traffic undo digits",
    value=0.3,
    started_at=NOON,
    fired_at=NOON + timedelta(minutes=1),
)
OVER = resolved(ALERT, NOON + timedelta(minutes=11))
PLAIN = ssl.create_default_context()
KEY = "R0UT1NGKEY0000000000000000000000"


class OneChannel:
    """A `ChannelStore` of one channel."""

    def __init__(self, means: str, *, target: str = "", secret: str = "", addresses: tuple[str, ...] = ()) -> None:
        spec = ChannelSpec("c", means, target, addresses)
        self._channel = Channel(spec, "1", NOON, NOON, has_secret=bool(secret))
        self._secret = secret

    async def get(self, name: str) -> Channel | None:
        """The channel."""
        return self._channel if name == "c" else None

    async def secret(self, name: str) -> str:
        """Its secret."""
        assert name == "c"
        return self._secret

    async def create(self, *_args: object, **_named: object) -> Channel:
        """Never asked."""
        raise AssertionError

    async def find(self, *, after: str, limit: int) -> list[Channel]:
        """Never asked."""
        raise AssertionError((after, limit))

    async def update(self, *_args: object, **_named: object) -> Channel | None:
        """Never asked."""
        raise AssertionError

    async def delete(self, name: str, *, etag: str) -> bool:
        """Never asked."""
        raise AssertionError((name, etag))


def notice(means: str, stage: str = "fired", *alerts: Alert) -> Notice:
    return Notice("n1", means, "c", stage, alerts or (ALERT,), NOON, 1)


@contextmanager
def undelivered(words: str, *, passing: bool) -> Iterator[None]:
    with pytest.raises(UndeliveredError, match=words) as error:
        yield
    assert error.value.passing is passing
    assert "secret" not in error.value.why
    assert KEY not in error.value.why


async def test_slack_gets_what_since_when_how_bad_why_and_how_to_undo_it() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=True) as outward:
        courier = SlackCourier(outward, OneChannel("slack", secret=receiver.url("/services/secret")))
        await courier.deliver(notice("slack"))
        await courier.deliver(notice("slack", "resolved", OVER, replace(OVER, alert_id="a2", version="v1.0.0")))
        receiver.status = 403
        with undelivered("127.0.0.1 answered 403", passing=False):
            await courier.deliver(notice("slack"))
    fired, over, _ = receiver.received
    assert (fired.method, fired.path) == ("POST", "/services/secret")
    assert json.loads(fired.body) == {
        "text": "*[critical] too-many-errors: digits v2.0.0*\n"
        "digits v2.0.0: the share of failed requests is 30 % over 60 s, above 20 %\n"
        "• Severity: critical\n"
        "• Since: 2026-01-15 12:00:00 UTC\n"
        "• Cause: 12:00: traffic went from v1.0.0 100 % to v2.0.0 100 % (update), by &lt;kim&gt;\n"
        "• Undo: `infermesh traffic undo digits`\n"
        "• Alert: `a1`"
    }
    text = json.loads(over.body)["text"]
    assert text.startswith("*[resolved] too-many-errors: digits v2.0.0 and 1 more*\n")
    assert "• Lasted: 0:11:00" in text
    assert "Undo" not in text


async def test_pager_duty_gets_trigger_acknowledge_and_resolve_of_one_key() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=True) as outward:
        receiver.status = 202
        courier = PagerDutyCourier(outward, OneChannel("pager_duty", secret=KEY), url=receiver.url("/v2/enqueue"))
        for stage in ("fired", "acknowledged", "resolved"):
            await courier.deliver(notice("pager_duty", stage))
        receiver.status = 429
        with undelivered("answered 429", passing=True):
            await courier.deliver(notice("pager_duty"))
    bodies = [json.loads(received.body) for received in receiver.received[:3]]
    assert bodies[0] == {
        "routing_key": KEY,
        "event_action": "trigger",
        "dedup_key": "a1",
        "client": "infermesh",
        "payload": {
            "summary": ALERT.summary,
            "source": "digits v2.0.0",
            "severity": "critical",
            "timestamp": "2026-01-15T12:00:00+00:00",
            "component": "digits",
            "class": "too-many-errors",
            "custom_details": {
                "probable_cause": ALERT.probable_cause,
                "undo_command": "infermesh traffic undo digits",
            },
        },
    }
    assert bodies[1:] == [
        {"routing_key": KEY, "event_action": "acknowledge", "dedup_key": "a1"},
        {"routing_key": KEY, "event_action": "resolve", "dedup_key": "a1"},
    ]


async def test_a_webhook_without_a_secret_is_not_signed_and_has_the_alert_as_rest_has_it() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=True) as outward:
        channel = OneChannel("webhook", target=receiver.url("/hook"))
        courier = WebhookCourier(outward, channel, now=FakeClock().now, written=alert_to_json)
        await courier.deliver(notice("webhook", "resolved", OVER))
        signed = WebhookCourier(
            outward,
            OneChannel("webhook", target=receiver.url("/hook"), secret="a secret"),
            now=FakeClock().now,
            written=alert_to_json,
        )
        await signed.deliver(notice("webhook"))
    plain, with_signature = receiver.received
    assert "x-infermesh-signature" not in plain.headers
    assert plain.headers["idempotency-key"] == "n1"
    body = json.loads(plain.body)
    assert (body["alert_id"], body["status"], body["resolved_at"]) == ("a1", "resolved", "2026-01-15T12:11:00Z")
    assert body["undo_command"] == "infermesh traffic undo digits"
    assert with_signature.headers["x-infermesh-signature"].startswith(f"t={int(NOON.timestamp())},v1=")


async def test_an_address_that_is_private_is_not_called() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=False) as outward:
        channel = OneChannel("webhook", target=receiver.url("/hook"))
        courier = WebhookCourier(outward, channel, now=FakeClock().now, written=alert_to_json)
        with undelivered("private address", passing=False):
            await courier.deliver(notice("webhook"))
    assert receiver.received == []


async def test_a_letter_goes_to_all_addresses_at_once() -> None:
    async with mail_server() as box:
        mailer = Mailer(MailServer("127.0.0.1", box.port, "none", "mesh@mesh.example"), tls=PLAIN, now=FakeClock().now)
        courier = EmailCourier(mailer, OneChannel("email", addresses=("ann@b.example", "bob@b.example")))
        await courier.deliver(notice("email"))
    (letter,) = box.letters
    assert box.recipients == [["ann@b.example", "bob@b.example"]]
    assert letter["Subject"] == "[critical] too-many-errors: digits v2.0.0"
    assert letter["Message-ID"] == "<n1@mesh.example>"
    assert isinstance(letter, EmailMessage)
    assert letter.get_content().splitlines() == [
        "digits v2.0.0: the share of failed requests is 30 % over 60 s, above 20 %.",
        "",
        "Severity: critical",
        "Since:    2026-01-15 12:00:00 UTC",
        "Cause:    12:00: traffic went from v1.0.0 100 % to v2.0.0 100 % (update), by <kim>",
        "Undo:     infermesh traffic undo digits",
        "Alert:    a1",
    ]


async def test_a_channel_that_is_gone_is_given_up() -> None:
    async with Outward(tls=PLAIN, private_allowed=True) as outward:
        courier = SlackCourier(outward, OneChannel("slack", secret="https://hooks.slack.example/secret"))
        with undelivered("not there any more", passing=False):
            await courier.deliver(replace(notice("slack"), channel="other"))


class PlayedCanaries:
    """`Canaries` that say what they are told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.trouble: MeshError | None = None

    async def act(self, alert: Alert, action: str) -> str:
        """Notes it."""
        if self.trouble is not None:
            raise self.trouble
        self.asked.append((alert.alert_id, action))
        return "the canary of digits v2.0.0 was rolled back"


class Notes:
    """A `TellingStore` that only remembers."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def done(self, alert_id: str, words: str, *, now: datetime) -> None:
        """Remembers."""
        assert now >= NOON
        self.said.append((alert_id, words))

    async def told(self, alert_ids: Collection[str]) -> dict[str, list[Told]]:
        """Nothing."""
        return {}

    async def forget(self, *, before: datetime) -> None:
        """Nothing."""


async def test_what_is_done_to_a_canary_is_noted_and_not_done_late() -> None:
    canaries, notes, clock = PlayedCanaries(), Notes(), FakeClock()
    courier = RolloutCourier(canaries, notes, now=clock.now)
    letter = replace(notice("rollout", "rollback"), channel="")
    canaries.trouble = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the router does not answer")
    with undelivered("the router does not answer", passing=True):
        await courier.deliver(letter)
    canaries.trouble = None
    await courier.deliver(letter)
    clock.advance(601)
    await courier.deliver(letter)
    assert canaries.asked == [("a1", "rollback")]
    assert [words for _, words in notes.said] == [
        "the canary of digits v2.0.0 was rolled back",
        "the canary was not rolled back: the router did not answer within 10 min",
    ]
