"""The policy of a version: when its batches leave, how large they may be and how many are on their way, all learned.

While a backend is free a batch leaves at once, except that it may be held back for a moment while callers that were
just answered come again (`gathering`); while all are busy batches grow by themselves. It learns how long batches take
(`latency_model`), how many are really run at a time (`slots`), how many to send at a time and for what share of the
callers to wait (`climb`), and, where a latency is to be kept, how many rows fit into it.
"""

from dataclasses import dataclass

from services.batcher.domain.climb import Climb
from services.batcher.domain.gathering import Gathering
from services.batcher.domain.latency_model import CurvePoint, LatencyModel
from services.batcher.domain.serving import Batching
from services.batcher.domain.slots import Slots

_LEARN_EVERY_S = 0.002
"""Of quicker batches one in so much time is enough: learning costs more than a decision. In trials all count."""
_FIT_EVERY = 32
"""Batches after which the sizes that are enough, and that fit into the stated latency, are looked up anew."""
_ENOUGH = 0.97
"""Of the rows a second of the best size: a larger batch would let those in it wait longer for next to nothing."""
_CUT_MIN = 2
"""Times smaller than the largest batch the size must be: a smaller cut shortens hardly anybody's wait."""
_SAVING_MAX = 0.07
"""Of the time of two batches of that size joined: where joining them saves more, they are not enough."""
_STRETCH = 2
"""Times what is enough one batch may have at each look: whether more would be better shows only where it is tried."""
_BRIEF = 1.25
"""Times as long as the smallest batch seen, a batch of a job may take where callers are near: whoever comes meanwhile
waits for its end, and for small models that is next to all of the price they pay for the job."""
_KEEPS = 200
"""Batches after which a size that did not come again no longer says what joining saves or which size is enough: what
it took before the machine changed would keep it from ever being tried again."""


@dataclass(slots=True)
class Answered:
    """A batch that was answered in full."""

    rows: int
    requests: int
    sent_s: float
    before_s: float
    """When the batch before it came back from where it ran."""
    now_s: float
    """When it came back."""
    sojourn_s: float
    """How long its members had been here, all together."""
    contended: bool
    """Whether others were there too: with one caller at a time every way of sending is the same."""


@dataclass(frozen=True, slots=True)
class Learned:
    """What a policy knows, for people and metrics."""

    curve: tuple[CurvePoint, ...]
    """Time of a batch by its rows."""
    in_flight_per_backend: int
    """Batches at a time for a backend of capacity 1, as far as was learned."""
    share: float
    """Of those around, how many make a batch that waits no longer; 0: none waits."""
    rows_max: int
    """The most rows of a batch that keep the stated latency; 0 where none is stated."""
    trials: int
    """Ways of sending that were tried so far."""
    moves: int
    """Trials that were won."""
    searching: bool
    """Whether one is being tried now."""
    slots: float = 1.0
    """Batches that a backend of capacity 1 really runs at a time, as far as was seen."""


class Adaptive:
    """The policy of one version."""

    __slots__ = ("_learn_s", "climb", "lately", "latency", "occupancy", "rows_max", "slots")

    def __init__(self, *, in_flight: int, in_flight_max: int) -> None:
        self.slots = Slots()
        self.climb = Climb(self.slots, in_flight=in_flight, in_flight_max=in_flight_max)
        self.latency = LatencyModel()
        self.occupancy = LatencyModel()
        """How long batches keep a backend busy: from the later of their departure and the landing before them."""
        self.lately = LatencyModel(keeps=_KEEPS)
        """The same, without sizes that did not come lately."""
        self.rows_max = 0
        """The most rows of the latest batch, where a latency is to be kept; else 0."""
        self._learn_s = 0.0

    @property
    def capacity(self) -> float:
        """Of all backends: as many times the batches for one of capacity 1 are on their way at a time."""
        return self.slots.capacity

    @capacity.setter
    def capacity(self, capacity: float) -> None:
        self.slots.capacity = capacity

    @property
    def in_flight_per_backend(self) -> int:
        """Batches that a backend of capacity 1 should get at a time, now."""
        return self.climb.way.in_flight

    def learns(self, now_s: float) -> bool:
        """Whether a batch that came back now is one to learn from."""
        return now_s >= self._learn_s or self.climb.trying

    @property
    def measures(self) -> bool:
        """Whether it wants to know how long the members of batches have been here."""
        return self.climb.trying

    def group(self) -> "AdaptiveGroup":
        """The policy of one more group."""
        return AdaptiveGroup(self)

    def explain(self) -> Learned:
        """What it knows."""
        best = self.climb.best
        return Learned(
            curve=tuple(self.latency.curve()),
            in_flight_per_backend=best.in_flight,
            share=best.share,
            rows_max=self.rows_max,
            trials=self.climb.trials,
            moves=self.climb.moves,
            searching=self.climb.trying,
            slots=self.slots.count,
        )

    def observe(self, batch: Answered) -> bool:
        """Learns from an answered batch of any group. Returns whether the batches at a time have changed."""
        now_s, sent_s, before_s = batch.now_s, batch.sent_s, batch.before_s
        self._learn_s = now_s + _LEARN_EVERY_S
        occupied_s = now_s - max(sent_s, before_s)
        self.occupancy.observe(batch.rows, occupied_s)
        self.lately.observe(batch.rows, occupied_s)
        self.slots.observe(rows=batch.rows, sent_s=sent_s, before_s=before_s, now_s=now_s)
        return self.climb.landed(
            rows=batch.rows,
            requests=batch.requests,
            seconds=now_s - sent_s,
            sojourn_s=batch.sojourn_s,
            contended=batch.contended,
            now_s=now_s,
        )


