"""Follows the deployer, so that a deployment that fails raises an alert, whichever monitor sees it first.

Nothing is kept between starts. The deployer's stream begins with all deployments, and an event that was taken before is
not taken again; what was removed while nobody followed is found by asking for each deployment that an alert is about.
"""

from collections.abc import AsyncIterator
from datetime import datetime

from services.common.clock import Clock
from services.common.redial import follow
from services.monitor.domain.alerts import ACKNOWLEDGED, DEPLOYMENT_FAILED, FIRING, SEVERITIES, RolloutEvent
from services.monitor.domain.deployments import SeenDeployment, deployment_of, event_of, recovered
from services.monitor.engines.alerts import Alerts
from services.monitor.ports import AlertQuery, AlertStore
from services.monitor.ports_alerts import DeploymentSource

_PAGE = 100


class DeploymentWatch:
    """`run` is its background task."""

    def __init__(self, *, source: DeploymentSource, alerts: Alerts, store: AlertStore, clock: Clock) -> None:
        self._source = source
        self._alerts = alerts
        self._store = store
        self._clock = clock
        self._failed: set[str] = set()

    async def run(self) -> None:
        """Follows for as long as the process lives."""
        await follow(self._watch, self._take, clock=self._clock, who="deployer", what="deployments")

    async def _watch(self) -> AsyncIterator[tuple[SeenDeployment, bool]]:
        await self._look_after_open()
        async for seen, removed in self._source.watch():
            yield seen, removed

    async def _take(self, told: tuple[SeenDeployment, bool]) -> None:
        seen, removed = told
        event = event_of(seen, removed=removed, known_failed=seen.subject in self._failed)
        if event is not None:
            await self._report(event)

    async def _report(self, event: RolloutEvent) -> None:
        await self._alerts.report([event])
        if event.kind == DEPLOYMENT_FAILED:
            self._failed.add(event.subject)
        else:
            self._failed.discard(event.subject)

    async def _look_after_open(self) -> None:
        """Learns which deployments have an alert that is not over, and ends those of deployments that are gone."""
        self._failed = await self._open()
        for subject in sorted(self._failed):
            model, name = deployment_of(subject)
            if await self._source.get(model, name) is None:
                await self._report(recovered(model, name, self._clock.now(), what="was removed"))

    async def _open(self) -> set[str]:
        found: set[str] = set()
        for status in (FIRING, ACKNOWLEDGED):
            query = AlertQuery("", status, SEVERITIES)
            after: tuple[datetime, str] | None = None
            while page := await self._store.find(query, after=after, limit=_PAGE):
                found.update(alert.subject for alert in page if alert.kind == DEPLOYMENT_FAILED)
                after = (page[-1].fired_at, page[-1].alert_id)
        return found
