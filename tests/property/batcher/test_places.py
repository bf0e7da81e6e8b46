"""Several places in virtual time: loads follow capacities, what fails is set aside and returns, and something is always
left to use."""

import heapq
import itertools
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.batcher.domain.conduct import EjectionRules
from services.batcher.domain.ejection import after_answer, after_failure, state_of, why_not
from services.batcher.domain.places import SLOW_START_SHARE, Place, ServerState, choose
from services.batcher.domain.serving import Backend

RULES = EjectionRules()
ROWS = 8
SLOW_START_S = 10.0


@dataclass(eq=False)
class Machine:
    """What a place is in truth: `workers` batches at a time, each takes `batch_s`."""

    place: Place
    workers: int
    batch_s: float
    broken: tuple[float, float] = (0.0, 0.0)
    """From when until when every batch fails."""
    free_s: list[float] = field(default_factory=list)
    load_s: float = 0.0
    """Batches under way, summed over time."""
    answered: int = 0
    departures: list[tuple[float, int]] = field(default_factory=list)
    """When a batch went there, and how many were there then."""

    def __post_init__(self) -> None:
        self.free_s = [0.0] * self.workers

    def take(self, now_s: float) -> float:
        """When a batch that comes now is done."""
        begin_s = max(now_s, heapq.heappop(self.free_s))
        heapq.heappush(self.free_s, begin_s + self.batch_s)
        return begin_s + self.batch_s


def machine(name: str, workers: int, batch_s: float, *, since_s: float = -1e9, server: str = "") -> Machine:
    place = Place(
        Backend(name, name, "", "m", float(workers)),
        ServerState(server or name),
        in_flight_per_backend=2,
        since_s=since_s,
        slow_start_s=SLOW_START_S,
    )
    return Machine(place, workers, batch_s)


class World:
    """`callers` batches are under way at any time, as far as there is room."""

    def __init__(self, machines: list[Machine], *, callers: int, seed: int = 0) -> None:
        self.machines = machines
        self.callers = callers
        self.now_s = 0.0
        self.landings: list[tuple[float, int, Machine, float]] = []
        self.order = itertools.count()
        self.scatter = Random(seed)
        self.failures = 0

    @property
    def places(self) -> list[Place]:
        return [one.place for one in self.machines]

    def run(self, until_s: float) -> None:
        while self.now_s < until_s:
            self._send()
            self._check()
            if not self.landings:
                return
            self._land(until_s)

    def _send(self) -> None:
        while len(self.landings) < self.callers:
            place = choose(self.places, ROWS, self.now_s)
            if place is None:
                assert self.landings, [why_not(one, self.now_s) for one in self.places]
                return
            one = next(one for one in self.machines if one.place is place)
            place.departed(ROWS, self.now_s)
            one.departures.append((self.now_s, place.in_flight))
            done_s = one.take(self.now_s) + self.scatter.uniform(0, 0.1) * one.batch_s
            heapq.heappush(self.landings, (done_s, next(self.order), one, self.now_s))

    def _land(self, until_s: float) -> None:
        done_s, _, one, sent_s = heapq.heappop(self.landings)
        for other in self.machines:
            other.load_s += other.place.in_flight * (min(done_s, until_s) - self.now_s)
        self.now_s = done_s
        place = one.place
        place.left(ROWS)
        if one.broken[0] <= sent_s < one.broken[1]:
            self.failures += 1
            after_failure(place, self.places, sent_s=sent_s, now_s=self.now_s, rules=RULES)
            return
        one.answered += 1
        place.observe(rows=ROWS, seconds=self.now_s - sent_s, now_s=self.now_s)
        after_answer(place, self.places, sent_s=sent_s, now_s=self.now_s, rules=RULES)

    def _check(self) -> None:
        ejected = [place for place in self.places if place.conduct.ejected]
        assert 2 * len(ejected) <= len(self.places), "more than half are ejected"
        for place in ejected:
            assert place.conduct.until_s - self.now_s <= RULES.time_max_s + 1e-6
            assert why_not(place, self.now_s).startswith("ejected: ")
            assert place.conduct.reason
        total_s = sum(place.backlog_s for place in self.places)
        servers_s = sum(server.backlog_s for server in {place.server for place in self.places})
        assert abs(servers_s - total_s) < 1e-6, "a server's backlog is that of its places"


workers = st.integers(1, 8)


