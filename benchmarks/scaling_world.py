"""Replicas of one deployment under requests that come at a given rate, in virtual time.

In every window of a batcher, two seconds, so many requests come as chance has it, at any moment of it (a Poisson
process), and each takes as long as chance has it (exponential). They are answered in order by the ready replicas, taken
together as one server that is so many times as fast. Then the deployer's own `Scaler` decides. While another number of
replicas is being loaded the old one answers, and nothing is decided.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import numpy as np

from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.forecast import RECENT_BUCKETS, REFRESH_S, Floor, Forecast, Standing, lead_s, verdict
from services.deployer.domain.history import BUCKET_S, DAY, Bucket, Series, series
from services.deployer.domain.scaling import Load, Scaler
from services.deployer.domain.seasonal import outlook

WINDOW_S = 2.0
_WINDOWS_A_BUCKET = int(BUCKET_S / WINDOW_S)
_WINDOWS_A_MINUTE = int(60 / WINDOW_S)
_MONDAY = datetime(2026, 11, 2, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Model:
    """What a replica is."""

    service_s: float
    """A request takes it so long, on average."""
    load_s: float
    """Another number of replicas answers after so long."""
    slo_s: float
    """A request that waits longer for its replica misses."""

    @property
    def rate(self) -> float:
        """The most requests per second of a replica."""
        return 1 / self.service_s


@dataclass(frozen=True)
class Arrivals:
    """What comes, the same for every policy, and what was forecast of it."""

    counts: np.ndarray[tuple[int], np.dtype[np.int64]]
    """Requests in each window."""
    seed: int
    forecasts: Sequence[Forecast | Series]
    """What is known at the beginning of each hour: the forecast, or the history where that is too short."""

    def bucket_rate(self, number: int) -> float:
        """Requests per second in a bucket."""
        counts = self.counts[number * _WINDOWS_A_BUCKET : (number + 1) * _WINDOWS_A_BUCKET]
        return float(counts.sum()) / BUCKET_S


@dataclass
class Outcome:
    """What came of a run."""

    requests: int = 0
    misses: int = 0
    replica_s: float = 0.0
    """Of the wanted replicas, or of those that still answer where these are more."""
    changes: int = 0
    replicas: list[int] = field(default_factory=list)
    """Ready ones, each minute."""
    missed: list[int] = field(default_factory=list)
    """Requests that missed, each minute."""
    standings: dict[Standing, int] = field(default_factory=dict)
    """How many hours began with the forecast standing so."""

    @property
    def replica_hours(self) -> float:
        """The same in hours."""
        return self.replica_s / 3600


def arrivals(rates: Sequence[float], spacing_s: float, *, seed: int, capacity: float) -> Arrivals:
    """Requests at these rates, each the mean of so many seconds, and the forecasts that are made meanwhile for replicas
    of a `capacity` in requests per second."""
    known = np.asarray(rates, dtype=np.float64)
    # Between the middles of two means the rate goes in a straight line from the one to the other.
    middles = (np.arange(len(known)) + 0.5) * spacing_s
    buckets = int(len(known) * spacing_s) // BUCKET_S
    moments = (np.arange(buckets * _WINDOWS_A_BUCKET) + 0.5) * WINDOW_S
    counts = np.random.default_rng(seed).poisson(np.interp(moments, middles, known) * WINDOW_S)
    return Arrivals(counts, seed, _forecasts(Arrivals(counts, seed, ()), buckets, capacity))


def _forecasts(came: Arrivals, buckets: int, capacity: float) -> list[Forecast | Series]:
    seen: list[Bucket] = []
    made: list[Forecast | Series] = []
    for number in range(buckets):
        start = _MONDAY + timedelta(seconds=number * BUCKET_S)
        if number * BUCKET_S % REFRESH_S == 0:
            known = series(seen, start)
            if known.enough:
                found = outlook(known.rates, day=DAY)
                made.append(Forecast(known.until, found.values, found.error, capacity))
            else:
                made.append(known)
        seen.append(Bucket(start, known_s=BUCKET_S, requests=came.bucket_rate(number) * BUCKET_S))
    return made


class Replicas:
    """The ready replicas and the requests that wait for them."""

    def __init__(self, model: Model, ready: int, seed: int) -> None:
        self.model = model
        self.ready = ready
        self.wanted = ready
        self.ready_at_s = 0.0
        """When the wanted ones are the ready ones."""
        self.work_s = 0.0
        """What one replica would take for all that waits."""
        self._chance = np.random.default_rng(seed + 1_000_000)

    def answer(self, count: int) -> tuple[int, float]:
        """So many requests come within a window: how many of them wait too long, and the 95th percentile of the wait,
        in seconds."""
        moments = np.sort(self._chance.random(count)) * WINDOW_S
        works = self._chance.standard_exponential(count) * self.model.service_s
        before = np.concatenate(((0.0,), np.cumsum(works)))
        # What there would be to do, were it never done before more comes; and no less than nothing.
        left = self.work_s + before[:-1] - self.ready * moments
        waits = (left - np.minimum(np.minimum.accumulate(left), 0.0)) / self.ready if count else left
        lowest = min(0.0, float(left.min())) if count else 0.0
        end = self.work_s + before[-1] - self.ready * WINDOW_S
        self.work_s = float(end - min(lowest, end))
        late = int((waits > self.model.slo_s).sum())
        return late, float(np.quantile(waits, 0.95)) if count and late else 0.0

    def scale(self, replicas: int, now_s: float) -> None:
        """Another number is loaded from now on."""
        self.wanted, self.ready_at_s = replicas, now_s + self.model.load_s

    def look(self, now_s: float) -> bool:
        """Whether nothing is being loaded."""
        if self.wanted != self.ready and now_s >= self.ready_at_s:
            self.ready = self.wanted
        return self.wanted == self.ready


def run(model: Model, scaling: Autoscaling, came: Arrivals, *, predictive: bool) -> Outcome:
    """All of it, from one replica and an empty history."""
    replicas, scaler, outcome = Replicas(model, 1, came.seed), Scaler(), Outcome()
    lead = lead_s(model.load_s * 1000)
    floor = None
    minute_missed = 0
    for window, count in enumerate(came.counts.tolist()):
        now_s = window * WINDOW_S
        settled = replicas.look(now_s)
        if predictive and window % _WINDOWS_A_MINUTE == 0:
            floor = _floor(came, window, lead, outcome)
        missed, wait_s = replicas.answer(count)
        outcome.requests += count
        outcome.misses += missed
        outcome.replica_s += WINDOW_S * max(replicas.ready, replicas.wanted)
        minute_missed += missed
        if window % _WINDOWS_A_MINUTE == 0:
            outcome.replicas.append(replicas.ready)
            outcome.missed.append(minute_missed)
            minute_missed = 0
        if not settled:
            continue
        load = Load(requests_per_s=count / WINDOW_S, p95_ms=(wait_s + model.service_s) * 1000, floor=floor)
        decided = scaler.decide(scaling, replicas.ready, load, now_s + WINDOW_S)
        if decided.replicas != replicas.ready:
            scaler.changed(replicas.ready, now_s + WINDOW_S)
            replicas.scale(decided.replicas, now_s + WINDOW_S)
            outcome.changes += 1
    return outcome


def _floor(came: Arrivals, window: int, lead: float, outcome: Outcome) -> Floor | None:
    now_s = window * WINDOW_S
    known = came.forecasts[int(now_s // REFRESH_S)]
    if isinstance(known, Series):
        standing, floor = Standing.LEARNING, None
    else:
        bucket = int(now_s // BUCKET_S)
        recent: Mapping[datetime, float] = {
            _MONDAY + timedelta(seconds=number * BUCKET_S): came.bucket_rate(number)
            for number in range(max(0, bucket - RECENT_BUCKETS), bucket)
        }
        said = verdict(known, now=_MONDAY + timedelta(seconds=now_s), lead_s=lead, recent=recent)
        standing, floor = said.standing, said.floor
    if now_s % 3600 == 0:
        outcome.standings[standing] = outcome.standings.get(standing, 0) + 1
    return floor
