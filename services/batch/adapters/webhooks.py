"""Webhooks: the job as JSON, signed; and messages to Slack."""

from collections.abc import Callable, Mapping
from datetime import datetime

import orjson

from services.batch.domain.job import Job
from services.batch.domain.telling import slack_text
from services.batch.ports_outbox import Letter
from services.common.delivery.letters import UndeliveredError
from services.common.delivery.outward import Outward
from services.common.delivery.posting import ID_HEADER, SIGNATURE_HEADER, post_json, signature


class WebhookCourier:
    """A `Courier` of webhooks."""

    def __init__(
        self, outward: Outward, *, secret: str, now: Callable[[], datetime], written: Callable[[Job, datetime], bytes]
    ) -> None:
        self._outward = outward
        self._secret = secret.encode()
        self._now = now
        self._written = written

    async def deliver(self, letter: Letter) -> None:
        """POSTs the job as it was, with a signature of this moment and the id of the notification."""
        body = self._written(letter.job, letter.created_at)
        headers = {
            "user-agent": "infermesh-batch",
            ID_HEADER: letter.notice_id,
            SIGNATURE_HEADER: signature(self._secret, int(self._now().timestamp()), body),
        }
        await post_json(self._outward, letter.address, body, headers)


class SlackCourier:
    """A `Courier` to channels of Slack, each by its incoming webhook."""

    def __init__(self, outward: Outward, *, webhooks: Mapping[str, str]) -> None:
        self._outward = outward
        self._webhooks = webhooks

    async def deliver(self, letter: Letter) -> None:
        """Posts a message. Slack knows no ids: a message whose answer was lost appears twice."""
        url = self._webhooks.get(letter.address)
        if url is None:
            raise UndeliveredError(f"channel {letter.address!r} is not set up here any more", passing=True)
        body = orjson.dumps({"text": slack_text(letter.job)})
        await post_json(self._outward, url, body)
