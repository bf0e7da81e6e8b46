"""How alert rules, notification channels and silences are put together."""

import random
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.clock import Clock
from services.common.delivery.letters import Courier, DeliveryBoard
from services.common.delivery.mail import Mailer
from services.common.delivery.notifier import Notifier
from services.common.delivery.outward import Outward
from services.common.lifecycle import Lifecycle
from services.common.outside_tls import system_authorities
from services.monitor.adapters.alert_couriers import (
    EmailCourier,
    PagerDutyCourier,
    RolloutCourier,
    SlackCourier,
    WebhookCourier,
)
from services.monitor.adapters.alert_router import LastChanges, RouterCanaries
from services.monitor.adapters.channel_secrets import load_channel_key
from services.monitor.adapters.postgres_channels import PostgresChannelStore, PostgresSilenceStore
from services.monitor.adapters.postgres_drift_seen import PostgresDriftReports
from services.monitor.adapters.postgres_notices import PostgresNotices
from services.monitor.adapters.postgres_rules import PostgresRuleStore
from services.monitor.adapters.postgres_windows import PostgresWindowReader
from services.monitor.convert.alert_rules import alert_to_json
from services.monitor.domain.channels import Means, Offices
from services.monitor.domain.telling import ROLLOUT
from services.monitor.engines.alert_rules import AlertRules, Channels, Silences
from services.monitor.engines.alert_views import AlertViews, ChannelTests
from services.monitor.engines.evaluator import Evaluator
from services.monitor.engines.measuring import Measuring
from services.monitor.ports import UsageStore
from services.monitor.ports_alerts import ChannelStore, Notice
from services.monitor.settings import MonitorSettings

_LOOK_FOR_LETTERS_S = 1.0


@dataclass(frozen=True)
class Alerting:
    """What answers, and what runs."""

    rules: AlertRules
    channels: Channels
    silences: Silences
    views: AlertViews
    tests: ChannelTests
    notices: PostgresNotices
    evaluator: Evaluator
    notifier: Notifier[Notice]
    clock: Clock
    retention: timedelta

    def add_to(self, lifecycle: Lifecycle) -> None:
        """Once the database is there."""
        lifecycle.add_task("alert rules", self.evaluator.run)
        lifecycle.add_task("notifier", self.notifier.run)

    async def keep(self) -> None:
        """Removes letters that are past retention."""
        await self.notices.forget(before=self.clock.now() - self.retention)


def build_alerting(
    engine: AsyncEngine,
    lifecycle: Lifecycle,
    settings: MonitorSettings,
    *,
    registry: grpc.aio.Channel,
    router: grpc.aio.Channel,
    usage: UsageStore,
    board: DeliveryBoard,
    clock: Clock,
) -> Alerting:
    """Alerting over the monitor's database; its tasks are started by the caller, once the database is there. Raises
    SystemExit where the settings of its mail do not fit together."""
    if fault := settings.mail_fault():
        raise SystemExit(fault)
    key = load_channel_key(text=settings.channel_key.get_secret_value(), data_dir=settings.data_dir)
    channels = PostgresChannelStore(engine, key=key)
    silences = PostgresSilenceStore(engine)
    notices = PostgresNotices(engine)
    couriers = _couriers(lifecycle, settings, channels, clock)
    acting = RolloutCourier(RouterCanaries(router), notices, now=clock.now)
    offices = Offices(
        email=settings.mail_server() is not None, secrets=key is not None, private_webhooks=settings.webhook_private
    )
    return Alerting(
        rules=AlertRules(store=PostgresRuleStore(engine), clock=clock),
        channels=Channels(store=channels, offices=offices, clock=clock),
        silences=Silences(store=silences, clock=clock),
        views=AlertViews(telling=notices, silences=silences, clock=clock),
        tests=ChannelTests(couriers=couriers, clock=clock),
        notices=notices,
        evaluator=Evaluator(
            store=PostgresRuleStore(engine),
            measuring=Measuring(
                reader=PostgresWindowReader(engine), usage=usage, drift=PostgresDriftReports(engine, clock=clock)
            ),
            changes=LastChanges(router=router, registry=registry),
            clock=clock,
            period_s=settings.alert_period_s,
        ),
        notifier=Notifier(
            outbox=notices,
            couriers={**couriers, ROLLOUT: acting},
            about=about,
            board=board,
            clock=clock,
            # Not for secrets: it spreads the retries of several monitors.
            rng=random.Random(),  # noqa: S311
            period_s=_LOOK_FOR_LETTERS_S,
        ),
        clock=clock,
        retention=timedelta(days=settings.metrics_retention_days),
    )


def about(letter: Notice) -> Mapping[str, str]:
    """What the log says of a letter."""
    return {"channel": letter.channel, "stage": letter.stage, "rule": letter.alerts[0].rule}


def _couriers(
    lifecycle: Lifecycle, settings: MonitorSettings, channels: ChannelStore, clock: Clock
) -> Mapping[str, Courier[Notice]]:
    tls = ssl.create_default_context(cafile=system_authorities())
    outward = Outward(tls=tls, private_allowed=settings.webhook_private)
    # PagerDuty's address is the operator's own choice and no caller's.
    chosen = Outward(tls=tls, private_allowed=True)
    lifecycle.add("connections to channels", stop=outward.close)
    lifecycle.add("connections to PagerDuty", stop=chosen.close)
    couriers: dict[str, Courier[Notice]] = {
        Means.SLACK: SlackCourier(outward, channels),
        Means.PAGER_DUTY: PagerDutyCourier(chosen, channels, url=settings.pager_duty_url),
        Means.WEBHOOK: WebhookCourier(outward, channels, now=clock.now, written=alert_to_json),
    }
    if server := settings.mail_server():
        couriers[Means.EMAIL] = EmailCourier(Mailer(server, tls=tls, now=clock.now), channels)
    return couriers
