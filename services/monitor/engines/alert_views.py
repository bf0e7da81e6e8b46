"""Alerts as people see them: with who was told, and whether a silence covers them; and tries of channels."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.delivery.letters import Courier
from services.common.delivery.notifier import attempt
from services.monitor.domain.alerts import FIRING, SEVERITIES, Alert, resolved
from services.monitor.domain.channels import Channel, Means, silenced
from services.monitor.domain.telling import Stage
from services.monitor.ports_alerts import Notice, SilenceStore, TellingStore, Told

_TEST_RULE = "test"


@dataclass(frozen=True)
class AlertView:
    """An alert, and what is known of telling it."""

    alert: Alert
    silenced: bool
    told: Sequence[Told]


class AlertViews:
    """Looks up what belongs to alerts."""

    def __init__(self, *, telling: TellingStore, silences: SilenceStore, clock: Clock) -> None:
        self._telling = telling
        self._silences = silences
        self._clock = clock

    async def of(self, alerts: Sequence[Alert]) -> Sequence[AlertView]:
        """The alerts, in their order."""
        if not alerts:
            return []
        now = self._clock.now()
        told = await self._telling.told([alert.alert_id for alert in alerts])
        silences = await self._silences.find(now=now)
        return [
            AlertView(alert, alert.is_open and silenced(alert, silences, now), told.get(alert.alert_id, ()))
            for alert in alerts
        ]


class ChannelTests:
    """Sends test alerts over channels, at once and past the outbox."""

    def __init__(self, *, couriers: Mapping[str, Courier[Notice]], clock: Clock) -> None:
        self._couriers = couriers
        self._clock = clock

    async def test(self, channel: Channel) -> Told:
        """Sends one, and at PagerDuty ends it again; how that went."""
        now = self._clock.now()
        alert = Alert(
            alert_id=str(uuid.uuid4()),
            rule=_TEST_RULE,
            subject=_TEST_RULE,
            model="",
            version="",
            severity=SEVERITIES[0],
            status=FIRING,
            summary="This is a test of the notification channel; nothing is wrong",
            probable_cause="",
            undo_command="",
            value=0.0,
            started_at=now,
            fired_at=now,
        )
        stages = [(Stage.FIRED, alert)]
        if channel.spec.means == Means.PAGER_DUTY:
            stages.append((Stage.RESOLVED, resolved(alert, now)))
        for stage, told in stages:
            notice = Notice(str(uuid.uuid4()), channel.spec.means, channel.spec.name, stage, (told,), now, tries=1)
            trouble = await attempt(self._couriers, notice)
            if trouble is not None:
                return Told(channel.spec.name, "failed", 1, trouble.why, self._clock.now())
        return Told(channel.spec.name, "sent", 1, "", self._clock.now())
