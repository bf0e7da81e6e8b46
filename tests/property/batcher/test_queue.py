"""Whatever comes and goes: who waits is counted right, leaves once, in order, and fairly; memory follows who waits."""

from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from services.batcher.domain.backlog import Backlog
from services.batcher.domain.fairness import Queue, equal_weights
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import MATTERS_S, Line, Waiter
from tests.unit.batcher.test_rows import NOBODY

TENANTS = ("", "a", "b", "c")
QUEUES = 3
Step = tuple[str, int, int, float]
steps = st.lists(
    st.tuples(
        st.sampled_from(("push", "push", "push", "leave", "take", "expire", "room")),
        st.integers(0, 2**16),
        st.integers(1, 9),
        st.floats(0.0, 3.0),
    ),
    max_size=150,
)


@dataclass
class Play:
    """A backlog, and who must be in it."""

    backlog: Backlog = field(default_factory=lambda: Backlog(equal_weights))
    now_s: float = 0.0
    waiting: dict[Waiter, Line] = field(default_factory=dict)
    queues: list[Queue] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.queues = [Queue(tier) for tier in self.backlog.tiers for _ in range(QUEUES)]

    def gone(self, waiters: list[Waiter]) -> None:
        for one in waiters:
            del self.waiting[one]

    def push(self, choice: int, rows: int, patience_s: float) -> None:
        queue = self.queues[choice % len(self.queues)]
        one = Waiter(NOBODY, (), rows, arrived_s=self.now_s, deadline_s=self.now_s + 0.01 + patience_s, size=rows * 10)
        self.backlog.push(queue, TENANTS[choice // 16 % len(TENANTS)], one)
        assert one.line is not None
        self.waiting[one] = one.line

    def take(self, rows_max: int, requests_max: int) -> None:
        for tier in self.backlog.tiers:
            lines = list(tier.in_turn(rows_max=rows_max))
            assert bool(lines) is tier.waits
            assert len({line.queue for line in lines}) == len(lines)
            if not lines:
                continue
            batch, late = self.backlog.take(lines[0], rows_max=rows_max, requests_max=requests_max, late_s=self.now_s)
            assert batch or late
            assert len(batch) <= max(1, requests_max)
            assert sum(one.rows for one in batch) <= rows_max or len(batch) == 1
            assert all(one.deadline_s <= self.now_s for one in late)
            taken_from = {self.waiting[one] for one in (*batch, *late)}
            assert len({line.queue for line in taken_from}) == 1
            for one in batch:
                line = self.waiting[one]
                assert all(other.deadline_s >= one.deadline_s - 2 * MATTERS_S for other in line if other not in batch)
            self.gone([*batch, *late])
            return

    def play(self, step: Step) -> None:
        kind, choice, size, seconds = step
        if kind == "push":
            self.push(choice, size, seconds)
        elif kind == "leave" and self.waiting:
            one = list(self.waiting)[choice % len(self.waiting)]
            self.backlog.leave(one)
            self.gone([one])
        elif kind == "take":
            self.take(size, 1 + choice % 5)
        elif kind == "expire":
            self.now_s += seconds / 4
            expired, next_s = self.backlog.expire(self.now_s, at_most=10_000)
            assert all(one.deadline_s <= self.now_s for one in expired)
            self.gone(expired)
            assert all(one.deadline_s > self.now_s - MATTERS_S for one in self.waiting)
            assert next_s <= min([one.deadline_s for one in self.waiting], default=next_s) + MATTERS_S
        elif kind == "room":
            tenant, priority = TENANTS[choice % len(TENANTS)], Priority(choice // 16 % len(Priority))
            before = self.backlog.rows
            out = self.backlog.make_room(tenant, priority, rows=size, size=0, rows_over=size, rows_max=max(before, 1))
            assert not out or before - self.backlog.rows >= size
            for one in out:
                share = self.waiting[one].share
                assert share.tenant != tenant or share.tier is not self.backlog.tiers[priority]
                assert share.tier not in self.backlog.tiers[:priority]
            self.gone(out)

    def check(self) -> None:
        backlog = self.backlog
        assert backlog.rows == sum(one.rows for one in self.waiting)
        assert backlog.bytes == sum(one.size for one in self.waiting)
        assert len(backlog) == len(self.waiting)
        for queue in self.queues:
            mine = [one for one, line in self.waiting.items() if line.queue is queue]
            assert (queue.rows, len(queue)) == (sum(one.rows for one in mine), len(mine))
            if mine:
                assert queue.oldest_s() == min(one.arrived_s for one in mine)
            for line in queue.turns:
                assert line.places <= 2 * len(line) + 130


@given(steps)
def test_nobody_is_lost_or_doubled_and_every_count_is_right(played: list[Step]) -> None:
    play = Play()
    for step in played:
        play.play(step)
        play.check()
    while play.waiting:
        play.take(8, 99)
    play.check()


weights = st.lists(st.sampled_from((0.5, 1.0, 2.0, 5.0)), min_size=2, max_size=5)


@settings(max_examples=50)
@given(weights, st.integers(1, 32), st.lists(st.integers(1, 8), min_size=4, max_size=20))
def test_tenants_who_wait_get_rows_by_their_weights(weights: list[float], rows_max: int, sizes: list[int]) -> None:
    """Deficit round robin's bound: no two differ by more than two turns and a request of each, at any moment."""
    by_tenant = {f"t{number}": weight for number, weight in enumerate(weights)}
    backlog = Backlog(by_tenant.__getitem__)
    queue = Queue(backlog.tiers[Priority.CALLER])
    served = dict.fromkeys(by_tenant, 0)
    owner: dict[Waiter, str] = {}
    pushed = 0

    def refill() -> None:
        nonlocal pushed
        for tenant in by_tenant:
            while queue.line(tenant).rows < 4 * rows_max + 80 * max(weights):
                one = Waiter(NOBODY, (), sizes[pushed % len(sizes)], arrived_s=0.0, deadline_s=9.0)
                pushed += 1
                owner[one] = tenant
                backlog.push(queue, tenant, one)

    quantum = max(1.0, rows_max / len(weights)) * len(weights) / sum(weights)
    for _ in range(60):
        refill()
        line = next(backlog.tiers[Priority.CALLER].in_turn(rows_max=rows_max))
        batch, _ = backlog.take(line, rows_max=rows_max, requests_max=1000, late_s=0.0)
        for one in batch:
            served[owner.pop(one)] += one.rows
        for first, of_first in by_tenant.items():
            for second, of_second in by_tenant.items():
                apart = served[first] / of_first - served[second] / of_second
                assert apart <= 2 * quantum + max(sizes) * (1 / of_first + 1 / of_second), served


@settings(max_examples=50)
@given(st.integers(1, 6), st.integers(1, 32), st.integers(1, 8))
def test_more_groups_do_not_get_a_tenant_more(groups: int, rows_max: int, size: int) -> None:
    """One tenant's requests are all alike, the other's are of many kinds and so in many groups."""
    backlog = Backlog(equal_weights)
    tier = backlog.tiers[Priority.CALLER]
    shared, *others = [Queue(tier) for _ in range(1 + groups)]
    served = {"plain": 0, "varied": 0}
    for _ in range(200):
        for tenant, queues in (("plain", [shared]), ("varied", [shared, *others])):
            for queue in queues:
                while queue.line(tenant).rows < 2 * rows_max + size:
                    backlog.push(queue, tenant, Waiter(NOBODY, (), size, arrived_s=0.0, deadline_s=9.0))
        before = {tenant: tier.share(tenant).rows for tenant in served}
        backlog.take(next(tier.in_turn(rows_max=rows_max)), rows_max=rows_max, requests_max=1000, late_s=0.0)
        for tenant in served:
            served[tenant] += before[tenant] - tier.share(tenant).rows
    assert abs(served["plain"] - served["varied"]) <= 4 * max(rows_max, size) + 2 * size, served
