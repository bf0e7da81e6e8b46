"""Whatever a policy wishes, nobody waits for others longer than the version allows, and no batch is too large.

A version's line is played through in virtual time: requests arrive, one backend takes batches, and after each event the
decision is asked for as the engine asks for it.
"""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from services.batcher.domain.adaptive import Adaptive, AdaptiveGroup
from services.batcher.domain.fairness import Queue, Tier, equal_weights
from services.batcher.domain.policy import NEVER, departure_s, rows_max_of
from services.batcher.domain.queue import Waiter
from services.batcher.domain.request import InferResult
from services.batcher.domain.serving import Batching


class Nobody:
    """A `Caller` that takes anything."""

    def done(self) -> bool:
        return False

    def set_result(self, result: InferResult, /) -> None:
        """Nothing."""

    def set_exception(self, exception: Exception, /) -> None:
        """Nothing."""


@dataclass
class Wilful:
    """Wishes what it is told, however unreasonable."""

    wishes_s: list[float]
    asked: int = 0

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        self.asked += 1
        return now_s + self.wishes_s[self.asked % len(self.wishes_s)]


def new_policy() -> AdaptiveGroup:
    """As a version has it that was never asked."""
    return Adaptive(in_flight=2, in_flight_max=4).group()


@dataclass
class Play:
    """What came of it."""

    idle_waits_s: list[float] = field(default_factory=list)
    """How long the oldest of each batch waited while the backend was free."""
    sizes: list[tuple[int, int]] = field(default_factory=list)
    """(rows, requests) of each batch."""


def play(policy: AdaptiveGroup | Wilful, batching: Batching, arrivals: list[tuple[float, int]], busy_s: float) -> Play:
    """Runs the line dry. `arrivals` are (moment, rows) in order; a batch keeps the one backend busy for `busy_s`."""
    line, done = Queue(Tier(equal_weights)).line(""), Play()
    coming = list(arrivals)
    now_s, free_s = 0.0, 0.0
    while coming or line.rows:
        while coming and coming[0][0] <= now_s:
            at_s, rows = coming.pop(0)
            line.push(Waiter(Nobody(), (), rows, arrived_s=at_s, deadline_s=NEVER))
        next_s = coming[0][0] if coming else NEVER
        if line.rows and free_s <= now_s:
            oldest_s = line.oldest_s()
            rows_max = rows_max_of(batching)
            leave_s = departure_s(policy, batching, rows=line.rows, rows_max=rows_max, oldest_s=oldest_s, now_s=now_s)
            assert leave_s >= now_s
            if leave_s <= now_s:
                requests_max = len(line) if batching.enabled else 1
                batch: list[Waiter] = []
                line.take(batch, [], rows_left=rows_max, requests_max=requests_max, late_s=now_s, credit=rows_max)
                done.sizes.append((sum(one.rows for one in batch), len(batch)))
                done.idle_waits_s.append(now_s - max(oldest_s, free_s))
                free_s = now_s + busy_s
                continue
            next_s = min(next_s, leave_s)
        elif line.rows:
            next_s = min(next_s, free_s)
        now_s = next_s
    return done


sizes = st.integers(1, 8)
streams = st.lists(st.tuples(st.floats(0, 0.2), sizes), max_size=60).map(
    lambda gaps: [(sum(gap for gap, _ in gaps[: index + 1]), rows) for index, (_, rows) in enumerate(gaps)]
)
batchings = st.builds(
    Batching,
    enabled=st.booleans(),
    max_batch_size=st.integers(8, 20),
    batch_timeout_ms=st.sampled_from((0.0, 1.0, 50.0, 500.0)),
)
busies = st.sampled_from((0.0, 0.01, 0.3))
wishes = st.lists(st.integers(-100, 1000).map(lambda hundredths: hundredths / 100), min_size=1)


@given(batching=batchings, arrivals=streams, busy_s=busies, wishes_s=wishes)
def test_no_wish_breaks_a_promise(
    batching: Batching, arrivals: list[tuple[float, int]], busy_s: float, wishes_s: list[float]
) -> None:
    done = play(Wilful(wishes_s), batching, arrivals, busy_s)
    assert sum(rows for rows, _ in done.sizes) == sum(rows for _, rows in arrivals)
    assert all(rows <= batching.max_batch_size for rows, _ in done.sizes)
    if not batching.enabled:
        assert all(requests == 1 for _, requests in done.sizes)
        assert all(wait_s == 0 for wait_s in done.idle_waits_s)
    assert all(wait_s <= batching.batch_timeout_ms / 1000 + 1e-9 for wait_s in done.idle_waits_s)


@given(batching=batchings, arrivals=streams, busy_s=busies)
def test_nobody_waits_for_others_while_a_backend_is_free(
    batching: Batching, arrivals: list[tuple[float, int]], busy_s: float
) -> None:
    done = play(new_policy(), batching, arrivals, busy_s)
    assert all(wait_s == 0 for wait_s in done.idle_waits_s)


@given(rows=st.integers(20, 100), wish_s=st.floats(0, 10))
def test_a_full_batch_leaves_whatever_the_policy_wishes(rows: int, wish_s: float) -> None:
    batching = Batching(max_batch_size=20)
    assert departure_s(Wilful([wish_s]), batching, rows=rows, rows_max=20, oldest_s=3.0, now_s=3.0) == 3.0


def test_nothing_waits_for_nothing() -> None:
    assert departure_s(new_policy(), Batching(), rows=0, rows_max=8, oldest_s=0, now_s=1.0) == NEVER
