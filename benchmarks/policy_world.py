"""A batcher, its backend and its callers in virtual time: what a policy does to them, exactly and in no time.

The batcher's thread is one server that takes its time over every request in, every batch and every request out, as a
Python thread does; the backend is one too, with a queue; callers are open-loop (arrivals at given moments) or
closed-loop (each asks again when it was answered). Everything random comes from one seed.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from services.batcher.domain.adaptive import Answered
from services.batcher.domain.policy import NEVER


@dataclass(frozen=True, slots=True)
class Host:
    """What a batcher spends."""

    request_in_s: float = 15e-6
    request_out_s: float = 15e-6
    batch_s: float = 60e-6
    transit_s: float = 40e-6
    """One way between batcher and backend; costs nobody's time."""
    client_s: float = 60e-6
    """From an answer on its way out to the next question of the same caller."""


@dataclass(frozen=True, slots=True)
class Service:
    """How long the backend takes over a batch."""

    name: str
    fixed_s: float
    row_s: float
    rows_max: int
    scatter: float = 0.1
    """Standard deviation of the logarithm."""
    instances: int = 1
    """Batches that it runs at the same time, each at full speed."""

    def usual_s(self, rows: int) -> float:
        """Without scatter."""
        return self.fixed_s + self.row_s * rows

    @property
    def capacity(self) -> float:
        """Rows a second in full batches."""
        return self.instances * self.rows_max / self.usual_s(self.rows_max)


class Sender(Protocol):
    """What is compared: ours, or a window."""

    @property
    def in_flight(self) -> int:
        """Batches at a time."""
        ...

    def rows_max(self) -> int:
        """The most rows of the next batch."""
        ...

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        """As `GroupPolicy`, with the promises kept."""
        ...

    def departed(self, rows: int, *, left_behind: bool) -> None:
        """A batch left."""
        ...

    def landed(self, rows: int, *, waiting: int, now_s: float) -> None:
        """A batch has landed."""
        ...

    def observe(self, batch: Answered) -> object:
        """A batch was answered in full."""
        ...


@dataclass(slots=True)
class Outcome:
    """What callers saw after the warm-up."""

    latencies_s: list[float]
    seconds: float

    @property
    def per_s(self) -> float:
        """Answers a second."""
        return len(self.latencies_s) / self.seconds

    def quantile_s(self, share: float) -> float:
        """Of the latencies."""
        ordered = sorted(self.latencies_s)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def within(self, seconds: float) -> float:
        """Share of the answers that came in time."""
        return sum(one <= seconds for one in self.latencies_s) / max(1, len(self.latencies_s))

    @property
    def mean_s(self) -> float:
        """Of the latencies."""
        return sum(self.latencies_s) / len(self.latencies_s)


