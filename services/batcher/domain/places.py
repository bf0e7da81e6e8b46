"""Where a batch goes: the place that should finish it first. Pure but for the figures that each place carries.

Expected finish = load / capacity + latency. The load is all that the place's server has under way, for other versions
too, in seconds of work; the latency is what a batch usually takes there. A figure that grows old is believed less and
less (Finagle's peak EWMA does the same), so that a place that was slow once is tried again.
"""

from collections.abc import Callable, Sequence
from math import exp, inf

from services.batcher.domain.conduct import Conduct
from services.batcher.domain.serving import Backend

_WEIGHT = 0.2
"""Of the newest batch in the moving averages: about the last ten count."""
_SLOTS_MAX = 64
_FADE_S = 10.0
"""The time after which an unused place's latency is believed to a third."""
_FADE_AFTER_S = 1.0
_TIE = 1.15
"""Finishes that differ by less than this factor are equal: measured times scatter by about as much."""
_NOT_MET = 199
"""For each batch of callers that met a batch of shadow copies on a server, as many must not. Of callers, one in 200
then meets one: too few to show at their 99th percentile, whatever a copy costs them."""
_JOBS_NOT_MET = 49
"""The same of batches of jobs, which are brief where callers are near: who meets one of those waits little."""
_JOBS_REST_MAX_S = 1.0
"""Nor do jobs wait longer than this for callers who do not come: a caller now and then may not hold up a whole job."""
COPIES_AT_ONCE_MAX = 8
"""Batches of shadow copies and batch jobs on a server with which it takes no more copies: of however many versions they
are, a caller who comes finds connections and processors."""
_QUIET_S = 1.0
"""A server that no caller has used for so long may take copies whatever was before, and batches of jobs of any size."""
SLOW_START_SHARE = 0.1
"""Of its capacity, what a place is given at first."""
AWAY_MIN_S = 1.0
"""Whoever was away for less is still warm."""


class Meetings:
    """How often callers may meet, on one server, batches of a kind that gets only what is idle."""

    __slots__ = ("_after", "_after_s", "_not_met", "_rest_max_s")

    def __init__(self, not_met: int, rest_max_s: float) -> None:
        """For each batch of callers that met one, `not_met` must not, or `rest_max_s` seconds pass."""
        self._not_met = not_met
        self._rest_max_s = rest_max_s
        self._after = 0
        """The next may leave once the server has served so many batches of callers."""
        self._after_s = -inf
        """Or at this time."""

    def allowed(self, served: int, now_s: float) -> bool:
        """Whether one may leave, of a server that has served so many batches of callers."""
        return served >= self._after or now_s >= self._after_s

    def met(self, batches: int, served: int, now_s: float) -> None:
        """One is back, and so many batches of callers met it: they left while it was there, or waited for it."""
        if batches:
            self._after = served + self._not_met * batches
            self._after_s = now_s + self._rest_max_s


class ServerState:
    """A model server, shared by all versions that it runs."""

    __slots__ = (
        "address",
        "awaited",
        "away_s",
        "background",
        "backlog_s",
        "batches",
        "copies",
        "jobs",
        "leaving",
        "served",
        "served_s",
        "since_s",
        "up",
        "wanted",
    )

    def __init__(self, address: str) -> None:
        self.address = address
        self.up = True
        """False from a broken connection until it answers again."""
        self.away_s = -inf
        """Since when it has not answered, where it is not up."""
        self.since_s = -inf
        """When it last came back after an absence."""
        self.leaving = False
        """Nothing names it any more; it finishes what it has."""
        self.batches = 0
        """Batches of all versions that are under way there."""
        self.backlog_s = 0.0
        """What they should take, in seconds."""
        self.background = 0
        """Of these batches, those of shadow copies and batch jobs."""
        self.awaited = 0
        """Versions whose callers wait for it, or those whose explanations do."""
        self.served = 0
        """Batches so far that somebody waited for."""
        self.served_s = -inf
        """When the latest of them left."""
        self.copies = Meetings(_NOT_MET, inf)
        """Of callers with shadow copies there."""
        self.jobs = Meetings(_JOBS_NOT_MET, _JOBS_REST_MAX_S)
        """Of callers with batch jobs there."""
        self.wanted: set[Callable[[], None]] = set()
        """What to do once it is idle, for the shadow copies and batch jobs that wait for that."""

    @property
    def idle(self) -> bool:
        """Whether shadow copies and batch jobs may use it: no batch of somebody who waits is there, and none waits."""
        return self.batches == self.background and not self.awaited

    def takes_copies(self, now_s: float) -> bool:
        """Whether shadow copies may use it, once it is idle: few are there, and few enough callers have met any lately,
        or none came."""
        if self.background >= COPIES_AT_ONCE_MAX:
            return False
        return self.copies.allowed(self.served, now_s) or not self.callers_near(now_s)

    def takes_jobs(self, now_s: float) -> bool:
        """Whether batch jobs may use it, once it is idle: few enough callers have met any lately, or none came."""
        return self.jobs.allowed(self.served, now_s) or not self.callers_near(now_s)

    def callers_near(self, now_s: float) -> bool:
        """Whether the next caller may come at any moment: one was here lately."""
        return now_s <= self.served_s + _QUIET_S

    def settle(self) -> None:
        """Something has ended: does what is wanted where it is idle now."""
        if self.wanted and self.idle:
            wanted, self.wanted = self.wanted, set()
            for then in wanted:
                then()

    def fell(self, now_s: float) -> None:
        """It does not answer."""
        self.up = False
        self.away_s = now_s

    def rose(self, now_s: float) -> None:
        """It answers again."""
        self.up = True
        if now_s - self.away_s >= AWAY_MIN_S:
            self.since_s = now_s


