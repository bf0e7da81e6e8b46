"""Who of one version's waiting requests is next, who makes room, and how fast they are believed to leave."""

from math import inf

import pytest

from services.batcher.domain.admission import Pace
from services.batcher.domain.backlog import Backlog
from services.batcher.domain.fairness import Queue, equal_weights, weights
from services.batcher.domain.priority import Priority
from services.batcher.domain.queue import Line, Waiter
from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable
from services.batcher.domain.table import Table
from services.batcher.settings import BatcherSettings
from services.common.settings import load
from tests.support.batcher_engine_fakes import backend, served
from tests.unit.batcher.test_rows import NOBODY


def waiter(rows: int = 1, *, arrived_s: float = 0.0, deadline_s: float = 100.0, size: int = 0) -> Waiter:
    return Waiter(NOBODY, (), rows, arrived_s=arrived_s, deadline_s=deadline_s, size=size)


def take(line: Line, *, rows_max: int, requests_max: int = 9, now_s: float = 0.0) -> tuple[list[Waiter], list[Waiter]]:
    batch: list[Waiter] = []
    expired: list[Waiter] = []
    line.take(batch, expired, rows_left=rows_max, requests_max=requests_max, late_s=now_s, credit=inf)
    return batch, expired


def new_line() -> Line:
    return Queue(Backlog(equal_weights).tiers[Priority.CALLER]).line("team")


class TestLine:
    def fill(self, *rows: int) -> tuple[Line, list[Waiter]]:
        line = new_line()
        waiters = [waiter(one, arrived_s=at) for at, one in enumerate(rows)]
        for one in waiters:
            line.push(one)
        return line, waiters

    def test_first_come_first_served_as_far_as_it_fits(self) -> None:
        line, waiters = self.fill(2, 2, 3, 1)
        assert take(line, rows_max=5) == (waiters[:2], [])
        assert (line.rows, len(line), line.oldest_s()) == (4, 2, 2)
        assert take(line, rows_max=5, requests_max=1) == (waiters[2:3], [])

    def test_one_that_is_too_large_goes_alone(self) -> None:
        line, waiters = self.fill(9, 1)
        assert take(line, rows_max=5)[0] == waiters[:1]

    def test_the_late_are_set_aside_and_take_no_place(self) -> None:
        line, waiters = self.fill(3, 3, 3)
        waiters[1].deadline_s = 7
        assert take(line, rows_max=6, now_s=7) == ([waiters[0], waiters[2]], [waiters[1]])
        assert (line.rows, len(line)) == (0, 0)

    def test_leaving_counts_at_once_and_empty_places_are_cleared(self) -> None:
        line, waiters = self.fill(*[1] * 1000)
        for one in waiters[:990]:
            line.leave(one)
        assert (line.rows, len(line)) == (10, 10)
        assert line.places < 200
        assert line.oldest_s() == 990
        assert list(line) == waiters[990:]
        assert take(line, rows_max=99, requests_max=99)[0] == waiters[990:]

    def test_the_earliest_deadline_goes_first_where_it_matters(self) -> None:
        line = new_line()
        early, middle, late = waiter(deadline_s=1.0), waiter(deadline_s=5.0), waiter(deadline_s=30.0)
        like_late = waiter(deadline_s=29.998)
        for one in (late, like_late, middle, early):
            line.push(one)
        assert line.due_s() == 1.0
        assert take(line, rows_max=9)[0] == [early, middle, late, like_late]

    def test_the_urgent_leave_and_expire_like_all_others(self) -> None:
        line = new_line()
        line.push(waiter(deadline_s=1000.0))
        urgent = [waiter(deadline_s=500.0 - at) for at in range(300)]
        for one in urgent:
            line.push(one)
        for one in urgent[:290]:
            line.leave(one)
        assert (len(line), line.rows) == (11, 11)
        assert line.places < 150
        assert line.expire(205.0, at_most=3) == [urgent[299], urgent[298], urgent[297]]
        assert line.expire(205.0, at_most=99) == [urgent[296], urgent[295]]
        assert (len(line), line.due_s()) == (6, 206.0)