class AdaptiveGroup:
    """The policy of one group: its own latency and its own callers, and the version's way of sending."""

    __slots__ = (
        "_brief",
        "_brief_at",
        "_climb",
        "_enough",
        "_fit",
        "_fit_at",
        "_gathering",
        "_stretched",
        "_version",
        "latency",
    )

    def __init__(self, version: Adaptive) -> None:
        self._version = version
        self._climb = version.climb
        self._gathering = Gathering()
        self.latency = LatencyModel(version.latency)
        self._enough = 0
        """Rows of a batch beyond which more gain nothing; 0: not known."""
        self._stretched = False
        self._brief = 0
        self._brief_at = 0
        self._fit = 0
        self._fit_at = 0

    def rows_max(self, batching: Batching) -> int:
        """The most rows of the next batch, at most `max_batch_size`."""
        most = max(1, batching.max_batch_size)
        if self.latency.seen >= self._fit_at:
            self._look(batching, most)
        if self._enough:
            most = min(most, self._enough * _STRETCH if self._stretched else self._enough)
        if not batching.target_latency_ms:
            return most
        self._version.rows_max = rows = max(1, min(most, self._fit))
        return rows

    def rows_brief(self, batching: Batching) -> int:
        """The most rows of the next batch where others shall not wait for it: not more than `rows_max`."""
        most = self.rows_max(batching)
        # Of callers' batches too, which are the small ones, and most of all there are: a job's own are few beside them,
        # and say nothing of how quick the model can be.
        latency = self._version.latency
        if latency.seen >= self._brief_at:
            self._brief_at = latency.seen + _FIT_EVERY
            self._brief = latency.rows_brief(_BRIEF, rows_max=max(1, batching.max_batch_size))
        return min(most, self._brief)

    def _look(self, batching: Batching, most: int) -> None:
        """Looks up the sizes."""
        version, latency = self._version, self.latency
        self._fit_at = latency.seen + _FIT_EVERY
        version.slots.rows_max = most
        enough = version.lately.rows_enough(_ENOUGH, rows_max=most)
        # Times scatter: a size is only enough if batches that found the backend free say so too.
        while enough < most and version.slots.saving(enough) > _SAVING_MAX:
            enough *= 2
        self._enough = enough if enough <= most / _CUT_MIN else 0
        self._stretched = True
        target_s = batching.target_latency_ms / 1000
        # Who comes just after a batch left waits until the next one may go, and then for that one.
        in_flight = self._climb.best.in_flight
        fit = latency.rows_within(target_s * in_flight / (in_flight + 1), rows_max=most)
        # Smaller batches that do not carry the load would only lengthen the line, for all who come after.
        self._fit = fit if version.slots.suffices(fit, in_flight) else most

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        """Now, unless it waits for callers that were just answered, or for its turn."""
        share = self._climb.way.share
        version = self._version
        if share:
            capacity = version.slots.capacity
            return self._gathering.until_s(rows, share if capacity <= 1.0 else share / capacity, oldest_s)
        return self._gathering.spaced_s(version.slots.spacing_s(rows), now_s)

    def missing(self, rows: int) -> int:
        """How many more than `rows` waiting rows make a batch that waits no longer; at least 1."""
        share, slots = self._climb.way.share, self._version.slots
        if not share:
            # It waits for its turn, unless it is full.
            return max(1, slots.rows_max - rows)
        return self._gathering.missing(rows, share / max(1.0, slots.capacity))

    def departed(self, rows: int, *, left_behind: bool) -> None:
        """A batch left. `left_behind`: rows of the group wait on, because it was full."""
        self._gathering.departed(rows)
        self._climb.departed(rows, left_behind=left_behind)
        self._stretched = False

    def landed(self, rows: int, *, waiting: int, now_s: float) -> None:
        """A batch of `rows` rows is back, while `waiting` rows of the group wait."""
        version = self._version
        self._gathering.landed(rows, waiting=waiting, now_s=now_s, occupancy=version.occupancy, lately=version.lately)

    def observe(self, batch: Answered) -> bool:
        """Learns from an answered batch. Returns whether the batches at a time have changed."""
        self.latency.observe(batch.rows, batch.now_s - batch.sent_s)
        return self._version.observe(batch)
