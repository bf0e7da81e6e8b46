"""One version's traffic: its groups, places and batches on their way.

Everything here runs on the loop's thread in short callbacks. What changes the lane (an arrival, a landing, a server
that is back, the timer) ends in `pump`, which sends whatever may be sent, so no path can forget to.
"""

import asyncio
import secrets
from collections.abc import Callable
from math import inf

from services.batcher.domain.adaptive import Adaptive, Answered
from services.batcher.domain.admission import Pace
from services.batcher.domain.backlog import Backlog
from services.batcher.domain.batch_run import BatchContext, BatchRun
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.fairness import Tier
from services.batcher.domain.places import Place, choose
from services.batcher.domain.policy import NEVER, departure_s, rows_max_of
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Line, Waiter
from services.batcher.domain.refusals import unforeseen
from services.batcher.domain.serving import ServedVersion
from services.batcher.engines.awakening import Awakener, Awakening
from services.batcher.engines.counters import Counters, Depth
from services.batcher.engines.deadlines import Deadlines
from services.batcher.engines.flight import Flight
from services.batcher.engines.group import Group, group_of
from services.batcher.engines.idle_work import IdleWork
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.recoveries import Recoveries
from services.batcher.engines.servers import Server, Servers, server_of
from services.batcher.engines.verdicts import Verdicts
from services.batcher.ports import BatchObserver
from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_OVERDUE_MIN_S = 1.0
_OVERDUE_TIMES = 10.0
"""A batch that takes this many times the usual, and at least the minimum, makes its server suspect."""
_NOWHERE: list[Place] = []


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
        counters: Counters,
        observer: BatchObserver | None,
        awakener: Awakener,
    ) -> None:
        self._clock = clock
        self._loop = loop
        self._servers = servers
        self._options = options
        self.policy = Adaptive(in_flight=options.in_flight_per_backend, in_flight_max=options.in_flight_per_backend_max)
        self._counters = counters
        self._observer = observer
        self.backlog = Backlog(options.weight_of)
        self._callers, self._explanations, copies, self._jobs = self.backlog.tiers
        self.placement = Placement(servers=servers, options=options)
        self.awakening = Awakening(self, loop=loop, awakener=awakener)
        cut_off, loading = self.placement.cut_off, self.awakening.doing
        self.verdicts = Verdicts(served.model_name, served.version, counters, cut_off, loading)
        self._deadlines = Deadlines(self, clock=clock, loop=loop, servers=servers, verdicts=self.verdicts)
        self.recoveries = Recoveries(placement=self.placement, options=options, verdicts=self.verdicts)
        self.flights: set[Flight] = set()
        self._pump_due = False
        self._full = False
        self._busy = False
        """Whether requests waited for the slot of the batch that landed last."""
        self.outage_s: float | None = None
        """Since when no place can run the version; None while one can, as far as is known. Never None while `cold`."""
        self.cold = False
        """Whether the version is not loaded, and has to be for whoever comes."""
        self.waited_max_s = 0.0
        """The longest wait for a batch that has left since somebody took the figure; batch jobs' are left out."""
        self.places: list[Place] = []
        self._awaited = _NOWHERE
        """The places whose servers know that somebody waits here."""
        self._idle_work = IdleWork(self, copies=copies, jobs=self._jobs, patience_s=options.background_patience_s)
        self.pace = Pace()
        self.rows_max = 1
        """The most rows in one batch."""
        self.served = served
        self.adopt(served)

    # -- arrivals

    def refuses(self, now_s: float, priority: Priority) -> MeshError | None:
        """Why nothing is taken now: an outage that has lasted too long, or a version that cannot be loaded."""
        if self.cold:
            return self.awakening.refusal(now_s, priority)
        since_s = self.outage_s
        if since_s is None or now_s < since_s + self._options.outage_patience_s or self._usable(now_s):
            return None
        return self.placement.unavailable(f"none answers for {now_s - since_s:.0f} s now", now_s)

    def enter(self, group: Group, tenant: str, waiter: Waiter) -> None:
        """Puts a request into its tenant's line."""
        self.backlog.push(group, tenant, waiter)
        if waiter.deadline_s < self._deadlines.wake_s:
            self._deadlines.wake_at(waiter.deadline_s)
        # The first to wait is always looked at: those who were waited for may all have left, and the timer with them.
        wanted = self.backlog.rows >= group.pump_at or group.rows == waiter.rows
        if wanted and not self._pump_due and not self._full:
            # At the end of this turn of the loop, so that what arrives together leaves together.
            self._pump_due = True
            self._loop.call_soon(self.pump)

    def abandon(self, waiter: Waiter) -> None:
        """Its caller has gone. On its way already, it is ignored when it lands."""
        self.backlog.leave(waiter)
        waiter.inputs = ()

    @property
    def rows_waiting(self) -> int:
        """Rows that wait, those of failed batches that are sent again included."""
        return self.backlog.rows + self.recoveries.rows

    # -- departures

    def pump(self) -> None:
        """Sends all that may be sent now, and sees to it that what may not is looked at again in time."""
        self.pump_now(self._clock.monotonic())

    def pump_now(self, now_s: float) -> None:
        """The same, for whoever knows the time."""
        self._pump_due = False
        backlog, recoveries = self.backlog, self.recoveries
        wake_s = NEVER
        if backlog.rows or recoveries.rows:
            wake_s = self._send_in_order(now_s)
        else:
            self._idle_work.since_s = NEVER
        if self._awaited is not _NOWHERE or backlog.rows or recoveries.again:
            self._tell_awaited()
        waits = backlog.rows > 0 or recoveries.rows > 0
        # Full only while something is sure to pump again: a landing, or the timer for what waits.
        self._full = (waits or bool(self.flights)) and choose(self.places, 1, now_s) is None
        if self._full and waits:
            wake_s = min(wake_s, self._blocked(now_s))
            self._full = not self.idle
        if wake_s < self._deadlines.wake_s:
            self._deadlines.wake_at(wake_s)

    def _send_in_order(self, now_s: float) -> float:
        """What failed, then callers, then explanations, then shadow copies, then batch jobs. Returns when to look
        again."""
        recoveries, callers, explanations = self.recoveries, self._callers, self._explanations
        while recoveries.again and self._send_again(now_s):
            continue
        wake_s = NEVER
        idle_work = self._idle_work
        lower = idle_work.waits(now_s)
        if not recoveries.again:
            if callers.waits:
                wake_s = self._pump_tier(callers, now_s)
            if explanations.waits and not callers.waits:
                wake_s = min(wake_s, self._pump_tier(explanations, now_s))
        if lower:
            self._tell_awaited()
            wake_s = min(wake_s, idle_work.pump(now_s))
        return wake_s

    def _pump_tier(self, tier: Tier, now_s: float) -> float:
        """Lets tenants and their groups take turns. Returns when to look again at those that wait for more requests."""
        batching = self.served.batching
        while tier.waits:
            wake_s = NEVER
            for line in tier.in_turn(rows_max=self.rows_max):
                group = group_of(line.queue)
                rows, rows_max = group.rows, min(group.rows_max, group.policy.rows_max(batching))
                place = choose(self.places, rows if rows < rows_max else rows_max, now_s)  # noqa: FURB136 - a call a batch
                if place is None:
                    return wake_s
                leave_s = departure_s(
                    group.policy,
                    batching,
                    rows=rows,
                    rows_max=rows_max,
                    oldest_s=group.oldest_s() if rows < rows_max else now_s,
                    now_s=now_s,
                )
                if leave_s <= now_s:
                    self.depart(line, place, rows_max, now_s)
                    break
                group.pump_at = self.backlog.rows + group.policy.missing(rows)
                wake_s = min(wake_s, leave_s)
            else:
                return wake_s
        return NEVER

    def depart(self, line: Line, place: Place, rows_max: int, now_s: float) -> None:
        """Sends one batch of a line's group to that place."""
        group = group_of(line.queue)
        requests_max = inf if self.served.batching.enabled else 1
        group.pump_at = 0
        batch, expired = self.backlog.take(
            line, rows_max=rows_max, requests_max=requests_max, late_s=now_s + self.pace.hopeless_s(now_s)
        )
        for waiter in expired:
            self.verdicts.expire(waiter, now_s, sent=False)
        if batch:
            self.recoveries.budget.earn()
            self._send(group, place, batch, now_s)

    def _tell_awaited(self) -> None:
        """Lets the servers know whether somebody waits for them."""
        awaited = self.places if self._callers_wait() else _NOWHERE
        if awaited is not self._awaited:
            before, self._awaited = self._awaited, awaited
            for place in awaited:
                place.server.awaited += 1
            for place in before:
                place.server.awaited -= 1
                place.server.settle()

    def _callers_wait(self) -> bool:
        return bool(self.recoveries.again or self._callers.waits or self._explanations.waits)

    def _send_again(self, now_s: float) -> bool:
        place = choose(self.places, self.recoveries.rows_next, now_s)
        if place is None:
            return False
        self.resend(*self.recoveries.next(), place, now_s)
        return True

    def resend(self, group: Group, members: list[Waiter], place: Place, now_s: float) -> None:
        """Sends those of a failed batch who still want an answer."""
        wanted = [member for member in members if not member.caller.done()]
        for late in [member for member in wanted if member.deadline_s <= now_s]:
            wanted.remove(late)
            self.verdicts.expire(late, now_s, sent=False)
        if wanted:
            self._counters.retries += 1
            self._send(group, place, wanted, now_s)

    def _send(self, group: Group, place: Place, members: list[Waiter], now_s: float) -> None:
        rows = 0
        latest_s = now_s
        traced = False
        for member in members:
            rows += member.rows
            if member.trail is not None:
                traced = True
            if member.deadline_s > latest_s:  # noqa: PLR1730 - a call for each request
                latest_s = member.deadline_s
        latest_s = min(latest_s, now_s + self._options.backend_timeout_s)
        overdue_s = now_s + max(_OVERDUE_MIN_S, _OVERDUE_TIMES * place.latency_s)
        flight = Flight(self, group, place, members, rows, now_s, latest_s, overdue_s)
        if traced:
            flight.context = BatchContext(secrets.token_bytes(16), secrets.token_bytes(8))
        try:
            flight.exchange = group.send(place, members, rows, flight)
        except Exception as error:
            self.broken(members, error)
            return
        self.flights.add(flight)
        place.departed(rows, now_s)
        group.policy.departed(rows, left_behind=group.rows > 0)
        if group.idle_only:
            self._idle_work.departed(place)
        else:
            place.server.served += 1
            place.server.served_s = now_s
            self.waited_max_s = max(self.waited_max_s, now_s - members[0].arrived_s)
        if self.awakening.since_s is not None:
            self.awakening.sent(now_s)
        self._counters.batches += 1
        if latest_s < self._deadlines.wake_s or overdue_s < self._deadlines.wake_s:
            self._deadlines.wake_at(min(latest_s, overdue_s))

    def rows_each(self, group: Group, now_s: float) -> int:
        """The most rows of one part of a request of that group."""
        return self._idle_work.rows_each(group, now_s) if group.priority is Priority.BACKGROUND else self.rows_max

    def pump_soon(self) -> None:
        """Pumps at the end of this turn of the loop."""
        if not self._pump_due:
            self._pump_due = True
            self._loop.call_soon(self.pump)

    # -- landings

    def now_s(self) -> float:
        """The time, on the clock of all deadlines."""
        return self._clock.monotonic()

    def landed(self, flight: Flight, now_s: float, *, ran: bool) -> None:
        """A batch is back: its place is free. `ran`: the model was there and did something with it."""
        self._busy = self._full and self.rows_waiting > 0
        self.flights.discard(flight)
        flight.exchange = None
        place, group = flight.place, flight.group
        place.left(flight.rows)
        group.policy.landed(flight.rows, waiting=group.rows, now_s=now_s)
        group.pump_at = 0
        if group.idle_only:
            self._idle_work.landed(place, group.priority, now_s, callers_wait=self._callers_wait())
        if place.server.wanted:
            place.server.settle()
        if place.server.leaving and not place.server.batches:
            self._servers.forget(place.server.address)
        if ran:
            place.answered(now_s)
            if not self.cold:
                self.outage_s = None

    def delivered(self, flight: Flight, now_s: float) -> BatchRun | None:
        """A batch was answered in full. What its members remember of it, where somebody measures."""
        seconds = now_s - flight.sent_s
        before_s = flight.place.measured_s
        self.placement.answered(flight.place, rows=flight.rows, sent_s=flight.sent_s, now_s=now_s)
        if self.policy.learns(now_s):
            self._learn(flight, now_s, before_s)
        self.pace.landed(rows=flight.rows, seconds=seconds, now_s=now_s, busy=self._busy)
        if self._observer is None:
            return None
        run = flight.run(now_s)
        self._observer.batch_answered(self.served.model_name, self.served.version, run)
        return run

    def _learn(self, flight: Flight, now_s: float, before_s: float) -> None:
        policy, members = flight.group.policy, flight.members
        if flight.group.idle_only:
            policy.latency.observe(flight.rows, now_s - flight.sent_s)
            return
        requests = len(members)
        sojourn_s = 0.0
        if self.policy.measures:
            arrived_s = [member.arrived_s for member in members]
            # Half the mean and half the longest: who waits longest counts too.
            sojourn_s = (requests * (2 * now_s - min(arrived_s)) - sum(arrived_s)) / 2
        others = requests > 1 or self._busy or len(self.flights) > 0
        batch = Answered(flight.rows, requests, flight.sent_s, before_s, now_s, sojourn_s, contended=others)
        if policy.observe(batch):
            self.placement.resize(self.policy.in_flight_per_backend)
            self.pump_soon()

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
            self.verdicts.fail(member, unforeseen(error))

    def give_up(self, flight: Flight, now_s: float) -> None:
        """The backend took longer than anybody waits."""
        flight.abort()
        self.landed(flight, now_s, ran=False)
        seconds = now_s - flight.sent_s
        self.placement.overdue(flight.place, rows=flight.rows, sent_s=flight.sent_s, now_s=now_s)
        self._servers.doubt(server_of(flight.place))
        late = BackendFailure(FailureKind.LOST, f"it did not answer within {seconds:.1f} s")
        self._lost(flight, late, now_s)
        for member in flight.members:
            self.verdicts.failed(member, late)

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
        if self.cold:
            self.awakening.hold(now_s)
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

    @property
    def wakeful(self) -> bool:
        """Whether anything waits for which a version is loaded."""
        return self.recoveries.wanted or self._callers.waits or self._explanations.waits or self._jobs.waits

    def _usable(self, now_s: float) -> bool:
        return any(place.usable(now_s) for place in self.places)

    def bytes_held(self) -> int:
        """Input bytes of the version's requests that are not answered yet."""
        sent = [member for flight in self.flights for member in flight.members]
        left = [member.size for member in (*sent, *self.recoveries.members()) if not member.caller.done()]
        return self.backlog.bytes + sum(left)

    # -- ends

    def displaced(self, waiters: list[Waiter], error: Callable[[], MeshError]) -> None:
        """They were taken out of the backlog."""
        for waiter in waiters:
            waiter.inputs = ()
            self.verdicts.fail(waiter, error())

    def fail_waiting(self, error: Callable[[], MeshError]) -> None:
        """Answers all that wait with an error."""
        self.displaced(self.backlog.clear(), error)
        self.recoveries.fail(error)

    def close(self, error: Callable[[], MeshError]) -> None:
        """Answers everybody, with `error` where there is nothing better, and lets go of all."""
        self.fail_waiting(error)
        for flight in list(self.flights):
            flight.abort()
            self.landed(flight, self.now_s(), ran=False)
            for member in flight.members:
                self.verdicts.fail(member, error())
        self._tell_awaited()
        self._deadlines.close()
        self.awakening.close()

    # -- what is served

    def adopt(self, served: ServedVersion) -> None:
        """Follows a change of backends or of batching. Batches on their way finish where they are."""
        now_s = self._clock.monotonic()
        was_cold, self.cold = self.cold, served.cold and not served.backends
        self.served = served
        self.rows_max = rows_max_of(served.batching)
        loaded = was_cold and bool(served.backends)
        if self.placement.adopt(served, [flight.place for flight in self.flights], now_s, loaded=loaded) or was_cold:
            self.outage_s = None
        self.places = self.placement.places
        if self.places:
            # While there is none, batches on their way may still come back and be learned from.
            self.policy.capacity = self.placement.capacity
        if self.cold:
            self.outage_s = now_s
            self.pace.forget()
        elif was_cold:
            self.awakening.awake()

    def revive(self) -> None:
        """A server answers again: patience begins anew, and what waits is sent."""
        self.outage_s = None
        self.pump()

    def bereave(self, server: Server) -> None:
        """A server has fallen silent: what is on its way there is not waited for."""
        for flight in [flight for flight in self.flights if flight.place.server is server]:
            flight.abort()
            self.landed(flight, self.now_s(), ran=False)
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
        return self.rows_waiting > 0

    def depth(self) -> Depth:
        """How much is under way."""
        again = list(self.recoveries.members())
        return Depth(
            requests_waiting=len(self.backlog) + len(again),
            rows_waiting=self.rows_waiting,
            batches_in_flight=len(self.flights),
            rows_in_flight=sum(flight.rows for flight in self.flights),
            requests_in_flight=sum(len(flight.members) for flight in self.flights),
        )
