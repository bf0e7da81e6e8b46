"""What the daily pattern of a deployment's requests asks for ahead of time: the fewest replicas that there should be.

A forecast only ever raises that number; what the load asks for now stays untouched. So a forecast that is too low does
no harm, and one that is too high costs replicas: it is believed for as long as it has been right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from math import ceil

from services.deployer.domain.history import BUCKET_S, DAYS_MIN

ERROR_MAX = 0.5
"""A forecast is used where the one of the last day was wrong by at most this share of the requests that came."""
RECENT_BUCKETS = 6
"""So many buckets that have passed, half an hour, show whether what was forecast comes."""
_RECENT_MIN = 3
OVER_MAX = 1.5
"""A forecast is not used where it was more than so many times what came in them."""
LEAD_MIN_S = 180.0
"""A floor is raised so long before it is needed, because peaks do not keep to the minute, and twice the time that a
load takes."""
LEAD_MAX_S = 3600.0
REFRESH_S = 3600.0
"""A forecast is made anew so often: the daily pattern as the last hours have it."""


class Standing(StrEnum):
    """What becomes of a forecast."""

    USED = "Used"
    LEARNING = "Learning"
    CAPACITY_UNKNOWN = "CapacityUnknown"
    INACCURATE = "Inaccurate"
    NOT_COMING = "NotComing"
    UNAVAILABLE = "Unavailable"


@dataclass(frozen=True, slots=True)
class Outlook:
    """What comes after a series, and how wrong the same was of its last day."""

    values: tuple[float, ...]
    """One day, not below 0."""
    error: float
    """Absolute errors of the last day, forecast from what lies before it, over what came. 0: exact; infinite: nothing
    came and something was forecast."""


@dataclass(frozen=True, slots=True)
class Floor:
    """The fewest replicas that there should be, and by what, in words."""

    replicas: int
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a forecast now, in words, and the floor where it is used."""

    standing: Standing
    words: str
    floor: Floor | None = None


@dataclass(frozen=True, slots=True)
class Forecast:
    """Requests per second of a deployment, bucket by bucket, as they are expected."""

    begins_at: datetime
    rates: tuple[float, ...]
    error: float
    """Of the last day, forecast before it began: the sum of its errors over the requests that came."""
    capacity: float | None
    """Requests per second of one replica; None: not known."""

    def rate(self, moment: datetime) -> float | None:
        """What is expected then; None where that is not known."""
        place = (moment - self.begins_at).total_seconds() // BUCKET_S
        return self.rates[int(place)] if 0 <= place < len(self.rates) else None

    def peak(self, now: datetime, lead_s: float) -> tuple[float, datetime] | None:
        """The highest rate from now until `lead_s` from now, and since when it is expected; None: not known."""
        first = (now - self.begins_at).total_seconds() // BUCKET_S
        last = (now - self.begins_at).total_seconds() + lead_s
        places = range(int(first), min(int(last // BUCKET_S), len(self.rates) - 1) + 1)
        if first < 0 or not places:
            return None
        place = max(places, key=lambda one: self.rates[one])
        return self.rates[place], max(now, self.begins_at + timedelta(seconds=place * BUCKET_S))


def learning(days: float) -> Verdict:
    """There is too little history."""
    return Verdict(
        Standing.LEARNING,
        f"not used yet: it takes {DAYS_MIN} whole days of requests to tell a daily pattern, {days:.1f} were seen",
    )


def unavailable(why: str) -> Verdict:
    """None could be made."""
    return Verdict(Standing.UNAVAILABLE, f"not used: none could be made ({why}); it is tried again")


def lead_s(load_time_ms: float) -> float:
    """How long before it is needed a floor is raised, for a version that takes so long to load."""
    return min(LEAD_MAX_S, LEAD_MIN_S + 2 * load_time_ms / 1000)


def verdict(forecast: Forecast, *, now: datetime, lead_s: float, recent: Mapping[datetime, float]) -> Verdict:
    """Whether a forecast is used, and the floor. `recent` is what came of late: requests per second by the beginning of
    their buckets, the last RECENT_BUCKETS at most."""
    peak = forecast.peak(now, lead_s)
    if peak is None:
        return unavailable("the last one has run out")
    if forecast.error > ERROR_MAX:
        return Verdict(
            Standing.INACCURATE,
            f"not used: of the last day it was wrong by {forecast.error:.0%} of the requests that came, and at most "
            f"{ERROR_MAX:.0%} may be; this pattern is not a daily one",
        )
    if forecast.capacity is None:
        return Verdict(
            Standing.CAPACITY_UNKNOWN,
            "not used yet: what a replica can answer is learnt in an hour in which the targets hold; or set "
            "target_requests_per_sec",
        )
    rate, at = peak
    replicas = ceil(rate / forecast.capacity)
    why = f"forecast: {rate:.3g} requests/s at {at:%H:%M} UTC, {forecast.capacity:.3g} a replica"
    missing = _missing(forecast, recent) if replicas > 1 else None
    if missing is not None:
        return missing
    words = f"used: of the last day it was wrong by {forecast.error:.0%} of the requests that came"
    return Verdict(Standing.USED, words, Floor(replicas, why))


def _missing(forecast: Forecast, recent: Mapping[datetime, float]) -> Verdict | None:
    """What to say where much less came of late than was forecast."""
    came = [(expected, rate) for start, rate in recent.items() if (expected := forecast.rate(start)) is not None]
    foreseen, seen = sum(pair[0] for pair in came), sum(pair[1] for pair in came)
    if len(came) < _RECENT_MIN or foreseen <= OVER_MAX * seen:
        return None
    minutes = len(came) * BUCKET_S // 60
    return Verdict(
        Standing.NOT_COMING,
        f"not used: in the last {minutes} minutes {seen / len(came):.3g} requests/s came where "
        f"{foreseen / len(came):.3g} were forecast",
    )
