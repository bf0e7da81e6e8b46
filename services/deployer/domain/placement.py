"""Which model servers each deployment shall be on, and which deployments make room: a pure function of how things are.

What is placed stays where it is, unless its server is gone or moving it evens out the servers' memory by a good deal.
What is not goes where least memory is used. Replicas are on servers of their own as far as there are servers. Where a
version fits nowhere, versions that are worth less make room (`eviction`), and it waits until they are gone: memory is
promised before it is free, in order of worth, so that a large version is not kept waiting by small ones.

A part of each server is kept free of what nobody asks for: whoever wakes a version then need not wait until another has
drained.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf

from services.deployer.domain.eviction import Tenant, cheapest, cheapest_at_most, gives_reserve, gives_way

RESERVE = 0.1
"""The part of a server's memory that is kept for the next load."""
IN_LINE_MAX = 64
"""For so many that have no place room is sought at a time; others wait behind them, in the order of worth."""
UNEVEN = 0.25
"""A version is moved where the fullest server has so much more than the emptiest, as a part of what it has."""


@dataclass(frozen=True, slots=True)
class Server:
    """A model server as memory sees it."""

    name: str
    limit_bytes: float = inf
    """What its models may take together."""


class Shortage(StrEnum):
    """Why something has no place yet: the reason of its condition Placed."""

    LEAVING = "MakingRoom"
    """Others leave for it."""
    FRESH = "WaitingForRoom"
    """What would have to leave was loaded just now, or is being loaded: it stays for a while."""
    EXHAUSTED = "MemoryExhausted"
    """Beside what is pinned it fits nowhere."""


@dataclass(frozen=True, slots=True)
class Placement:
    """What was decided."""

    places: Mapping[str, tuple[str, ...]]
    """The servers of each deployment that is awake and has any, by its key."""
    evicted: Mapping[str, str] = field(default_factory=dict)
    """What is put to sleep now, and for which other; empty: for the reserve."""
    short: Mapping[str, Shortage] = field(default_factory=dict)
    """What has no place for want of memory, and for which room is sought."""


