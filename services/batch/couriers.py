"""How the batch service's notifications are put together."""

import random
import ssl
from collections.abc import Mapping

from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.mail import MailCourier
from services.batch.adapters.postgres_outbox import PostgresOutbox
from services.batch.adapters.webhooks import SlackCourier, WebhookCourier
from services.batch.convert import job_to_json
from services.batch.domain.job import Status
from services.batch.domain.notices import Means
from services.batch.ports import Board
from services.batch.ports_outbox import Letter
from services.batch.settings import BatchSettings
from services.common.clock import Clock
from services.common.delivery.letters import Courier
from services.common.delivery.mail import Mailer
from services.common.delivery.notifier import Notifier
from services.common.delivery.outward import Outward
from services.common.lifecycle import Lifecycle
from services.common.outside_tls import system_authorities


def add_notifier(
    lifecycle: Lifecycle,
    settings: BatchSettings,
    engine: AsyncEngine,
    *,
    board: Board,
    clock: Clock,
    rng: random.Random,
) -> None:
    """The task that tells people. It runs also where nothing is set up: what waits from before is then seen to wait."""
    tls = ssl.create_default_context(cafile=system_authorities())
    outward = Outward(tls=tls, private_allowed=settings.webhook_private)
    # Slack's webhooks are the operator's own choice and no caller's.
    chosen = Outward(tls=tls, private_allowed=True)
    lifecycle.add("connections to webhooks", stop=outward.close)
    lifecycle.add("connections to Slack", stop=chosen.close)
    notifier = Notifier(
        outbox=PostgresOutbox(engine),
        couriers=_couriers(settings, outward=outward, chosen=chosen, tls=tls, clock=clock),
        about=about,
        board=board,
        clock=clock,
        rng=rng,
        period_s=settings.poll_period_s,
    )
    lifecycle.add_task("notifier", notifier.run)


def about(letter: Letter) -> Mapping[str, str]:
    """What the log says of a letter."""
    return {"job_id": letter.job.job_id, "status": Status(letter.job.status).value}


def _couriers(
    settings: BatchSettings, *, outward: Outward, chosen: Outward, tls: ssl.SSLContext, clock: Clock
) -> Mapping[str, Courier[Letter]]:
    offices = settings.offices()
    couriers: dict[str, Courier[Letter]] = {}
    if server := settings.mail_server():
        couriers[Means.EMAIL] = MailCourier(Mailer(server, tls=tls, now=clock.now))
    if offices.webhooks:
        secret = settings.webhook_secret.get_secret_value()
        couriers[Means.WEBHOOK] = WebhookCourier(outward, secret=secret, now=clock.now, written=job_to_json)
    if offices.slack:
        couriers[Means.SLACK] = SlackCourier(chosen, webhooks=settings.slack_urls())
    return couriers
