"""Which versions make room for others where memory is short.

A version that is loaded is worth what its callers would wait without it: its load time, for as often as it is asked
for. What counts is that worth for each byte that it holds, which is GreedyDual-Size-Frequency (Cherkasova, "Improving
WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories, 1998). There, old fame fades
by an inflation that every eviction raises; here the demand itself decays with time, which comes to the same and needs
no state.

Against thrash: what was loaded lately stays for five times as long as its load took, so that nothing spends more than a
sixth of its life with being loaded, unless it makes room for something worth several times as much.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf

LOADS_STAYED = 5.0
"""A version stays for so many times its load time."""
WORTH_FACTOR = 4.0
"""Before that, only for what is worth so many times as much."""
QUIET_PER_S = 1 / 30
"""What is asked for less often than that gives way to a reserve."""


@dataclass(frozen=True, slots=True)
class Tenant:
    """A deployment as memory sees it."""

    key: str
    size_bytes: float
    """What it takes on each of its servers, all its copies there together."""
    spread: int = 1
    """The number of servers that it shall be on."""
    awake: bool = True
    """It shall be loaded; otherwise it is gone, or about to go, from wherever it is held."""
    places: tuple[str, ...] = ()
    """The servers that it shall be on, by what was decided before."""
    held: frozenset[str] = frozenset()
    """The servers in which it takes memory now: also those that it is about to leave."""
    pinned: bool = False
    """It never makes room."""
    evictable: bool = False
    """It answers, and nothing is being done with it: it may be put to sleep now."""
    urgent: bool = False
    """Somebody waits for it."""
    load_time_s: float = 1.0
    requests_per_s: float = 0.0
    """How often it is asked for, of late."""
    age_s: float = inf
    """Since it was loaded."""
    idle_s: float = 0.0
    """Since it was asked for."""
    waits_s: float = 0.0
    """For how long somebody has waited for it."""

    @property
    def worth(self) -> float:
        """The waiting that it saves its callers, in seconds per second and byte."""
        return self.load_time_s * self.requests_per_s / max(1.0, self.size_bytes)

    @property
    def fresh(self) -> bool:
        """Whether it was loaded so lately that it stays."""
        return self.age_s < LOADS_STAYED * self.load_time_s


def gives_way(resident: Tenant, newcomer: Tenant) -> bool:
    """Whether `resident` may be put to sleep so that `newcomer` can be loaded."""
    if not resident.evictable or resident.pinned or resident.key == newcomer.key:
        return False
    return not resident.fresh or newcomer.pinned or newcomer.worth >= WORTH_FACTOR * resident.worth


def gives_reserve(resident: Tenant) -> bool:
    """Whether `resident` may be put to sleep so that the next load finds room."""
    if not resident.evictable or resident.pinned or resident.fresh or resident.urgent:
        return False
    return resident.requests_per_s < QUIET_PER_S


def cheapest(candidates: Iterable[Tenant], needed_bytes: float) -> Sequence[Tenant] | None:
    """Those of the candidates that are worth least and free so many bytes together; None where all do not."""
    taken: list[Tenant] = []
    freed = 0.0
    if needed_bytes <= 0:
        return taken
    for one in sorted(candidates, key=_rank):
        taken.append(one)
        freed += one.size_bytes
        if freed >= needed_bytes:
            break
    if freed < needed_bytes:
        return None
    # A large one that came last may do without small ones before it: the dearest that is not needed stays.
    for one in reversed(taken[:-1]):
        if freed - one.size_bytes >= needed_bytes:
            taken.remove(one)
            freed -= one.size_bytes
    return taken


def cheapest_at_most(candidates: Iterable[Tenant], needed_bytes: float) -> Sequence[Tenant]:
    """As `cheapest`, or all candidates where they do not free enough."""
    found = sorted(candidates, key=_rank)
    enough = cheapest(found, needed_bytes)
    return found if enough is None else enough


def _rank(tenant: Tenant) -> tuple[float, float, str]:
    """Of those worth the same, what was not asked for longest goes first."""
    return (tenant.worth, -tenant.idle_s, tenant.key)
