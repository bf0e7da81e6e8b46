"""How notifications leave: to a real mail server, and to real receivers of webhooks and of Slack's messages."""

import hashlib
import hmac
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from services.batch.adapters.mail import MailCourier
from services.batch.adapters.webhooks import SlackCourier, WebhookCourier
from services.batch.convert import job_to_json
from services.batch.domain.job import Job, Status
from services.batch.ports_outbox import Letter
from services.common.delivery.letters import Courier, UndeliveredError
from services.common.delivery.mail import Mailer, MailServer
from services.common.delivery.outward import Outward
from tests.support.batch_fakes import spec_of
from tests.support.batch_receivers import mail_server, receiving
from tests.support.certificates import certificates
from tests.support.clock import NOON, FakeClock

JOB = Job(
    "batch_job_1",
    spec_of("/in.csv", "/out.csv", job_name="monthly"),
    Status.COMPLETED,
    NOON,
    NOON,
    total_rows=10,
    processed_rows=10,
)
LETTER = Letter("3f0e", "webhook", "", JOB, NOON, 1)
SECRET = "very secret"
NOW = FakeClock().now


@pytest.fixture
def server_tls(tmp_path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    folder = certificates(tmp_path, "receiver", authority=tmp_path / "ca", hosts=("localhost", "127.0.0.1"))
    context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    return context


@pytest.fixture
def client_tls(server_tls: ssl.SSLContext, tmp_path: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(tmp_path / "receiver" / "ca.crt"))


PLAIN = ssl.create_default_context()


def webhook(outward: Outward) -> WebhookCourier:
    return WebhookCourier(outward, secret=SECRET, now=NOW, written=job_to_json)


@contextmanager
def undelivered(words: str, *, passing: bool) -> Iterator[None]:
    with pytest.raises(UndeliveredError, match=words) as error:
        yield
    assert error.value.passing is passing
    assert "token" not in error.value.why
    assert SECRET not in error.value.why


async def test_a_webhook_gets_the_job_as_rest_answers_it_signed() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=True) as outward:
        await webhook(outward).deliver(replace(LETTER, address=receiver.url("/hook?token=1")))
    (got,) = receiver.received
    assert (got.method, got.path, got.headers["host"]) == ("POST", "/hook?token=1", f"127.0.0.1:{receiver.port}")
    assert got.headers["content-type"] == "application/json; charset=utf-8"
    assert got.headers["idempotency-key"] == "3f0e"
    job = json.loads(got.body)
    assert (job["job_id"], job["status"], job["progress"]["processed_records"]) == ("batch_job_1", "completed", 10)
    # As a receiver would check it, by the document alone.
    stamp, _, signed = got.headers["x-infermesh-signature"].partition(",")
    moment = stamp.removeprefix("t=")
    assert moment == str(int(NOON.timestamp()))
    expected = hmac.new(SECRET.encode(), f"{moment}.".encode() + got.body, hashlib.sha256).hexdigest()
    assert signed == f"v1={expected}"


@pytest.mark.parametrize(
    ("status", "passing"),
    [(500, True), (503, True), (429, True), (408, True), (404, False), (410, False), (302, False)],
)
async def test_what_a_receiver_answers_says_whether_to_try_again(status: int, *, passing: bool) -> None:
    async with receiving() as receiver, receiving() as elsewhere, Outward(tls=PLAIN, private_allowed=True) as outward:
        receiver.status = status
        receiver.headers = ("retry-after: 77", f"location: {elsewhere.url()}")
        with pytest.raises(UndeliveredError, match=f"127.0.0.1 answered {status}") as error:
            await webhook(outward).deliver(replace(LETTER, address=receiver.url("/?token=1")))
        assert (error.value.passing, error.value.asked_s) == (passing, 77.0)
        assert "token" not in error.value.why
        assert elsewhere.received == []


async def test_a_receiver_that_is_away_is_tried_again() -> None:
    async with receiving() as receiver:
        url = receiver.url("/?token=1")
    async with Outward(tls=PLAIN, private_allowed=True) as outward:
        with undelivered("cannot be reached", passing=True):
            await webhook(outward).deliver(replace(LETTER, address=url))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_private_address_is_not_called_by_whatever_name(host: str) -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=False) as outward:
        with undelivered("private address", passing=False):
            await webhook(outward).deliver(replace(LETTER, address=receiver.url(host=host)))
        assert receiver.received == []


async def test_a_metadata_address_is_never_called() -> None:
    async with Outward(tls=PLAIN, private_allowed=True) as outward:
        with undelivered("metadata address", passing=False):
            await webhook(outward).deliver(replace(LETTER, address="http://169.254.169.254/latest/meta-data"))


async def test_a_name_that_cannot_be_looked_up_is_given_up() -> None:
    async with Outward(tls=PLAIN, private_allowed=True) as outward:
        with undelivered("label", passing=False):
            await webhook(outward).deliver(replace(LETTER, address="http://a..example/?token=1"))