@given(
    capacities=st.lists(workers, min_size=2, max_size=5),
    fill=st.floats(0.3, 1.0),
    batch_s=st.floats(0.002, 0.5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_load_follows_capacity(capacities: list[int], fill: float, batch_s: float, seed: int) -> None:
    machines = [machine(str(at), workers, batch_s) for at, workers in enumerate(capacities)]
    callers = max(1, round(fill * sum(capacities)))
    world = World(machines, callers=callers, seed=seed)
    world.run(400 * batch_s)
    for one in machines:
        mean = one.load_s / world.now_s
        fair = callers * one.workers / sum(capacities)
        assert abs(mean - fair) <= 1.0 + 0.25 * fair, (one.workers, mean, fair)


@given(
    # Below 25 ms none is so much slower than the others that it is set aside for it.
    truth=st.lists(st.tuples(workers, st.floats(0.005, 0.024)), min_size=2, max_size=5),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_when_there_is_work_for_all_none_is_idle(truth: list[tuple[int, float]], seed: int) -> None:
    machines = [machine(str(at), workers, batch_s) for at, (workers, batch_s) in enumerate(truth)]
    world = World(machines, callers=2 * sum(workers for workers, _ in truth), seed=seed)
    world.run(5.0)
    assert not any(place.conduct.total for place in world.places)
    ideal = sum(workers / batch_s for workers, batch_s in truth) * world.now_s
    assert sum(one.answered for one in machines) >= 0.85 * ideal


@given(count=st.integers(2, 5), batch_s=st.floats(0.002, 0.2), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_of_equals_each_gets_its_turn_even_with_one_caller(count: int, batch_s: float, seed: int) -> None:
    machines = [machine(str(at), 1, batch_s) for at in range(count)]
    world = World(machines, callers=1, seed=seed)
    world.run(100 * count * batch_s)
    shares = [one.answered for one in machines]
    assert min(shares) >= 0.8 * max(shares), shares


@given(
    count=st.integers(2, 6),
    victims=st.sets(st.integers(0, 5), min_size=1),
    broken_s=st.floats(0.5, 100.0),
    callers=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=20, deadline=None)
def test_what_fails_is_set_aside_and_returns_when_it_is_well(
    count: int, victims: set[int], broken_s: float, callers: int, seed: int
) -> None:
    machines = [machine(str(at), 1, 0.2) for at in range(count)]
    for at in victims:
        if at < count:
            machines[at].broken = (1.0, 1.0 + broken_s)
    world = World(machines, callers=callers, seed=seed)
    world.run(1.0 + broken_s)
    # Twice the longest ejection: one that began just before the end, and a trial that failed at its end.
    world.run(1.0 + broken_s + 2 * RULES.time_max_s + SLOW_START_S)
    assert [state_of(place, world.now_s) for place in world.places] == ["up"] * count
    before = [one.answered for one in machines]
    world.run(world.now_s + 20)
    shares = [one.answered - was for one, was in zip(machines, before, strict=True)]
    assert min(shares) >= 0.7 * max(shares), shares


@given(count=st.integers(3, 6), callers=st.integers(3, 12), seed=st.integers(0, 99))
@settings(max_examples=15, deadline=None)
def test_one_bad_place_costs_a_handful_of_batches(count: int, callers: int, seed: int) -> None:
    machines = [machine(str(at), 1, 0.2) for at in range(count)]
    machines[0].broken = (1.0, 100.0)
    world = World(machines, callers=callers, seed=seed)
    world.run(100.0)
    # Five in a row and what was on its way with them, then one on trial after 2, 4, 8, 16, 32 and 60 s.
    assert 5 <= world.failures <= 5 + 2 + 6


@given(count=st.integers(3, 5), slow_batch_s=st.floats(0.8, 3.0), callers=st.integers(4, 12), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_a_place_that_takes_far_longer_than_its_peers_is_set_aside(
    count: int, slow_batch_s: float, callers: int, seed: int
) -> None:
    machines = [machine(str(at), 1, 0.05) for at in range(count)]
    machines[0].batch_s = slow_batch_s
    world = World(machines, callers=2 * count + callers, seed=seed)
    world.run(40.0)
    assert machines[0].place.conduct.times >= 1
    assert all(one.place.conduct.times == 0 for one in machines[1:])
    machines[0].batch_s = 0.05
    world.run(40.0 + 2 * RULES.time_max_s + SLOW_START_S)
    assert state_of(machines[0].place, world.now_s) == "up"


@given(
    others=st.lists(workers, min_size=1, max_size=4),
    newcomer=st.integers(2, 8),
    fill=st.floats(0.5, 2.0),
    seed=st.integers(0, 99),
)
@settings(max_examples=40, deadline=None)
def test_a_new_place_is_given_a_growing_share(others: list[int], newcomer: int, fill: float, seed: int) -> None:
    machines = [machine(str(at), workers, 0.05) for at, workers in enumerate(others)]
    world = World(machines, callers=max(1, round(fill * (sum(others) + newcomer))), seed=seed)
    world.run(5.0)
    new = machine("new", newcomer, 0.05, since_s=world.now_s)
    began_s = world.now_s
    machines.append(new)
    world.run(began_s + SLOW_START_S)
    for at_s, in_flight in new.departures:
        share = SLOW_START_SHARE + (1 - SLOW_START_SHARE) * (at_s - began_s) / SLOW_START_S
        assert in_flight <= max(1, int(new.place.slots * share))
    new.load_s = 0.0
    since_s = world.now_s
    world.run(since_s + 5.0)
    fair = world.callers * newcomer / (sum(others) + newcomer)
    assert new.load_s / (world.now_s - since_s) >= min(fair, new.place.slots) * 0.75 - 1.0


@given(count=st.integers(1, 4), capacity=workers, age_s=st.floats(0.0, 10.0))
def test_where_all_are_new_nobody_waits_for_a_slow_start(count: int, capacity: int, age_s: float) -> None:
    places = [machine(str(at), capacity, 0.05, since_s=100.0).place for at in range(count)]
    sent = 0
    while (place := choose(places, ROWS, 100.0 + age_s)) is not None:
        place.departed(ROWS, 100.0 + age_s)
        sent += 1
    assert sent == sum(place.slots for place in places)
