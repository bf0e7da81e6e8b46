"""Who may be told, by what the operator set up; where webhooks may go; what people read."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.batch.convert import change_from_proto, job_to_json, spec_to_proto, wish_from_proto
from services.batch.convert_deliveries import delivery_to_proto
from services.batch.domain.deliveries import Delivery
from services.batch.domain.job import Job, Notice, Status
from services.batch.domain.notices import NO_OFFICES, NoticeWish, Offices, check_mailbox, check_notices, shown_address
from services.batch.domain.telling import letter, slack_text, subject
from services.batch.domain.wish import draft
from services.batch.settings import BatchSettings
from services.common.delivery.outside import forbidden
from services.common.delivery.pace import Outcome
from services.common.delivery.slack import escaped
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import SUMS, spec_of

OPEN = Offices(email=True, webhooks=True, slack=frozenset({"alerts", "data"}))
PRIVATE = replace(OPEN, private_webhooks=True)
ENDS = ("completed", "failed", "cancelled")
NOON = datetime(2026, 2, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("field", "wish", "variable"),
    [
        ("notifications[0].email", NoticeWish(email="a@b.example"), "INFERMESH_BATCH_SMTP_HOST"),
        ("notifications[0].webhook_url", NoticeWish(webhook_url="https://a.example"), "INFERMESH_BATCH_WEBHOOK_SECRET"),
        ("notifications[0].slack_channel", NoticeWish(slack_channel="x"), "INFERMESH_BATCH_SLACK_WEBHOOKS"),
    ],
)
def test_what_is_not_set_up_is_refused_with_what_sets_it_up(field: str, wish: NoticeWish, variable: str) -> None:
    with pytest.raises(MeshError, match=variable) as error:
        check_notices([wish], NO_OFFICES)
    assert [violation.field for violation in error.value.violations] == [field]
    with pytest.raises(MeshError, match="INFERMESH_BATCH_MAIL_FROM"):
        check_mailbox("a@b.example", NO_OFFICES)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (NoticeWish(), "exactly one"),
        (NoticeWish(email="a@b.example", slack_channel="alerts"), "exactly one"),
        (NoticeWish(email="ann"), "e-mail address"),
        (NoticeWish(email="ann@b.example\nBcc: eve@c.example"), "e-mail address"),
        (NoticeWish(email="Ann <ann@b.example>"), "e-mail address"),
        (NoticeWish(email="a@b.example", statuses=("done",)), r"notifications\[0\]\.statuses"),
        (NoticeWish(slack_channel="other"), "alerts, data"),
        (NoticeWish(webhook_url="http://a.example/"), "WEBHOOK_PRIVATE"),
        (NoticeWish(webhook_url="ftp://a.example/"), "https://"),
        (NoticeWish(webhook_url="https://user:secret@a.example/"), "without a name or password"),
        (NoticeWish(webhook_url="https://a.example:port/"), "https://"),
        (NoticeWish(webhook_url="https://[::1/"), "https://"),
        (NoticeWish(webhook_url="https:///x"), "a host"),
        (NoticeWish(webhook_url="https://a..example/"), "a host"),
        (NoticeWish(webhook_url=f"https://{'a' * 64}.example/"), "a host"),
        (NoticeWish(webhook_url="https://a.example/ x"), "ASCII"),
        (NoticeWish(webhook_url="https://a.example/" + "x" * 2048), "2048"),
        (NoticeWish(webhook_url="https://10.1.2.3/"), "private"),
        (NoticeWish(webhook_url="https://[::ffff:169.254.169.254]/"), "metadata"),
    ],
)
def test_addresses_that_are_none_are_refused(wish: NoticeWish, words: str) -> None:
    with pytest.raises(MeshError, match=words) as error:
        check_notices([wish], OPEN)
    assert error.value.reason is Reason.INVALID_FIELD


def test_an_address_is_told_once_and_so_many_at_most() -> None:
    wish = NoticeWish(email="a@b.example")
    with pytest.raises(MeshError, match=r"notifications\[1\]"):
        check_notices([wish, wish], OPEN)
    with pytest.raises(MeshError, match="at most 16"):
        check_notices([NoticeWish(email=f"a{number}@b.example") for number in range(17)], OPEN)


def test_the_ends_are_told_where_nothing_else_is_said() -> None:
    wishes = [
        NoticeWish(email="a@b.example"),
        NoticeWish(webhook_url="http://10.0.0.1:8080/hook?x=1", statuses=("failed", "running", "failed")),
        NoticeWish(slack_channel="data", statuses=("completed",)),
    ]
    assert check_notices(wishes, PRIVATE) == (
        Notice("email", "a@b.example", ENDS),
        Notice("webhook", "http://10.0.0.1:8080/hook?x=1", ("running", "failed")),
        Notice("slack", "data", ("completed",)),
    )


@pytest.mark.parametrize(
    ("address", "public", "private"),
    [
        ("93.184.216.34", True, True),
        ("2606:2800:220:1::1", True, True),
        ("10.0.0.1", False, True),
        ("172.16.0.1", False, True),
        ("192.168.1.1", False, True),
        ("127.0.0.1", False, True),
        ("::1", False, True),
        ("fd12::1", False, True),
        ("100.64.0.1", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("64:ff9b::a00:1", False, True),
        ("2002:a00:1::", False, True),
        ("64:ff9b::5db8:d822", True, True),
        ("169.254.169.254", False, False),
        ("169.254.1.1", False, False),
        ("fe80::1", False, False),
        ("fd00:ec2::254", False, False),
        ("100.100.100.200", False, False),
        ("168.63.129.16", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("64:ff9b::a9fe:a9fe", False, False),
        ("2002:a9fe:a9fe::", False, False),
        ("224.0.0.1", False, False),
        ("ff02::1", False, False),
        ("0.0.0.0", False, False),
        ("::", False, False),
    ],
)
def test_where_webhooks_may_go(address: str, *, public: bool, private: bool) -> None:
    assert (not forbidden(ip_address(address), private_allowed=False)) is public
    assert (not forbidden(ip_address(address), private_allowed=True)) is private


def test_a_job_carries_whom_to_tell_from_the_call_to_the_answer() -> None:
    request = batch_service_pb2.CreateBatchJobRequest(
        model_name="sums",
        input_uri="/in.csv",
        output_uri="/out.csv",
        notify_on_completion="ann@b.example",
        notifications=[
            batch_job_pb2.Notification(webhook_url="https://a.example/"),
            batch_job_pb2.Notification(slack_channel="alerts", statuses=["running"]),
        ],
    )
    spec = draft(wish_from_proto(request), offices=OPEN).pinned(SUMS)
    shown = spec_to_proto(spec)
    assert shown.notify_on_completion == "ann@b.example"
    assert [(item.webhook_url, item.slack_channel, list(item.statuses)) for item in shown.notifications] == [
        ("https://a.example/", "", list(ENDS)),
        ("", "alerts", ["running"]),
    ]
    update = batch_service_pb2.UpdateBatchJobRequest(job=batch_job_pb2.BatchJob(notify_on_completion="bob@b.example"))
    assert change_from_proto(update, OPEN)(spec) == replace(spec, notify_on_completion="bob@b.example")
    update.update_mask.paths.append("notifications")
    assert change_from_proto(update, OPEN)(spec) == replace(spec, notices=())
    del update.job.notifications[:]
    update.job.notifications.add(slack_channel="nowhere")
    with pytest.raises(MeshError, match="nowhere"):
        change_from_proto(update, OPEN)(spec)


def job(**changes: Any) -> Job:
    spec = spec_of("/in.csv", "/out.csv", job_name="<monthly> & more")
    return replace(Job("batch_job_1", spec, Status.COMPLETED, NOON, NOON), **changes)


def test_people_read_what_became_of_the_job() -> None:
    done = job(total_rows=1_000_000, processed_rows=1_000_000, failed_rows=3, running_s=61.4)
    assert subject(done) == "Batch job <monthly> & more is completed"
    assert letter(done) == (
        "Batch job batch_job_1 (<monthly> & more) is completed.\n\n"
        "Model:    sums v1.0.0\n"
        "Rows:     1,000,000 of 1,000,000, 3 could not be predicted\n"
        "Ran for:  0:01:01\n"
        "Input:    /in.csv\n"
        "Output:   /out.csv\n"
    )
    failed = job(status=Status.FAILED, error_message="no <such> column")
    assert "no <such> column" in letter(failed)
    assert slack_text(failed) == (
        "Batch job *&lt;monthly&gt; &amp; more* (`batch_job_1`) failed\n"
        "• Model: sums v1.0.0\n"
        "• Input: /in.csv\n"
        "> no &lt;such&gt; column"
    )
    assert escaped("<!channel>") == "&lt;!channel&gt;"
    assert b'"job_id": "batch_job_1"' in job_to_json(done, NOON)
    assert b'"processed_records": 1000000' in job_to_json(done, NOON)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ({}, ""),
        ({"smtp_host": "mail.example"}, "MAIL_FROM"),
        ({"smtp_host": "mail.example", "mail_from": "a <a@b.example>"}, ""),
        ({"smtp_user": "ann", "smtp_security": "none"}, "SMTP_SECURITY"),
        ({"slack_webhooks": "https://hooks.slack.com/secret"}, "SLACK_WEBHOOKS"),
        ({"slack_webhooks": '{"alerts": "secret"}'}, "alerts"),
        ({"slack_webhooks": '{"alerts": "https://hooks.slack.com/secret"}'}, ""),
    ],
)
def test_settings_that_do_not_fit_together_are_said_without_secrets(told: dict[str, Any], words: str) -> None:
    settings = BatchSettings.model_validate({"database_url": "postgresql://", "data_dir": "/tmp", **told})
    assert bool(settings.fault()) is bool(words)
    assert words in settings.fault()
    assert "secret" not in settings.fault()
    assert "hooks.slack.com" not in repr(settings)


@pytest.mark.parametrize(
    ("means", "address", "shown"),
    [
        ("email", "ann@b.example", "ann@b.example"),
        ("slack", "alerts", "alerts"),
        ("webhook", "https://a.example:8443/services/T0/secret?token=1", "https://a.example:8443/…"),
        ("webhook", "https://a.example?token=1", "https://a.example/…"),
    ],
)
def test_of_a_url_the_host_alone_is_shown(means: str, address: str, shown: str) -> None:
    assert shown_address(means, address) == shown


def test_a_delivery_says_when_it_is_tried_again_until_it_has_ended() -> None:
    begun = datetime(2026, 2, 5, tzinfo=UTC)
    waiting = Delivery("slack", "alerts", "failed", 2, None, 3, "away", begun, begun + timedelta(minutes=1))
    told = delivery_to_proto(waiting)
    assert (told.outcome, told.attempt, told.tries, told.last_problem) == ("waiting", 2, 3, "away")
    assert told.next_try_time.ToDatetime(UTC) == begun + timedelta(minutes=1)
    assert not told.HasField("ended_at")
    ended = delivery_to_proto(replace(waiting, outcome=Outcome.GIVEN_UP, ended_at=begun + timedelta(days=1)))
    assert ended.outcome == "given_up"
    assert ended.ended_at.ToDatetime(UTC) == begun + timedelta(days=1)
    assert not ended.HasField("next_try_time")