async def test_a_proxy_in_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as receiver, receiving() as proxy, Outward(tls=PLAIN, private_allowed=True) as outward:
        monkeypatch.setenv("HTTP_PROXY", proxy.url(""))
        await webhook(outward).deliver(replace(LETTER, address=receiver.url()))
        assert (len(receiver.received), len(proxy.received)) == (1, 0)


async def test_the_name_in_the_certificate_is_the_one_in_the_url(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with receiving(tls=server_tls) as receiver:
        address = receiver.url(host="localhost", scheme="https")
        async with Outward(tls=client_tls, private_allowed=True) as outward:
            await webhook(outward).deliver(replace(LETTER, address=address))
        assert len(receiver.received) == 1
        async with Outward(tls=PLAIN, private_allowed=True) as outward:
            with undelivered("localhost cannot be reached", passing=True):
                await webhook(outward).deliver(replace(LETTER, address=address))
        assert len(receiver.received) == 1


async def test_slack_gets_a_message_in_its_own_form() -> None:
    async with receiving() as receiver, Outward(tls=PLAIN, private_allowed=True) as outward:
        courier: Courier[Letter] = SlackCourier(outward, webhooks={"alerts": receiver.url("/services/token")})
        await courier.deliver(replace(LETTER, address="alerts"))
        (got,) = receiver.received
        assert (got.method, got.path) == ("POST", "/services/token")
        assert json.loads(got.body) == {
            "text": "Batch job *monthly* (`batch_job_1`) is completed\n"
            "• Model: sums v1.0.0\n• Rows: 10 of 10\n• Input: /in.csv\n• Output: /out.csv"
        }
        receiver.status = 403
        with undelivered("127.0.0.1 answered 403", passing=False):
            await courier.deliver(replace(LETTER, address="alerts"))
        with undelivered("not set up", passing=True):
            await courier.deliver(replace(LETTER, address="other"))


def mail(port: int, tls: ssl.SSLContext, **changes: Any) -> MailCourier:
    server = MailServer("127.0.0.1", port, "none", "infermesh <jobs@mesh.example>")
    return MailCourier(Mailer(replace(server, **changes), tls=tls, now=NOW))


async def test_a_letter_arrives_with_all_that_mail_needs() -> None:
    async with mail_server() as box:
        await mail(box.port, PLAIN).deliver(replace(LETTER, address="ann@b.example"))
    (letter,) = box.letters
    assert box.recipients == [["ann@b.example"]]
    assert letter["From"] == "infermesh <jobs@mesh.example>"
    assert letter["To"] == "ann@b.example"
    assert letter["Subject"] == "Batch job monthly is completed"
    assert letter["Message-ID"] == "<3f0e@mesh.example>"
    assert letter["Auto-Submitted"] == "auto-generated"
    assert parsedate_to_datetime(str(letter["Date"])) == NOON
    assert str(letter.get_payload(decode=False)).startswith("Batch job batch_job_1 (monthly) is completed.")


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_mail_is_handed_over_in_secret_as_the_user(
    security: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    given = {"starttls": server_tls} if security == "starttls" else {"tls": server_tls}
    async with mail_server(**given, login=True) as box:
        courier = mail(box.port, client_tls, security=security, user="ann", password="right")
        await courier.deliver(replace(LETTER, address="ann@b.example"))
        assert (len(box.letters), set(box.users)) == (1, {b"ann"})
        assert box.secured == [True]
        wrong = mail(box.port, client_tls, security=security, user="ann", password=SECRET)
        with undelivered("refused user and password", passing=True):
            await wrong.deliver(replace(LETTER, address="ann@b.example"))
        # Whoever shows another certificate hears no password.
        before = len(box.users)
        with undelivered("did not take it", passing=True):
            await mail(box.port, PLAIN, security=security, user="ann", password="right").deliver(
                replace(LETTER, address="ann@b.example")
            )
        assert len(box.users) == before


@pytest.mark.parametrize(("answer", "passing"), [("550 no such user", False), ("451 later", True)])
async def test_what_a_mail_server_refuses_says_whether_to_try_again(answer: str, *, passing: bool) -> None:
    async with mail_server() as box:
        box.refuses = answer
        with undelivered(answer[:3], passing=passing):
            await mail(box.port, PLAIN).deliver(replace(LETTER, address="ann@b.example"))
        assert box.letters == []


async def test_a_mail_server_without_tls_is_not_spoken_to_in_the_clear(client_tls: ssl.SSLContext) -> None:
    async with mail_server() as box:
        with undelivered("did not take it", passing=True):
            await mail(box.port, client_tls, security="starttls").deliver(replace(LETTER, address="ann@b.example"))
        assert box.letters == []