def test_a_tenant_weighs_1_unless_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_BATCHER_TEAM_WEIGHTS", '{"a": 3}')
    weight_of = weights(load(BatcherSettings).team_weights)
    assert [weight_of(tenant) for tenant in ("a", "b", "")] == [3.0, 1.0, 1.0]


@pytest.mark.parametrize("weight", [-1, 0, 1e-9, 1e9])
def test_weights_that_no_turns_can_serve_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], weight: float
) -> None:
    monkeypatch.setenv("INFERMESH_BATCHER_TEAM_WEIGHTS", f'{{"a": {weight}}}')
    with pytest.raises(SystemExit):
        load(BatcherSettings)
    assert "INFERMESH_BATCHER_TEAM_WEIGHTS" in capsys.readouterr().err


class TestRoom:
    def fill(self, *groups: tuple[str, Priority, int]) -> tuple[Backlog, dict[str, list[Waiter]]]:
        """One group for each priority: (tenant, priority, requests of one row and 10 bytes)."""
        backlog = Backlog(equal_weights)
        queues = {priority: Queue(backlog.tiers[priority]) for priority in Priority}
        waiters: dict[str, list[Waiter]] = {}
        for tenant, priority, count in groups:
            for at in range(count):
                one = waiter(arrived_s=at, size=10)
                backlog.push(queues[priority], tenant, one)
                waiters.setdefault(tenant, []).append(one)
        return backlog, waiters

    def test_the_newest_of_who_has_most_makes_room_for_who_has_less_than_its_share(self) -> None:
        backlog, waiters = self.fill(("a", Priority.CALLER, 8), ("b", Priority.CALLER, 2))
        gone = backlog.make_room("b", Priority.CALLER, rows=2, size=20, rows_over=2, rows_max=10)
        assert gone == [waiters["a"][7], waiters["a"][6]]
        assert backlog.rows == 8

    def test_nobody_makes_room_for_who_has_its_share(self) -> None:
        backlog, _ = self.fill(("a", Priority.CALLER, 5), ("b", Priority.CALLER, 5))
        assert backlog.make_room("a", Priority.CALLER, rows=1, size=10, rows_over=1, rows_max=10) == []
        assert backlog.make_room("b", Priority.CALLER, rows=1, size=10, rows_over=1, rows_max=10) == []
        assert backlog.rows == 10

    def test_alone_a_tenant_may_fill_the_queue_and_no_more(self) -> None:
        backlog, _ = self.fill(("a", Priority.CALLER, 10))
        assert backlog.make_room("a", Priority.CALLER, rows=1, size=10, rows_over=1, rows_max=10) == []

    def test_lower_priorities_make_room_whoever_they_are_and_the_lowest_first(self) -> None:
        backlog, waiters = self.fill(
            ("a", Priority.CALLER, 6), ("s", Priority.SHADOW, 2), ("j", Priority.BACKGROUND, 2)
        )
        gone = backlog.make_room("a", Priority.CALLER, rows=3, size=30, rows_over=3, rows_max=10)
        assert gone == [waiters["j"][1], waiters["j"][0], waiters["s"][1]]
        assert backlog.make_room("j", Priority.BACKGROUND, rows=9, size=1, rows_over=6, rows_max=10) == []

    def test_bytes_are_shared_like_rows(self) -> None:
        backlog, waiters = self.fill(("a", Priority.CALLER, 8), ("b", Priority.CALLER, 1))
        gone = backlog.make_room("b", Priority.CALLER, rows=1, size=15, bytes_over=15, bytes_max=90)
        assert gone == [waiters["a"][7], waiters["a"][6]]
        assert backlog.make_room("b", Priority.CALLER, rows=1, size=50, bytes_over=40, bytes_max=90) == []

    def test_nobody_goes_in_vain(self) -> None:
        backlog, _ = self.fill(("a", Priority.CALLER, 8), ("j", Priority.BACKGROUND, 1))
        assert backlog.make_room("a", Priority.CALLER, rows=3, size=1, rows_over=2, rows_max=9) == []
        assert backlog.rows == 9


