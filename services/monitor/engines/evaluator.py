"""Looks at all rules, again and again: reads what they need in as few reads as there can be, and stores what changes.

A look may be made by any monitor, and by several at once: one of them stores, the others were overtaken and store
nothing. What is remembered is stored with what fires, so whoever goes on after a death knows since when what holds.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.monitor.domain.alerts import Alert
from services.monitor.domain.judging import Sighting, Verdict, judged
from services.monitor.domain.rounds import Known, advanced, counts_traffic
from services.monitor.domain.rules import RuleSpec
from services.monitor.domain.sights import PLATFORM, Measured, needs_of
from services.monitor.domain.watches import WatchedBy
from services.monitor.engines.measuring import Measuring
from services.monitor.ports_alerts import ChangeSource, ModelChange, RuleStore

log = get_logger(__name__)

_CAUSE_S = 3.0
"""The longest that an alert waits for what may have caused it."""
_CAUSES_MAX = 20
"""The most models that are asked about in one look."""
_NOT_KNOWN = ModelChange("not known: what changed could not be asked")


class Evaluator:
    """Owns the looks of this process."""

    def __init__(
        self, *, store: RuleStore, measuring: Measuring, changes: ChangeSource, clock: Clock, period_s: float
    ) -> None:
        self._store = store
        self._measuring = measuring
        self._changes = changes
        self._clock = clock
        self._period_s = period_s

    async def run(self) -> None:
        """A look every period."""
        while True:
            await self._clock.sleep(self._period_s)
            try:
                await self.look()
            except MeshError as error:
                log.warning("alert rules were not looked at; tried again", reason=error.message)

    async def look(self) -> bool:
        """One look; whether it was stored. Raises MeshError where the database is away."""
        known = await self._store.known()
        now = self._clock.now()
        measured = await self._measuring.measured(needs_of(known.rules.values()), now)
        verdicts, busy = judgements(known, measured)
        turned = advanced(known, verdicts, busy=busy, now=now)
        if turned.fired:
            turned = replace(turned, fired=await self._caused(turned.fired))
        stored = await self._store.apply(known, turned, now=self._clock.now())
        for alert in turned.fired if stored else ():
            log.warning("alert fires", alert_id=alert.alert_id, rule=alert.rule, summary=alert.summary)
        return stored

    async def _caused(self, fired: Sequence[Alert]) -> tuple[Alert, ...]:
        models = list(dict.fromkeys(alert.model for alert in fired if alert.model))[:_CAUSES_MAX]
        found = dict(zip(models, await asyncio.gather(*(self._cause(model) for model in models)), strict=True))
        causes = [(alert, found.get(alert.model)) for alert in fired]
        return tuple(
            alert if cause is None else replace(alert, probable_cause=cause.words, undo_command=cause.undo)
            for alert, cause in causes
        )

    async def _cause(self, model: str) -> ModelChange | None:
        try:
            async with asyncio.timeout(_CAUSE_S):
                return await self._changes.last(model)
        except (MeshError, TimeoutError) as error:
            log.info("what changed of a model could not be asked", model=model, why=str(error))
            return _NOT_KNOWN


def judgements(known: Known, measured: Measured) -> tuple[Mapping[WatchedBy, Verdict], set[WatchedBy]]:
    """What each rule says of each version that it watches, and which of them had requests."""
    verdicts: dict[WatchedBy, Verdict] = {}
    busy: set[WatchedBy] = set()
    remembered: dict[str, list[WatchedBy]] = {}
    for by in known.watches:
        remembered.setdefault(by.rule, []).append(by)
    for name, spec in known.rules.items():
        for by in _watched(name, spec, measured, remembered.get(name, [])):
            sighting = measured.of(by.model, by.version)
            verdicts[by] = judged(spec.condition, sighting)
            if counts_traffic(spec) and _requests(sighting):
                busy.add(by)
    return verdicts, busy


def _watched(name: str, spec: RuleSpec, measured: Measured, remembered: Sequence[WatchedBy]) -> set[WatchedBy]:
    if spec.per_platform:
        return {WatchedBy(name, *PLATFORM)}
    seen = measured.models() if spec.per_model else measured.versions()
    found = {WatchedBy(name, *version) for version in seen if spec.watches(*version)}
    # Versions without any requests are not seen: on traffic that is a figure too.
    return found | set(remembered) if counts_traffic(spec) else found


def _requests(sighting: Sighting) -> bool:
    return any(seen.cell.counts[("request_count", "")] for seen in sighting.windows.values())
