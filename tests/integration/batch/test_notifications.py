"""People are told, by a real process over a real PostgreSQL, also where the process dies before it could."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from infermesh.batch.v1 import batch_job_pb2, batch_service_pb2

from services.common.errors import MeshError, Reason
from services.supervisor.ports import free_ports
from tests.integration.batch.driving import ModelPort, Service, write_rows
from tests.support.batch_receivers import MailBox, mail_server, receiving
from tests.support.batch_servers import SumsServicer
from tests.support.waiting import eventually

SECRET = "a secret that nobody sees"
SLACK = "hooks-of-slack-are-secret"


@pytest.fixture
async def mailbox() -> AsyncIterator[MailBox]:
    async with mail_server() as box:
        yield box


@pytest.fixture
def port() -> int:
    """Of the receiver, which comes and goes."""
    return free_ports(1)[0]


@pytest.fixture
def more_settings(mailbox: MailBox, port: int) -> dict[str, object]:
    return {
        "smtp_host": "127.0.0.1",
        "smtp_port": mailbox.port,
        "smtp_security": "none",
        "mail_from": "infermesh <jobs@mesh.example>",
        "webhook_secret": SECRET,
        "webhook_private": True,
        "slack_webhooks": json.dumps({"alerts": f"http://127.0.0.1:{port}/{SLACK}"}),
    }


def wanted(port: int) -> list[batch_job_pb2.Notification]:
    return [
        batch_job_pb2.Notification(webhook_url=f"http://127.0.0.1:{port}/hook", statuses=["running", "completed"]),
        batch_job_pb2.Notification(slack_channel="alerts"),
    ]


async def test_all_are_told_what_became_of_a_job(service: Service, mailbox: MailBox, port: int, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", 50, bad=(7,))
    async with receiving(port=port) as receiver:
        made = await service.submit(
            tmp_path / "in.jsonl",
            tmp_path / "out.jsonl",
            notify_on_completion="ann@b.example",
            notifications=wanted(port),
        )
        assert (await service.ended(made.job_id)).status == "completed"
        await eventually(lambda: len(receiver.received) == 3 and mailbox.letters, what="all have arrived")
    assert mailbox.recipients == [["ann@b.example"]]
    assert "1 could not be predicted" in str(mailbox.letters[0].get_payload())
    hooks = {json.loads(got.body)["status"]: json.loads(got.body) for got in receiver.received if got.path == "/hook"}
    assert set(hooks) == {"running", "completed"}
    assert hooks["completed"]["progress"]["processed_records"] == 50
    assert hooks["running"]["progress"]["processed_records"] == 0
    (message,) = [json.loads(got.body)["text"] for got in receiver.received if got.path == f"/{SLACK}"]
    assert message.startswith("Batch job *sums: in.jsonl*")
    # Nobody waits before the first is written, either: what was sent is counted once it is recorded.
    sent = 'batch_notifications_total{means="email",outcome="sent"} 1.0'
    await eventually(lambda: sent in service.metrics(), what="the letter is recorded")
    await eventually(lambda: "batch_notifications_waiting 0.0" in service.metrics(), what="all are recorded")
    log = await asyncio.to_thread((tmp_path / "batch.log").read_text)
    assert SECRET not in log
    assert SLACK not in log


@pytest.mark.timeout(150)
async def test_nobody_is_forgotten_where_the_service_dies_and_the_receiver_is_away(
    service: Service, port: int, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", 50)
    made = await service.submit(tmp_path / "in.jsonl", tmp_path / "out.jsonl", notifications=wanted(port)[:1])
    assert (await service.ended(made.job_id)).status == "completed"
    await service.kill()
    async with receiving(port=port) as receiver:
        await service.start()
        # One that was being delivered when the service died is held for a minute.
        await eventually(lambda: len(receiver.received) >= 2, timeout_s=100, what="both have arrived")
        assert {json.loads(got.body)["status"] for got in receiver.received} == {"running", "completed"}


async def test_a_job_that_fails_tells_why_and_one_that_is_cancelled_too(
    service: Service, model: SumsServicer, model_port: ModelPort, mailbox: MailBox, tmp_path: Path
) -> None:
    write_rows(tmp_path / "in.jsonl", 50, bad=(1, 2, 3))
    await service.submit(
        tmp_path / "in.jsonl", tmp_path / "out.jsonl", notify_on_completion="ann@b.example", max_failed_fraction=0.01
    )
    await eventually(lambda: mailbox.letters, what="the failure is told")
    assert "more than max_failed_fraction" in str(mailbox.letters[0].get_payload(decode=False)).replace("=\n", "")
    model.hold_after(0)
    held = await service.submit(
        tmp_path / "in.jsonl", tmp_path / "other.jsonl", notify_on_completion="bob@b.example", job_name="held"
    )
    await service.stub.CancelBatchJob(batch_service_pb2.CancelBatchJobRequest(job_id=held.job_id))
    await eventually(lambda: len(mailbox.letters) == 2, what="the cancellation is told")
    assert mailbox.letters[1]["Subject"] == "Batch job held was cancelled"


async def test_who_could_not_be_told_is_seen_at_the_job(service: Service, port: int, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", 50)
    private = "path-that-lets-one-in"
    wishes = [
        batch_job_pb2.Notification(webhook_url=f"http://127.0.0.1:{port}/{private}", statuses=["completed"]),
        batch_job_pb2.Notification(slack_channel="alerts"),
    ]
    async with receiving(port=port) as receiver:
        receiver.statuses = {f"/{private}": 404}
        made = await service.submit(tmp_path / "in.jsonl", tmp_path / "out.jsonl", notifications=wishes)
        assert not made.deliveries
        assert (await service.ended(made.job_id)).status == "completed"

        async def told() -> batch_job_pb2.BatchJob | None:
            job = await service.stub.GetBatchJob(batch_service_pb2.GetBatchJobRequest(job_id=made.job_id))
            done = len(job.deliveries) == 2 and all(one.outcome != "waiting" for one in job.deliveries)
            return job if done else None

        job = await eventually(told, what="both stories have ended")
    assert job is not None
    hook, slack = sorted(job.deliveries, key=lambda one: one.means, reverse=True)
    assert (hook.means, hook.address, hook.status) == ("webhook", f"http://127.0.0.1:{port}/…", "completed")
    assert (hook.outcome, hook.tries, hook.last_problem) == ("given_up", 1, "127.0.0.1 answered 404")
    assert (slack.means, slack.address, slack.outcome, slack.last_problem) == ("slack", "alerts", "sent", "")
    assert hook.HasField("ended_at")
    assert not hook.HasField("next_try_time")
    for delivery in job.deliveries:
        assert private not in str(delivery)
        assert SLACK not in str(delivery)


async def test_what_is_not_set_up_is_refused_before_anything_is_made(service: Service, tmp_path: Path) -> None:
    write_rows(tmp_path / "in.jsonl", 1)
    with pytest.raises(MeshError, match=r"notifications\[0\]\.slack_channel .*one of alerts") as error:
        await service.submit(
            tmp_path / "in.jsonl",
            tmp_path / "out.jsonl",
            notifications=[batch_job_pb2.Notification(slack_channel="other")],
        )
    assert error.value.reason is Reason.INVALID_FIELD
    listed = await service.stub.ListBatchJobs(batch_service_pb2.ListBatchJobsRequest())
    assert len(listed.jobs) == 0