class TestPace:
    def test_it_is_learned_only_while_others_wait(self) -> None:
        pace = Pace()
        for tick in range(100):
            pace.landed(rows=1, seconds=0.01, now_s=tick * 1.0, busy=False)
        assert pace.row_s == 0.0
        for tick in range(50):
            pace.landed(rows=10, seconds=0.02, now_s=100 + tick / 100, busy=True)
        assert pace.row_s == pytest.approx(0.001, rel=0.05)
        assert pace.service_s == pytest.approx(0.02, rel=0.05)
        assert pace.answered_after_s(95, rows_max=10) == pytest.approx(0.12, rel=0.05)

    def test_a_pause_is_not_counted(self) -> None:
        pace = Pace()
        for tick in range(50):
            pace.landed(rows=10, seconds=0.02, now_s=tick / 100 + (60.0 if tick >= 25 else 0.0), busy=True)
        assert pace.row_s == pytest.approx(0.001, rel=0.1)

    def test_the_quickest_batch_bounds_what_can_be_done_as_long_as_it_is_fresh(self) -> None:
        pace = Pace()
        assert pace.hopeless_s(0.0) == 0.0
        for tick in range(20):
            pace.landed(rows=1, seconds=0.05 if tick else 0.03, now_s=tick * 0.1, busy=False)
        assert pace.hopeless_s(2.0) == 0.03
        assert pace.hopeless_s(9.0) == 0.0
        for tick in range(20):
            pace.landed(rows=1, seconds=0.09, now_s=1000 + tick * 400.0, busy=False)
        assert pace.hopeless_s(1000 + 19 * 400.0) == 0.09, "what was long ago is forgotten"

    @pytest.mark.parametrize(
        ("rows", "row_s", "expected"), [(1000, 0.0, 1.0), (1000, 0.001, 0.5), (1, 1e-6, 0.05), (10**6, 0.1, 10.0)]
    )
    def test_come_back_when_half_has_gone(self, rows: int, row_s: float, expected: float) -> None:
        pace = Pace()
        for tick in range(200) if row_s else ():
            pace.landed(rows=10, seconds=10 * row_s, now_s=tick * 10 * row_s, busy=True)
        assert pace.retry_after_s(rows) == pytest.approx(expected, rel=0.05)


class TestTable:
    def test_only_what_changed_is_told(self) -> None:
        table = Table()
        one, two = served(version="v1"), served(backend("b:1"), version="v2")
        model = ServedModel("m", "v1", {"v1": one, "v2": two})
        other = ServedModel("o", "v1", {"v1": ServedVersion("o", "v1", "d", one.schema, backends=(backend("b:1"),))})
        step = table.step(ServingTable(1, {"m": model, "o": other}))
        assert [key for key, _ in step.versions] == [("m", "v1"), ("m", "v2"), ("o", "v1")]
        assert table.step(ServingTable(2, {"m": model, "o": other})).versions == []
        moved = served(backend("c:1"), version="v2")
        step = table.step(ServingTable(3, {"m": ServedModel("m", "v1", {"v1": one, "v2": moved}), "o": other}))
        assert (step.versions, step.unnamed) == ([(("m", "v2"), moved)], set())
        step = table.step(ServingTable(4, {"m": ServedModel("m", "v1", {"v1": one, "v2": moved})}))
        assert (step.versions, step.unnamed) == ([(("o", "v1"), None)], {"b:1"})
        assert table.version(("o", "v1")) is None
        assert table.version(("m", "v2")) is moved
        assert [table.names(address) for address in ("a:1", "b:1", "c:1")] == [True, False, True]
