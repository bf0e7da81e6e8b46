"""One version's traffic: its groups, places and batches on their way.

Everything here runs on the loop's thread in short callbacks. What changes the lane (an arrival, a landing, a server
that is back, the timer) ends in `pump`, which sends whatever may be sent, so no path can forget to.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from services.batcher.domain.admission import DrainRate
from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.places import Place, choose
from services.batcher.domain.policy import NEVER, Policy, departure_s, rows_max_of
from services.batcher.domain.queue import Waiter
from services.batcher.domain.refusals import unforeseen
from services.batcher.domain.rows import gather
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.counters import Counters, Depth
from services.batcher.engines.deadlines import Deadlines
from services.batcher.engines.flight import Flight
from services.batcher.engines.group import Group
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.recoveries import Recoveries
from services.batcher.engines.servers import Server, Servers
from services.batcher.engines.verdicts import Verdicts
from services.batcher.ports import BatchObserver
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_OVERDUE_MIN_S = 1.0
_OVERDUE_TIMES = 10.0
"""A batch that takes this many times the usual, and at least the minimum, makes its server suspect."""
_BACKGROUND_RESERVE = 1
"""Slots of a place that background work leaves free."""


class Lane:
    """All that happens to one version."""

    def __init__(
        self,
        served: ServedVersion,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        servers: Servers,
        options: EngineOptions,
        policy: Policy,
        counters: Counters,
        observer: BatchObserver | None,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._servers = servers
        self._options = options
        self._policy = policy
        self._counters = counters
        self._observer = observer
        self._foreground: deque[Group] = deque()
        self._background: deque[Group] = deque()
        self._verdicts = Verdicts(served.model_name, served.version, counters)
        self._deadlines = Deadlines(self, clock=clock, loop=loop, servers=servers, verdicts=self._verdicts)
        self.placement = Placement(servers=servers, options=options)
        self.recoveries = Recoveries(placement=self.placement, options=options, verdicts=self._verdicts)
        self.flights: set[Flight] = set()
        self._pump_due = False
        self._full = False
        self.outage_s: float | None = None
        """Since when no place can run the version; None while one can, as far as is known."""
        self.places: list[Place] = []
        self.rows_waiting = 0
        self.drained = DrainRate()
        self.rows_max = 1
        """The most rows in one batch."""
        self.served = served
        self.adopt(served)

    # -- arrivals

    def refuses(self, now_s: float) -> MeshError | None:
        """Why nothing is taken now: an outage that has lasted too long."""
        since_s = self.outage_s
        if since_s is None or now_s < since_s + self._options.outage_patience_s or self._usable(now_s):
            return None
        return self.placement.unavailable(f"none answers for {now_s - since_s:.0f} s now", now_s)

    def enter(self, group: Group, waiter: Waiter) -> None:
        """Puts a request into its group's line."""
        group.line.push(waiter)
        self.rows_waiting += waiter.rows
        if not group.listed:
            group.listed = True
            (self._background if group.background else self._foreground).append(group)
        if waiter.deadline_s < self._deadlines.wake_s:
            self._deadlines.wake_at(waiter.deadline_s)
        if not self._pump_due and not self._full:
            # At the end of this turn of the loop, so that what arrives together leaves together.
            self._pump_due = True
            self._loop.call_soon(self.pump)

    def abandon(self, waiter: Waiter) -> None:
        """Its caller has gone. On its way already, it is ignored when it lands."""
        if waiter.line is not None:
            waiter.line.leave(waiter)
            self.rows_waiting -= waiter.rows
        waiter.inputs = ()

    def waiters(self) -> list[Waiter]:
        """Who waits in a line."""
        return [waiter for ring in (self._foreground, self._background) for group in ring for waiter in group.line]

    # -- departures

    def pump(self) -> None:
        """Sends all that may be sent now, and sees to it that what may not is looked at again in time."""
        self._pump_due = False
        now_s = self._clock.monotonic()
        while self.recoveries.again and self._send_again(now_s):
            continue
        wake_s = NEVER
        if not self.recoveries.again:
            wake_s = self._pump_ring(self._foreground, now_s, reserve=0)
            if self._background and not self._foreground:
                wake_s = min(wake_s, self._pump_ring(self._background, now_s, reserve=_BACKGROUND_RESERVE))
        full = choose(self.places, 1, now_s) is None
        if full and self._waiting:
            wake_s = min(wake_s, self._blocked(now_s))
        # Full only while something is sure to pump again: a landing, or the timer for what waits.
        self._full = full and not self.idle
        if wake_s < self._deadlines.wake_s:
            self._deadlines.wake_at(wake_s)

    def _pump_ring(self, ring: deque[Group], now_s: float, *, reserve: int) -> float:
        """Lets groups take turns. Returns when to look again at those that wait for more requests."""
        batching = self.served.batching
        wake_s = NEVER
        unripe = 0
        while unripe < len(ring):
            group = ring[0]
            rows = group.line.rows
            if not rows:
                ring.popleft()
                group.listed = False
                continue
            place = choose(self.places, min(rows, batching.max_batch_size), now_s, reserve=reserve)
            if place is None:
                break
            leave_s = departure_s(
                self._policy,
                batching,
                rows=rows,
                oldest_s=group.line.oldest_s(),
                in_flight=len(self.flights),
                now_s=now_s,
            )
            if leave_s > now_s:
                wake_s = min(wake_s, leave_s)
                unripe += 1
            else:
                unripe = 0
                self._depart(group, place, now_s)
            ring.rotate(-1)
        return wake_s

    def _depart(self, group: Group, place: Place, now_s: float) -> None:
        batching = self.served.batching
        requests_max = len(group.line) if batching.enabled else 1
        before = group.line.rows
        members, expired = group.line.take(rows_max=self.rows_max, requests_max=requests_max, now_s=now_s)
        self.rows_waiting -= before - group.line.rows
        for waiter in expired:
            self._verdicts.expire(waiter, now_s, sent=False)
        if members:
            self.recoveries.budget.earn()
            self._send(group, place, members, now_s)

    def _send_again(self, now_s: float) -> bool:
        group, members = self.recoveries.again[0]
        place = choose(self.places, sum(member.rows for member in members), now_s)
        if place is None:
            return False
        self.recoveries.again.popleft()
        wanted = [member for member in members if not member.caller.done()]
        for late in [member for member in wanted if member.deadline_s <= now_s]:
            wanted.remove(late)
            self._verdicts.expire(late, now_s, sent=False)
        if wanted:
            self._counters.retries += 1
            self._send(group, place, wanted, now_s)
        return True

    def _send(self, group: Group, place: Place, members: list[Waiter], now_s: float) -> None:
        rows = 0
        latest_s = now_s
        for member in members:
            rows += member.rows
            latest_s = max(latest_s, member.deadline_s)
        latest_s = min(latest_s, now_s + self._options.backend_timeout_s)
        flight = Flight(
            self,
            group,
            place,
            members,
            rows=rows,
            sent_s=now_s,
            latest_s=latest_s,
            overdue_s=now_s + max(_OVERDUE_MIN_S, _OVERDUE_TIMES * place.latency_s),
        )
        try:
            buffers, sizes = gather(group.shape, members, rows)
            flight.exchange = group.prepared(place).send(rows, sizes, buffers, flight)
        except Exception as error:
            self.broken(members, error)
            return
        self.flights.add(flight)
        place.departed(rows, now_s)
        self._counters.batches += 1
        look_s = min(latest_s, flight.overdue_s)
        if look_s < self._deadlines.wake_s:
            self._deadlines.wake_at(look_s)

    # -- landings

    def now_s(self) -> float:
        """The time, on the clock of all deadlines."""
        return self._clock.monotonic()

    def landed(self, flight: Flight, *, ran: bool) -> None:
        """A batch is back: its place is free. `ran`: the model was there and did something with it."""
        self.flights.discard(flight)
        flight.exchange = None
        place = flight.place
        place.left(flight.rows)
        if place.server.leaving and not place.server.batches:
            self._servers.forget(place.server.address)
        if ran:
            place.answered(self._clock.monotonic())
            self.outage_s = None

    def delivered(self, flight: Flight, now_s: float) -> BatchRun | None:
        """A batch was answered in full. What its members remember of it, where somebody measures."""
        seconds = now_s - flight.sent_s
        self.placement.answered(flight.place, rows=flight.rows, sent_s=flight.sent_s, now_s=now_s)
        self._policy.observe(rows=flight.rows, seconds=seconds)
        self.drained.add(flight.rows, now_s)
        if self._observer is None:
            return None
        run = flight.run(now_s)
        self._observer.batch_answered(self.served.model_name, self.served.version, run)
        return run

    def recover(self, flight: Flight, failure: BackendFailure) -> None:
        """A batch that has landed without answers: its members are tried again or told."""
        now_s = self._clock.monotonic()
        self._lost(flight, failure, now_s)
        self.recoveries.recover(flight, failure, now_s)
        self.pump()

    def broken(self, members: list[Waiter], error: Exception) -> None:
        """A fault of our own befell a batch: it must not leave anybody without an answer."""
        log.error("a batch broke the batcher", model=self.served.model_name, error=repr(error), exc_info=error)
        for member in members:
            self._verdicts.fail(member, unforeseen(error))

    def give_up(self, flight: Flight, now_s: float) -> None:
        """The backend took longer than anybody waits."""
        flight.abort()
        self.landed(flight, ran=False)
        seconds = now_s - flight.sent_s
        self.placement.overdue(flight.place, rows=flight.rows, sent_s=flight.sent_s, now_s=now_s)
        late = BackendFailure(FailureKind.LOST, f"it did not answer within {seconds:.1f} s")
        self._lost(flight, late, now_s)
        for member in flight.members:
            self._verdicts.failed(member, late)

    def _lost(self, flight: Flight, failure: BackendFailure, now_s: float) -> None:
        if self._observer is not None:
            kind = failure.kind.name
            run = flight.run(now_s, f"{kind}: {failure.message}")
            self._observer.batch_failed(self.served.model_name, self.served.version, run, kind=kind)
            for member in flight.members:
                if member.trail is not None:
                    member.trail.append(run)

    def _blocked(self, now_s: float) -> float:
        """Work waits and no place has room. Returns when that may change without a landing, or when patience ends."""
        if self._usable(now_s):
            return NEVER
        if self.outage_s is None:
            self.outage_s = now_s
        ends_s = self.outage_s + self._options.outage_patience_s
        if now_s >= ends_s:
            since = f"none answered for {now_s - self.outage_s:.0f} s"
            self.fail_waiting(lambda: self.placement.unavailable(since, now_s))
            return NEVER
        rests = [place.again_s for place in self.places if place.server.up]
        return min([ends_s, *rests])

    def _usable(self, now_s: float) -> bool:
        return any(place.usable(now_s) for place in self.places)

    # -- ends

    def fail_waiting(self, error: Callable[[], MeshError]) -> None:
        """Answers all that wait with an error."""
        for waiter in self.waiters():
            self.abandon(waiter)
            self._verdicts.fail(waiter, error())
        for ring in (self._foreground, self._background):
            for group in ring:
                group.listed = False
            ring.clear()
        self.recoveries.fail(error)

    def close(self, error: Callable[[], MeshError]) -> None:
        """Answers everybody, with `error` where there is nothing better, and lets go of all."""
        self.fail_waiting(error)
        for flight in list(self.flights):
            flight.abort()
            self.landed(flight, ran=False)
            for member in flight.members:
                self._verdicts.fail(member, error())
        self._deadlines.close()

    # -- what is served

    def adopt(self, served: ServedVersion) -> None:
        """Follows a change of backends or of batching. Batches on their way finish where they are."""
        self.served = served
        self.rows_max = rows_max_of(served.batching)
        if self.placement.adopt(served, [flight.place for flight in self.flights], self._clock.monotonic()):
            self.outage_s = None
        self.places = self.placement.places

    def revive(self) -> None:
        """A server answers again: patience begins anew, and what waits is sent."""
        self.outage_s = None
        self.pump()

    def bereave(self, server: Server) -> None:
        """A server has fallen silent: what is on its way there is not waited for."""
        for flight in [flight for flight in self.flights if flight.place.server is server]:
            flight.abort()
            self.landed(flight, ran=False)
            self.recover(flight, BackendFailure(FailureKind.LOST, f"{server.address} has fallen silent"))

    def addresses(self) -> set[str]:
        """The servers that it may send to."""
        return {place.server.address for place in self.places}

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not (self.flights or self._waiting)

    @property
    def _waiting(self) -> bool:
        return bool(self.recoveries.again or self._foreground or self._background)

    def depth(self) -> Depth:
        """How much is under way."""
        lines = [group.line for ring in (self._foreground, self._background) for group in ring]
        again = list(self.recoveries.members())
        return Depth(
            requests_waiting=sum(map(len, lines)) + len(again),
            rows_waiting=self.rows_waiting + sum(member.rows for member in again),
            batches_in_flight=len(self.flights),
            rows_in_flight=sum(flight.rows for flight in self.flights),
        )