class World:
    """One run. Three lines of what happens next, each in order of time: arrivals that were planned, what the batcher's
    thread will have done, and all else."""

    def __init__(self, sender: Sender, service: Service, *, host: Host, seed: int) -> None:
        self._sender = sender
        self.service = service
        self._host = host
        self._chance = random.Random(seed)
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()
        self._arrivals: deque[float] = deque()
        self._thread: deque[tuple[float, float, bool]] = deque()
        """(when, when it was asked, whether that is its answer and not its entry)."""
        self.now_s = 0.0
        self._line: deque[float] = deque()
        self._in_flight = 0
        self._landed_s = 0.0
        self._thread_free_s = 0.0
        self._backend: list[float] = [0.0] * service.instances
        self._look_s = NEVER
        self.again: Callable[[], None] | None = None
        """What an answered caller of a closed loop does."""
        self.latencies_s: list[float] = []
        self.sizes: list[int] = []

    def at(self, at_s: float, act: Callable[[], None]) -> None:
        """Plans something."""
        heapq.heappush(self._events, (at_s, next(self._order), act))

    def asked_at(self, moments: Sequence[float]) -> None:
        """Plans requests, in order of time and after all that were planned before."""
        self._arrivals.extend(moments)

    def run(self, until_s: float) -> None:
        """Lets it all happen."""
        events, arrivals, thread = self._events, self._arrivals, self._thread
        while True:
            arrival_s = arrivals[0] if arrivals else NEVER
            thread_s = thread[0][0] if thread else NEVER
            event_s = events[0][0] if events else NEVER
            next_s = min(arrival_s, thread_s, event_s)
            if next_s > until_s or next_s == NEVER:
                break
            self.now_s = next_s
            if thread_s == next_s:
                _, asked_s, answered = thread.popleft()
                if answered:
                    self._told(asked_s)
                else:
                    self._line.append(asked_s)
                    self._pump()
            elif arrival_s == next_s:
                arrivals.popleft()
                self.ask()
            else:
                heapq.heappop(events)[2]()
        self.now_s = until_s

    def ask(self) -> None:
        """A request comes in: the batcher's thread reads it when it gets to it."""
        self._thread.append((self._busy(self._host.request_in_s), self.now_s, False))

    def _busy(self, seconds: float) -> float:
        """When the batcher's thread will have done this too."""
        self._thread_free_s = max(self._thread_free_s, self.now_s) + seconds
        return self._thread_free_s

    def _pump(self) -> None:
        sender = self._sender
        while self._line and self._in_flight < sender.in_flight:
            rows = len(self._line)
            leave_s = sender.leave_at_s(rows=rows, oldest_s=self._line[0], now_s=self.now_s)
            if leave_s > self.now_s:
                if leave_s < self._look_s:
                    self._look_s = leave_s
                    self.at(leave_s, self._look)
                return
            self._depart(min(rows, sender.rows_max()))

    def _look(self) -> None:
        self._look_s = NEVER
        self._pump()

    def _depart(self, rows: int) -> None:
        members = [self._line.popleft() for _ in range(rows)]
        self._in_flight += 1
        self._sender.departed(rows, left_behind=bool(self._line))
        self.sizes.append(rows)
        sent_s = self.now_s
        arrives_s = self._busy(self._host.batch_s) + self._host.transit_s
        free_s = heapq.heappop(self._backend)
        takes_s = self.service.usual_s(rows) * self._chance.lognormvariate(0, self.service.scatter)
        done_s = max(free_s, arrives_s) + takes_s
        heapq.heappush(self._backend, done_s)
        self.at(done_s + self._host.transit_s, lambda: self._land(members, sent_s))

    def _land(self, members: Sequence[float], sent_s: float) -> None:
        now_s, rows, sender = self.now_s, len(members), self._sender
        self._in_flight -= 1
        waiting = len(self._line)
        sender.landed(rows, waiting=waiting, now_s=now_s)
        self._pump()
        oldest_s = now_s - members[0]
        before_s, self._landed_s = self._landed_s, now_s
        sender.observe(
            Answered(
                rows=rows,
                requests=rows,
                sent_s=sent_s,
                before_s=before_s,
                now_s=now_s,
                sojourn_s=(rows * (now_s + oldest_s) - sum(members)) / 2,
                contended=rows > 1 or waiting > 0 or self._in_flight > 0,
            )
        )
        for asked_s in members:
            self._thread.append((self._busy(self._host.request_out_s), asked_s, True))

    def _told(self, asked_s: float) -> None:
        self.latencies_s.append(self.now_s - asked_s)
        if self.again is not None:
            self.at(self.now_s + self._host.client_s * self._chance.uniform(0.7, 1.3), self.again)


def closed_loop(world: World, callers: int, *, warm_s: float, seconds: float) -> Outcome:
    """`callers` ask again and again."""
    world.again = world.ask
    for number in range(callers):
        world.at(number * 5e-6, world.ask)
    return _measure(world, warm_s, seconds)


def open_loop(world: World, arrivals: Sequence[float], *, warm_s: float, seconds: float) -> Outcome:
    """Requests come at these moments."""
    world.asked_at(arrivals)
    return _measure(world, warm_s, seconds)


def _measure(world: World, warm_s: float, seconds: float) -> Outcome:
    world.run(warm_s)
    world.latencies_s.clear()
    world.sizes.clear()
    world.run(warm_s + seconds)
    return Outcome(world.latencies_s, seconds)


def steady(rate: float, seconds: float) -> list[float]:
    """One after another, evenly."""
    return [number / rate for number in range(int(rate * seconds))]


def poisson(rate: float, seconds: float, seed: int) -> list[float]:
    """Independent of one another."""
    chance, at_s, moments = random.Random(seed), 0.0, []
    while at_s < seconds:
        at_s += chance.expovariate(rate)
        moments.append(at_s)
    return moments


def bursty(rate: float, seconds: float, seed: int, *, on_s: float = 0.05, factor: float = 2.5) -> list[float]:
    """A Markov-modulated Poisson process: `factor` times the rate while on, for `on_s` on average, and little while
    off, so that the mean is `rate`."""
    chance, at_s, moments, on = random.Random(seed), 0.0, [], True
    low = 0.1
    off_s = on_s * (factor - 1) / (1 - low)
    ends_s = chance.expovariate(1 / on_s)
    while at_s < seconds:
        next_s = at_s + chance.expovariate(rate * (factor if on else low))
        if next_s > ends_s:
            at_s, on = ends_s, not on
            ends_s = at_s + chance.expovariate(1 / (on_s if on else off_s))
            continue
        at_s = next_s
        moments.append(at_s)
    return moments
