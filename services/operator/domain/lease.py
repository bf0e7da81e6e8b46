"""Which of several operators works: whoever holds a Lease, by Kubernetes' own protocol (client-go's leader election).

Whoever does not hold it never compares its clock with the holder's: it takes the lease over once it has itself watched
it unchanged for as long as it lasts. The holder stops working a good while before that, by its own monotonic clock.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from services.common.body import Body, text, whole


@dataclass(frozen=True, slots=True)
class LeaseTerms:
    """Seconds."""

    lasts_s: int = 15
    """How long a lease that is not renewed keeps others out: so long nobody works after the leader died."""
    renew_s: float = 3.0
    """Between renewals."""
    gives_up_s: float = 10.0
    """Without a renewal for so long the holder stops, before anybody else begins."""
    try_s: float = 2.0
    """Between looks of those who wait."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A lease as one who waits has seen it."""

    spec: Body
    since_s: float
    """Since when it has looked like this, on the waiter's monotonic clock."""


def watch(before: Watched | None, lease: Body, *, now_s: float) -> Watched:
    """What the waiter knows after another look."""
    spec = lease.get("spec")
    found = spec if isinstance(spec, Mapping) else {}
    return before if before is not None and before.spec == found else Watched(found, now_s)


def may_take(watched: Watched, me: str, *, now_s: float) -> bool:
    """Whether the lease is free: given back, one's own, or not renewed for as long as it lasts."""
    holder = text(watched.spec, "holderIdentity")
    lasts_s = whole(watched.spec, "leaseDurationSeconds")
    return holder in {"", me} or now_s - watched.since_s > lasts_s


def taken(before: Body | None, me: str, terms: LeaseTerms, *, now: datetime) -> Body:
    """The lease as its next holder writes it; `before`: what it was."""
    spec = before.get("spec") if before is not None else None
    old = spec if isinstance(spec, Mapping) else {}
    same = text(old, "holderIdentity") == me
    moment = now.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "holderIdentity": me,
        "leaseDurationSeconds": terms.lasts_s,
        "acquireTime": text(old, "acquireTime", default=moment) if same else moment,
        "renewTime": moment,
        "leaseTransitions": whole(old, "leaseTransitions") + (0 if same or not old else 1),
    }


def given_back(lease: Body) -> Body:
    """The lease as its holder leaves it: free at once, without a wait."""
    spec = lease.get("spec")
    kept = (
        {name: value for name, value in spec.items() if name != "holderIdentity"} if isinstance(spec, Mapping) else {}
    )
    return {**kept, "leaseDurationSeconds": 1}
