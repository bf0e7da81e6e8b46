"""Which places are set aside for how they do beside their peers, which return, and why a place gets nothing.

Outlier detection as Envoy and gRPC (A50) have it, with one difference: a place is only ever measured against its peers.
What all places of a version do, a bad caller or a slow model, ejects none.
"""

from collections.abc import Sequence
from enum import Enum
from statistics import median

from services.batcher.domain.conduct import Conduct, EjectionRules
from services.batcher.domain.failure import FailureKind
from services.batcher.domain.places import Place

COUNTED = frozenset(
    {FailureKind.LOST, FailureKind.GARBLED, FailureKind.CRASHED, FailureKind.MODEL, FailureKind.PROTOCOL}
)
"""Failures that count against a place. The others have reached no model: the place rests for a moment, at no cost."""
_TOLD_MAX = 5


class Change(Enum):
    """What became of a place."""

    EJECTED = "ejected"
    RETURNED = "returned"


def after_answer(
    place: Place, places: Sequence[Place], *, sent_s: float, now_s: float, rules: EjectionRules, in_time: bool = True
) -> Change | None:
    """Takes account of a batch that was answered in full, sent at `sent_s` and answered now. `in_time` False: nobody
    could wait for the answer any longer, which tells something only where the place was slow."""
    conduct = place.conduct
    seconds = now_s - sent_s
    slow = seconds > rules.slow_over_s and seconds > _slow_s(place, places, now_s, rules)
    if not (in_time or slow):
        return None
    if conduct.ejected:
        if sent_s < conduct.until_s:
            return None  # It was under way when the place was ejected: the trial is yet to come.
        if slow:
            return _eject(place, now_s, f"on trial a batch took {seconds:.2f} s, far more than elsewhere", rules)
        conduct.restore(now_s)
        place.since_s = now_s
        return Change.RETURNED
    conduct.answered(slow=slow)
    if conduct.slow_in_a_row >= rules.slow_in_a_row and may_eject(place, places, now_s):
        why = f"{conduct.slow_in_a_row} batches in a row took far longer than elsewhere, the last {seconds:.2f} s"
        return _eject(place, now_s, why, rules)
    return None


def after_failure(
    place: Place, places: Sequence[Place], *, sent_s: float, now_s: float, rules: EjectionRules
) -> Change | None:
    """Takes account of a batch that failed in a way that counts (`COUNTED`)."""
    conduct = place.conduct
    if conduct.ejected:
        if sent_s < conduct.until_s:
            return None
        return _eject(place, now_s, "the batch on trial failed", rules)
    conduct.failed()
    why = _too_many(conduct, rules)
    if why and _stands_out(place, places) and may_eject(place, places, now_s):
        return _eject(place, now_s, why, rules)
    return None


def doubted(place: Place, places: Sequence[Place], now_s: float) -> bool:
    """Whether a model's refusal at this place is to be confirmed at another one before anybody is blamed: its peers do
    not refuse, or it is ejected."""
    if not any(_sound(other, now_s) for other in places if other is not place):
        return False
    return place.conduct.ejected or _stands_out(place, places)


def may_eject(place: Place, places: Sequence[Place], now_s: float) -> bool:
    """Whether at most half of the places would be ejected then, and another one would be left to use."""
    ejected = sum(other.conduct.ejected for other in places if other is not place)
    return 2 * (ejected + 1) <= len(places) and any(_sound(other, now_s) for other in places if other is not place)


def state_of(place: Place, now_s: float) -> str:
    """One word for metrics: "down", "resting", "ejected", "slow_start" or "up"."""
    if not place.server.up:
        return "down"
    if place.again_s > now_s:
        return "resting"
    if place.conduct.ejected:
        return "ejected"
    return "up" if place.share(now_s) >= 1.0 else "slow_start"


def why_not(place: Place, now_s: float) -> str:
    """Why the place is given nothing now, or less than it could take; empty where neither is so."""
    state, conduct = state_of(place, now_s), place.conduct
    if state == "down":
        server = place.server
        return f"its server, {server.address}, does not answer, for {now_s - server.away_s:.1f} s now"
    if state == "resting":
        return f"{_fails(place, now_s)}; it is tried again in {place.again_s - now_s:.2f} s"
    if state == "ejected":
        left_s = conduct.until_s - now_s
        then = f"it is tried again in {left_s:.1f} s" if left_s > 0 else "one batch decides whether it returns"
        return f"ejected: {conduct.reason}; {then}"
    if place.failures:
        return f"{_fails(place, now_s)}; it is being tried again"
    if place.in_flight >= place.allowed():
        return f"full: {place.in_flight} of {place.allowed()} batches"
    return f"slow start: {100 * place.share(now_s):.0f} % of its capacity" if state == "slow_start" else ""


def cut_off(places: Sequence[Place], now_s: float) -> str:
    """Why none of a version's places is there, each by its name. Empty where one is, however busy: a place is there
    while its server answers and it has run the version since it last could not."""
    if any(place.server.up and not place.failures for place in places):
        return ""
    return why_none(places, now_s)


def why_none(places: Sequence[Place], now_s: float) -> str:
    """Why none of a version's places can be used, each by its name."""
    told = [f"{place.backend.backend_id}: {why_not(place, now_s)}" for place in places[:_TOLD_MAX]]
    if len(places) > _TOLD_MAX:
        told.append(f"and {len(places) - _TOLD_MAX} more")
    return "; ".join(told) or "it has no backend"


def _fails(place: Place, now_s: float) -> str:
    since = f", for {now_s - place.away_s:.1f} s now" if place.failures else ""
    return f"it cannot run the version{since}{f' ({place.why})' if place.why else ''}"


def _eject(place: Place, now_s: float, reason: str, rules: EjectionRules) -> Change:
    place.conduct.eject(now_s, reason, rules)
    return Change.EJECTED


def _sound(place: Place, now_s: float) -> bool:
    return place.usable(now_s) and not place.conduct.ejected


def _too_many(conduct: Conduct, rules: EjectionRules) -> str:
    if conduct.failed_in_a_row >= rules.failures_in_a_row:
        return f"{conduct.failed_in_a_row} batches in a row failed"
    if conduct.batches >= rules.share_batches_min and conduct.failed_share >= rules.share:
        return f"{100 * conduct.failed_share:.0f} % of the last batches failed"
    return ""


def _stands_out(place: Place, places: Sequence[Place]) -> bool:
    """Whether it fails and its peers at most half as often."""
    shares = [other.conduct.failed_share for other in places if other is not place]
    mine = place.conduct.failed_share
    return mine > 0 and bool(shares) and median(shares) <= 0.5 * mine


def _slow_s(place: Place, places: Sequence[Place], now_s: float, rules: EjectionRules) -> float:
    """The time beyond which a batch is slow there. A place of a smaller capacity than its peers is allowed as much
    more."""
    peers = [other for other in places if other is not place and other.latency_s and _sound(other, now_s)]
    if not peers:
        return float("inf")
    usual_s = median([other.latency_s for other in peers])
    smaller = max(1.0, median([other.capacity for other in peers]) / place.capacity)
    return max(rules.slow_times * usual_s * smaller, usual_s + rules.slow_over_s)
