"""What rollouts stand on, in memory: stores pass the contract tests that their real twins pass."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.router.domain.evidence import Evidence
from services.router.domain.rollouts import (
    ROLLOUTS_LEASE,
    Document,
    Mismatch,
    Rollout,
    RolloutEvent,
    RolloutKind,
    Saved,
)
from services.router.domain.rules import SPLIT_RULE, NewChange
from services.router.ports import RuleStore


class MemoryLeases:
    """A `Leases` by the clock that it is given. It refuses while `away`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._held: dict[str, tuple[int, float]] = {}
        self.away = False

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """A token, or None."""
        self._reach()
        token, expires_s = self._held.get(name, (0, float("-inf")))
        if self._clock.monotonic() < expires_s:
            return None
        self._held[name] = (token + 1, self._clock.monotonic() + ttl_s)
        return token + 1

    async def renew(self, name: str, token: int, *, ttl_s: float) -> bool:
        """Whether it is still held."""
        self._reach()
        if not self.holds(name, token):
            return False
        self._held[name] = (token, self._clock.monotonic() + ttl_s)
        return True

    async def release(self, name: str, token: int) -> None:
        """Lets it go."""
        self._reach()
        if self.holds(name, token):
            self._held[name] = (token, self._clock.monotonic())

    def holds(self, name: str, token: int) -> bool:
        """Whether `token` is the newest."""
        return self._held.get(name, (0, 0.0))[0] == token

    def _reach(self) -> None:
        if self.away:
            raise gone("the lease store")


class MemoryEventStore:
    """An `EventStore`. It refuses while `away`."""

    def __init__(self) -> None:
        self.events: list[RolloutEvent] = []
        self.set_aside: dict[str, str] = {}
        self.away = False

    def put(self, events: Sequence[RolloutEvent]) -> None:
        """Into the outbox, each once."""
        known = {event.event_id for event in self.events}
        self.events += [event for event in events if event.event_id not in known]

    async def pending(self, *, limit: int) -> Sequence[RolloutEvent]:
        """The oldest."""
        self._reach()
        return [event for event in self.events if event.event_id not in self.set_aside][:limit]

    async def taken(self, event_ids: Sequence[str]) -> None:
        """Forgets them."""
        self._reach()
        self.events = [event for event in self.events if event.event_id not in event_ids]

    async def refused(self, event_id: str, why: str) -> None:
        """Keeps it with the reason."""
        self._reach()
        self.set_aside[event_id] = why

    def _reach(self) -> None:
        if self.away:
            raise gone("the event store")


