"""The requests of a deployment, counted over five minutes each: a series without gaps, and what a replica can do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

Key = tuple[str, str]
"""A model and the name of a deployment: the daily pattern is theirs, whatever the version."""
BUCKET_S = 300
"""Requests are counted over so many seconds, from each multiple of it in UTC."""
DAY = 86_400 // BUCKET_S
"""Buckets of a day."""
KEEP_DAYS = 28
"""So much of the history is kept: four weeks."""
KNOWN_MIN_S = 60.0
"""A bucket counts where the rate was known for so long in it."""
DAYS_MIN = 2
"""Of fewer whole days nothing is forecast."""
HELD_MIN = 12
"""In so many buckets, an hour together, the targets must have held until it is known what a replica can do."""
DECISIONS_MIN = 10
"""So often must have been looked in a bucket to say that they held in it."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """What was asked of a deployment within BUCKET_S, of all its versions together."""

    started_at: datetime
    known_s: float = 0.0
    """For how long of it the rate was known."""
    requests: float = 0.0
    version: str = ""
    """The version whose replicas were decided on in it, at the end; empty: none."""
    decisions: int = 0
    """How often that was."""
    short: int = 0
    """How often of these there were fewer replicas than the targets asked for."""
    per_replica: float = 0.0
    """Sum over the decisions of the requests per second of one replica."""

    @property
    def rate(self) -> float | None:
        """Requests per second; None where that is not known."""
        return self.requests / self.known_s if self.known_s >= KNOWN_MIN_S else None

    def plus(self, more: "Bucket") -> "Bucket":
        """Both together; of two versions the decisions of the second."""
        same = self.version == more.version or not more.version
        return Bucket(
            self.started_at,
            self.known_s + more.known_s,
            self.requests + more.requests,
            self.version if same else more.version,
            more.decisions + (self.decisions if same else 0),
            more.short + (self.short if same else 0),
            more.per_replica + (self.per_replica if same else 0.0),
        )

    @property
    def held_at(self) -> float | None:
        """The requests per second of one replica, where the targets held all the time; else None."""
        held = self.decisions >= DECISIONS_MIN and self.short == 0
        return self.per_replica / self.decisions if held else None


def bucket_start(moment: datetime) -> datetime:
    """The beginning of the bucket that `moment`, in UTC, lies in."""
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return moment - (moment - midnight) % timedelta(seconds=BUCKET_S)


@dataclass(frozen=True, slots=True)
class Series:
    """Requests per second, bucket by bucket without gaps, up to `until`."""

    rates: tuple[float, ...]
    until: datetime
    known: int
    """How many of them were seen; the others are what came at the same time of other days."""

    @property
    def days(self) -> float:
        """How many days were seen."""
        return self.known / DAY

    @property
    def enough(self) -> bool:
        """Whether there are whole days enough to tell a pattern from."""
        return self.known > DAYS_MIN * DAY


def series(buckets: Iterable[Bucket], now: datetime) -> Series:
    """The history up to the bucket that is just being filled. What lies before a gap of a day is left out."""
    until = bucket_start(now)
    rates = {
        round((until - one.started_at).total_seconds()) // BUCKET_S: rate
        for one in buckets
        if (rate := one.rate) is not None and one.started_at < until
    }
    oldest = known = 0
    for age in sorted(rates):
        if age - oldest > DAY or age > KEEP_DAYS * DAY:
            break
        oldest, known = age, known + 1
    return Series(tuple(_rate(rates, age, oldest) for age in range(oldest, 0, -1)), until, known)


def capacity(buckets: Iterable[Bucket], version: str) -> float | None:
    """The most requests per second that a replica of the version was seen to answer while every target held; None
    where that is not known."""
    held = [rate for one in buckets if one.version == version and (rate := one.held_at) is not None]
    return max(held) or None if len(held) >= HELD_MIN else None


def _rate(rates: Mapping[int, float], age: int, oldest: int) -> float:
    """What came then, else at that time of the nearest day, else last before or after."""
    if age in rates:
        return rates[age]
    for days in range(1, oldest // DAY + 1):
        for other in (age + days * DAY, age - days * DAY):
            if other in rates and other <= oldest:
                return rates[other]
    return rates[min((other for other in rates if other <= oldest), key=lambda other: abs(other - age))]