class Place:
    """One version on one server, with what is known of how it does there."""

    __slots__ = (
        "again_s",
        "away_s",
        "backend",
        "backlog_s",
        "capacity",
        "conduct",
        "failures",
        "in_flight",
        "latency_s",
        "measured_s",
        "rows_mean",
        "rows_out",
        "sent_s",
        "server",
        "since_s",
        "slots",
        "slow_start_s",
        "why",
    )

    def __init__(
        self,
        backend: Backend,
        server: ServerState,
        *,
        in_flight_per_backend: int,
        since_s: float = -inf,
        slow_start_s: float = 10.0,
    ) -> None:
        self.backend = backend
        self.server = server
        self.conduct = Conduct()
        self.in_flight = 0
        self.rows_out = 0
        self.latency_s = 0.0
        """Moving average of a batch's time; 0 until the first one."""
        self.rows_mean = 1.0
        self.backlog_s = 0.0
        """Its part of the server's backlog."""
        self.measured_s = -inf
        """When the latest batch was measured."""
        self.sent_s = -inf
        """When the latest batch departed."""
        self.since_s = since_s
        """When it was new or came back; from then on it is given a growing share over `slow_start_s`."""
        self.slow_start_s = slow_start_s
        self.failures = 0
        """Failures in a row that say that the model cannot be run there now."""
        self.again_s = -inf
        """Not to be tried before."""
        self.away_s = -inf
        """When the failures in a row began."""
        self.why = ""
        """What the latest such failure said."""
        self.resize(backend, in_flight_per_backend=in_flight_per_backend)

    def resize(self, backend: Backend, *, in_flight_per_backend: int) -> None:
        """Takes over a changed capacity."""
        self.backend = backend
        self.capacity = max(backend.capacity, 0.01)
        self.slots = min(_SLOTS_MAX, max(1, round(in_flight_per_backend * self.capacity)))

    def usable(self, now_s: float) -> bool:
        """Whether it may be tried, whatever its conduct."""
        return self.server.up and self.again_s <= now_s

    def share(self, now_s: float) -> float:
        """How much of its capacity it may be given: less than 1 for a while after it was new or came back."""
        age_s = now_s - max(self.since_s, self.server.since_s)
        if age_s >= self.slow_start_s:
            return 1.0
        return SLOW_START_SHARE + (1.0 - SLOW_START_SHARE) * age_s / self.slow_start_s

    def allowed(self, *, share: float = 1.0) -> int:
        """Batches that it may have while it gets that share of its slots. After a failure, one batch tries alone."""
        return 1 if self.failures else max(1, int(self.slots * share))

    def has_room(self, now_s: float, *, share: float = 1.0) -> bool:
        """Whether it may get one more batch."""
        return self.usable(now_s) and self.in_flight < self.allowed(share=share)

    def expected_s(self, rows: int, now_s: float, *, share: float = 1.0) -> float:
        """How long it would take to finish `rows` more rows: its server's work and these rows over its share of its
        capacity, then a batch's own time. Where it never ran only the server's work counts: it is tried early, so
        that it gets a figure."""
        latency_s = self.latency_s
        idle_s = now_s - self.measured_s
        if idle_s > _FADE_AFTER_S and not self.in_flight:
            latency_s *= exp(-idle_s / _FADE_S)
        load_s = self.server.backlog_s + latency_s * rows / (self.rows_mean * self.capacity)
        return load_s / share + latency_s

    def departed(self, rows: int, now_s: float) -> None:
        """A batch goes there."""
        self.sent_s = now_s
        self.in_flight += 1
        self.rows_out += rows
        self.server.batches += 1
        self._weigh()

    def left(self, rows: int) -> None:
        """A batch is no longer there."""
        self.in_flight -= 1
        self.rows_out -= rows
        self.server.batches -= 1
        self._weigh()

    def observe(self, *, rows: int, seconds: float, now_s: float) -> None:
        """A batch took that long. After a long silence it says more than all before it."""
        if self.latency_s:
            idle_s = now_s - self.measured_s
            weight = _WEIGHT if idle_s < _FADE_AFTER_S else max(_WEIGHT, 1.0 - exp(-idle_s / _FADE_S))
            self.latency_s += weight * (seconds - self.latency_s)
            self.rows_mean += weight * (rows - self.rows_mean)
        else:
            self.latency_s, self.rows_mean = seconds, float(max(1, rows))
        self.measured_s = now_s
        self._weigh()

    def _weigh(self) -> None:
        """Keeps the server's backlog the sum of its places'."""
        backlog_s = self.latency_s * self.rows_out / (self.rows_mean * self.capacity)
        server = self.server
        if server.batches:
            total_s = server.backlog_s + backlog_s - self.backlog_s
            server.backlog_s = max(0.0, total_s)
        else:
            server.backlog_s = 0.0
        self.backlog_s = backlog_s

    def answered(self, now_s: float) -> None:
        """It runs the model."""
        if self.failures:
            if now_s - self.away_s >= AWAY_MIN_S:
                self.since_s = now_s
            self.failures = 0
            self.again_s = -inf

    def rest(self, now_s: float, *, delay_min_s: float, delay_max_s: float, why: str = "") -> bool:
        """It cannot run the model now; try it again after a pause that doubles with each failure in a row. False where
        it rests already: batches that fail together are one failure."""
        if self.again_s > now_s:
            return False
        if not self.failures:
            self.away_s = now_s
        self.again_s = now_s + min(delay_max_s, delay_min_s * 2 ** min(self.failures, 16))
        self.failures += 1
        self.why = why
        return True

    def renew(self) -> None:
        """It was loaded anew: its failures, its rest and its conduct were those of what is gone."""
        self.failures = 0
        self.again_s = self.since_s = -inf
        self.conduct = Conduct()

    def shun(self, until_s: float) -> None:
        """Nothing is to go there until then: what it refused is to be confirmed elsewhere. It is no failure."""
        self.again_s = max(self.again_s, until_s)