class MemoryRolloutStore:
    """A `RolloutStore` beside a rule store that answers without delay. It refuses while `away`; every event that was
    ever stored is in `told`."""

    def __init__(self, rules: RuleStore, leases: MemoryLeases, events: MemoryEventStore) -> None:
        self._rules = rules
        self._leases = leases
        self._events = events
        self._rollouts: dict[str, Rollout] = {}
        self.told: list[RolloutEvent] = []
        self.away = False

    async def running(self) -> Sequence[Rollout]:
        """All that run or are paused."""
        self._reach()
        return [one for one in self._rollouts.values() if one.running]

    async def find(self, model_name: str, name: str) -> Rollout | None:
        """The rollout of that name."""
        self._reach()
        return next((one for one in self._rollouts.values() if (one.model_name, one.name) == (model_name, name)), None)

    async def page(
        self, model_name: str, kind: RolloutKind, *, status: str = "", before: int | None = None, limit: int
    ) -> Sequence[Rollout]:
        """Newest first."""
        self._reach()
        return [
            one
            for one in reversed(self._rollouts.values())
            if (one.model_name, one.kind) == (model_name, kind)
            and status in ("", one.status)
            and (before is None or one.number < before)
        ][:limit]

    async def save(
        self,
        rollout: Rollout,
        *,
        generation: int,
        change: NewChange | None = None,
        rule_generation: int = 0,
        fence: int | None = None,
        events: Sequence[RolloutEvent] = (),
    ) -> Saved | Mismatch:
        """All or nothing."""
        self._reach()
        known = self._rollouts.get(rollout.rollout_id)
        if fence is not None and not self._leases.holds(ROLLOUTS_LEASE, fence):
            return Mismatch.FENCE
        if generation != (known.generation if known else 0):
            return Mismatch.ROLLOUT
        taken = self._taken(rollout) if known is None else None
        if taken is not None:
            return taken
        stored = replace(
            rollout,
            generation=generation + 1,
            number=known.number if known else len(self._rollouts) + 1,
            request_id=known.request_id if known else rollout.request_id,
        )
        self._rollouts[rollout.rollout_id] = stored
        rule = None
        if change is not None:
            rule = await self._rules.save(change, generation=rule_generation)
            if rule is None:
                self._take_back(rollout.rollout_id, known)
                return Mismatch.RULE
        self.told += events
        self._events.put(events)
        return Saved(stored, rule)

    async def note(self, rollout: Rollout, results: Document, *, fence: int) -> bool:
        """Keeps what it shows."""
        self._reach()
        known = self._rollouts.get(rollout.rollout_id)
        if known is None or known.generation != rollout.generation:
            return False
        if not self._leases.holds(ROLLOUTS_LEASE, fence):
            return False
        self._rollouts[rollout.rollout_id] = replace(known, results=results)
        return True

    def _taken(self, rollout: Rollout) -> Mismatch | None:
        others = [one for one in self._rollouts.values() if one.model_name == rollout.model_name]
        if rollout.running and any(one.running for one in others):
            return Mismatch.RUNNING
        if rollout.name == SPLIT_RULE or any(one.name == rollout.name for one in others):
            return Mismatch.NAME
        if rollout.request_id and any(one.request_id == rollout.request_id for one in self._rollouts.values()):
            return Mismatch.REQUEST
        return None

    def _take_back(self, rollout_id: str, known: Rollout | None) -> None:
        if known is None:
            del self._rollouts[rollout_id]
        else:
            self._rollouts[rollout_id] = known

    def _reach(self) -> None:
        if self.away:
            raise gone("the rollout store")


class FakeMonitor:
    """An `EvidenceSource` and an `EventSink`. Watchers get what tests `show`; while `away` all streams are broken and
    nothing is taken."""

    def __init__(self) -> None:
        self.taken: list[RolloutEvent] = []
        self.asked: list[tuple[str, tuple[str, ...], datetime]] = []
        self._away = False
        self._watchers: dict[asyncio.Queue[Evidence | None], tuple[str, datetime]] = {}

    @property
    def watched(self) -> set[str]:
        """The models that someone watches now."""
        return {model for model, _ in self._watchers.values()}

    @property
    def away(self) -> bool:
        """Whether it is away."""
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        self._away = away
        if away:
            for queue in self._watchers:
                queue.put_nowait(None)

    def show(self, model_name: str, evidence: Evidence) -> None:
        """This is what the model's watchers hear now: those whose window begins when that of `evidence` does."""
        for queue, (model, start) in self._watchers.items():
            if model == model_name and start == evidence.window_start:
                queue.put_nowait(evidence)

    async def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
        """What tests show from now on."""
        self.asked.append((model_name, tuple(versions), start))
        if self._away:
            raise gone("the monitor")
        queue: asyncio.Queue[Evidence | None] = asyncio.Queue()
        self._watchers[queue] = (model_name, start)
        try:
            while (evidence := await queue.get()) is not None:
                yield evidence
        finally:
            del self._watchers[queue]
        raise gone("the monitor")

    async def report(self, events: Sequence[RolloutEvent]) -> None:
        """Takes each once."""
        if self._away:
            raise gone("the monitor")
        known = {event.event_id for event in self.taken}
        self.taken += [event for event in events if event.event_id not in known]


def gone(what: str) -> MeshError:
    """It does not answer."""
    return MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"{what} does not answer")
