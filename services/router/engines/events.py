"""Brings events of rollouts to the monitor, in their order, again and again until it has taken them.

An event is written with the decision that it tells of, in one transaction, so none is lost when this router or the
monitor dies; the monitor takes an event once, however often it is sent.
"""

from collections.abc import Sequence

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.rollouts import RolloutEvent
from services.router.engines.leadership import Leadership
from services.router.ports import EventSink, EventStore

log = get_logger(__name__)

_BATCH_MAX = 100
_LOOK_S = 2.0
"""Between looks at what other routers have written, in seconds."""
_AGAIN_MIN_S = 0.2
_AGAIN_MAX_S = 5.0


class EventReporter:
    """The only one that reports; on the leader alone, so that the order is kept."""

    def __init__(self, *, store: EventStore, sink: EventSink, leadership: Leadership, clock: Clock) -> None:
        self._store = store
        self._sink = sink
        self._leadership = leadership
        self._clock = clock
        self._written = Signal()
        leadership.on_change(self.touch)

    def touch(self) -> None:
        """Something was written."""
        self._written.fire()

    async def run(self) -> None:
        """Never ends by itself."""
        delay_s = _AGAIN_MIN_S
        while True:
            written = self._written.current
            try:
                more = self._leadership.leader and await self._report()
            except MeshError as error:
                log.warning("events of rollouts wait for the monitor", error=error.message, again_in_s=delay_s)
                await self._clock.sleep(delay_s)
                delay_s = min(delay_s * 2, _AGAIN_MAX_S)
                continue
            delay_s = _AGAIN_MIN_S
            if not more:
                await wait_at_most(written, _LOOK_S)

    async def _report(self) -> bool:
        """Reports the oldest; whether there may be more."""
        events = await self._store.pending(limit=_BATCH_MAX)
        if not events:
            return False
        try:
            await self._sink.report(events)
        except MeshError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            for event in events:
                await self._report_one(event)
        else:
            await self._store.taken([event.event_id for event in events])
            log.info("the monitor has taken events of rollouts", kinds=_kinds(events))
        return len(events) == _BATCH_MAX

    async def _report_one(self, event: RolloutEvent) -> None:
        """An event that is never taken must not stand in the way of those behind it."""
        try:
            await self._sink.report([event])
        except MeshError as error:
            if error.reason is not Reason.INVALID_FIELD:
                raise
            await self._store.refused(event.event_id, error.message)
            log.exception("the monitor will never take an event; it is kept in rollout_events", kind=event.kind)
        else:
            await self._store.taken([event.event_id])


def _kinds(events: Sequence[RolloutEvent]) -> Sequence[str]:
    return [event.kind for event in events[:20]]