def copies_of(replicas: int, servers: int) -> int:
    """Copies on each of a deployment's servers, of which it is on `spread_of` many: all have as many."""
    return max(1, -(-replicas // spread_of(replicas, servers)))


def spread_of(replicas: int, servers: int) -> int:
    """The servers that so many replicas are on, in a pool of `servers`, some of which may be away."""
    return max(1, min(replicas, servers))


def place(servers: Sequence[Server], tenants: Iterable[Tenant]) -> Placement:
    """The servers for each tenant that is awake. `servers` are those that can be counted on."""
    # In one order, so that the decision follows from who there is and not from who was named first.
    every = sorted(tenants, key=lambda one: one.key)
    book = _Book(sorted(servers, key=lambda one: one.name), every)
    awake = [one for one in every if one.awake]
    for tenant in awake:
        book.keep(tenant)
    for tenant in sorted(awake, key=_order):
        if tenant.key not in book.evicted:
            book.settle(tenant)
    book.reserve()
    if not book.short and not book.evicted and not book.moving:
        book.even_out()
    places = {one.key: tuple(sorted(book.places[one.key])) for one in awake if book.places[one.key]}
    return Placement(places, book.evicted, book.short)


def _order(tenant: Tenant) -> tuple[bool, bool, float, str]:
    """Who is placed first: what is pinned, then what somebody waits for, by its worth for as long as they have waited:
    of those worth the same whoever came first, and nobody never."""
    return (not tenant.pinned, not tenant.urgent, -tenant.worth * (1.0 + tenant.waits_s), tenant.key)


class _Book:
    """Who takes how much of which server, while it is decided."""

    def __init__(self, servers: Sequence[Server], tenants: Sequence[Tenant]) -> None:
        self._limits = {one.name: one.limit_bytes for one in servers}
        self._used = dict.fromkeys(self._limits, 0.0)
        """Taken or promised."""
        self._leaving = dict.fromkeys(self._limits, 0.0)
        """Of that, what is about to be free."""
        self._pinned = dict.fromkeys(self._limits, 0.0)
        self._stray: set[tuple[str, str]] = set()
        """What is still held where it shall not be any more."""
        self.places: dict[str, set[str]] = defaultdict(set)
        self.evicted: dict[str, str] = {}
        self.short: dict[str, Shortage] = {}
        self._in_line = 0
        self._there: dict[str, dict[str, Tenant]] = {name: {} for name in self._limits}
        """What could leave each server now."""
        self.moving = False
        """Whether something is under way from one server to another."""
        for tenant in tenants:
            for name in tenant.held & self._limits.keys():
                self._used[name] += tenant.size_bytes
                if not tenant.awake:
                    self._leaving[name] += tenant.size_bytes

    def keep(self, tenant: Tenant) -> None:
        """It stays where it is, on the emptier servers where those are too many."""
        there = sorted((name for name in tenant.places if name in self._limits), key=self._emptiest)
        kept = there[: tenant.spread]
        for name in kept:
            self._put(tenant, name)
        for name in (tenant.held & self._limits.keys()) - set(kept):
            self._leaving[name] += tenant.size_bytes
            self._stray.add((tenant.key, name))
        self.moving = self.moving or set(kept) != tenant.held & self._limits.keys()

    def settle(self, tenant: Tenant) -> None:
        """It gets the servers that it lacks, or others begin to make room for it. A further replica displaces nobody,
        unless it is pinned."""
        places = self.places[tenant.key]
        while len(places) < tenant.spread:
            free = [name for name in self._others(tenant) if self._fits(tenant, name)]
            if free:
                # Where it has not been unloaded yet it is at once.
                self._put(tenant, min(free, key=lambda name: (name not in tenant.held, *self._emptiest(name))))
            elif places and not tenant.pinned:
                return
            else:
                self._in_line += 1
                if self._in_line <= IN_LINE_MAX:
                    self._make_room(tenant)
                return

    def reserve(self) -> None:
        """What nobody asks for leaves servers that are nearly full, and what is worth least those that are overfull:
        versions grow while they serve."""
        for name, limit in self._limits.items():
            there = self._residents(name)
            over = self._net(name) - limit
            for one in cheapest_at_most((one for one in there if not one.pinned and not one.fresh), over):
                self._evict(one, "")
            short = self._net(name) - (1 - RESERVE) * limit
            quiet = [one for one in self._residents(name) if gives_reserve(one)]
            for one in cheapest_at_most(quiet, short):
                self._evict(one, "")

    def even_out(self) -> None:
        """Moves one version from the fullest server to the emptiest, where that pays."""
        if len(self._limits) < 2:
            return
        full, empty = max(self._limits, key=self._fullness), min(self._limits, key=self._fullness)
        gap = self._net(full) - self._net(empty)
        if gap <= UNEVEN * self._net(full):
            return
        movable = [
            one
            for one in self._residents(full)
            if empty not in self.places[one.key] and not one.fresh and 2 * one.size_bytes <= gap
            if self._fits(one, empty)
        ]
        if movable:
            one = max(movable, key=lambda one: (one.size_bytes, one.key))
            self.places[one.key].discard(full)
            self._there[full].pop(one.key, None)
            self._put(one, empty)

    def _make_room(self, tenant: Tenant) -> None:
        """The server where that costs least begins to make room."""
        options = []
        possible = False
        for name in self._others(tenant):
            possible = possible or tenant.size_bytes <= self._limits[name] - self._pinned[name]
            needed = self._net(name) + tenant.size_bytes - self._limits[name]
            victims = cheapest((one for one in self._residents(name) if gives_way(one, tenant)), needed)
            if victims is not None:
                loss = sum(one.worth * one.size_bytes for one in victims)
                options.append((loss, len(victims), *self._emptiest(name), victims))
        if not options:
            if self._limits and not self.places[tenant.key]:
                self.short[tenant.key] = Shortage.FRESH if possible else Shortage.EXHAUSTED
            return
        *_, name, victims = min(options, key=lambda option: option[:4])
        for one in victims:
            self._evict(one, tenant.key)
        self._used[name] += tenant.size_bytes
        if not self.places[tenant.key]:
            self.short[tenant.key] = Shortage.LEAVING

    def _evict(self, tenant: Tenant, for_key: str) -> None:
        self.evicted[tenant.key] = for_key
        for name in self.places.pop(tenant.key):
            self._leaving[name] += tenant.size_bytes
            self._there[name].pop(tenant.key, None)

    def _put(self, tenant: Tenant, name: str) -> None:
        if name not in tenant.held:
            self._used[name] += tenant.size_bytes
        elif (tenant.key, name) in self._stray:
            self._stray.remove((tenant.key, name))
            self._leaving[name] -= tenant.size_bytes
        if tenant.pinned:
            self._pinned[name] += tenant.size_bytes
        self.places[tenant.key].add(name)
        if tenant.evictable:
            self._there[name][tenant.key] = tenant

    def _residents(self, name: str) -> Sequence[Tenant]:
        """What could leave a server now."""
        return list(self._there[name].values())

    def _others(self, tenant: Tenant) -> Sequence[str]:
        return [name for name in self._limits if name not in self.places[tenant.key]]

    def _fits(self, tenant: Tenant, name: str) -> bool:
        return name in tenant.held or self._used[name] + tenant.size_bytes <= self._limits[name]

    def _fullness(self, name: str) -> tuple[float, str]:
        return (self._net(name), name)

    def _net(self, name: str) -> float:
        return self._used[name] - self._leaving[name]

    def _emptiest(self, name: str) -> tuple[float, str]:
        return (self._used[name], name)