def choose(places: Sequence[Place], rows: int, now_s: float) -> Place | None:
    """The place with room that should finish `rows` rows first; None where none has room. Of equals the one that was
    used the longest ago.

    A place in its slow start is given a share of its slots as long as there is one that has grown further; ejected
    places are passed over as long as there is another, but for the one batch that decides whether one returns.
    """
    if len(places) == 1:
        only = places[0]
        has_room = only.in_flight < (1 if only.failures else only.slots) and only.server.up and only.again_s <= now_s
        return only if has_room else None
    sound, trials = _offered(places, now_s)
    for place in trials:
        if not place.in_flight:
            return place
    grown = max([place.share(now_s) for place in sound], default=1.0)
    found: list[tuple[float, Place]] = []
    best_s = inf
    for place in sound:
        share = place.share(now_s) / grown
        if place.in_flight < place.allowed(share=share):
            finish_s = place.expected_s(rows, now_s, share=share)
            best_s = min(best_s, finish_s)
            found.append((finish_s, place))
    equal = [place for finish_s, place in found if finish_s <= best_s * _TIE]
    return min(equal, key=_turn) if len(equal) > 1 else equal[0] if equal else None


def _offered(places: Sequence[Place], now_s: float) -> tuple[list[Place], list[Place]]:
    """The places that may be used, and those that may be tried by one batch. Where all that is usable is ejected,
    nothing is: a poor answer is better than none."""
    usable = [place for place in places if place.usable(now_s)]
    sound = [place for place in usable if not place.conduct.ejected]
    if not sound:
        return usable, []
    if len(sound) == len(usable):
        return sound, []
    return sound, [place for place in usable if place.conduct.on_trial(now_s)]


def _turn(place: Place) -> tuple[float, float]:
    return (place.rows_out / place.capacity, place.sent_s)
