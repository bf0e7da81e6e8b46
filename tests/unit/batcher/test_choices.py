"""Where batches go, who is tried again, who may wait: each decision as a table."""

import pytest

from services.batcher.domain.failure import FailureKind
from services.batcher.domain.places import Place, choose
from services.batcher.domain.queue import Waiter
from services.batcher.domain.recovery import recover
from services.batcher.domain.retry import RetryBudget
from services.batcher.domain.serving import Backend
from tests.support.batcher_places import place
from tests.unit.batcher.test_rows import NOBODY


def chosen(places: list[Place], *, rows: int = 8, now_s: float = 0.0) -> str:
    found = choose(places, rows, now_s)
    return found.backend.backend_id if found is not None else ""


def members(count: int) -> list[Waiter]:
    return [Waiter(NOBODY, (), 1, arrived_s=0, deadline_s=9) for _ in range(count)]


class TestPlaces:
    def test_the_least_expected_finish_wins(self) -> None:
        assert chosen([place("slow", latency_s=0.1), place("fast", latency_s=0.01)]) == "fast"

    def test_load_counts_against_a_place_and_capacity_for_it(self) -> None:
        near, far = place("near", latency_s=0.010), place("far", latency_s=0.014)
        assert chosen([near, far]) == "near"
        near.departed(8, 0.0)
        assert chosen([near, far]) == "far"
        small, large = place("small", latency_s=0.01), place("large", latency_s=0.01, capacity=4)
        assert chosen([small, large]) == "large"

    def test_a_place_that_never_ran_is_tried_first_and_then_the_emptier(self) -> None:
        first, second = place("first"), place("second")
        assert chosen([place("known", latency_s=0.001), first]) == "first"
        first.departed(8, 0.0)
        assert chosen([first, second]) == "second"

    def test_full_places_down_servers_and_resting_models_are_passed_over(self) -> None:
        full, down, resting = place("full"), place("down"), place("resting")
        full.departed(1, 0.0)
        full.departed(1, 0.0)
        down.server.up = False
        resting.rest(10.0, delay_min_s=0.1, delay_max_s=1.0)
        assert chosen([full, down, resting], now_s=10.0) == ""
        assert chosen([full, down, resting], now_s=10.2) == "resting"
        resting.departed(1, 10.2)
        assert chosen([full, down, resting], now_s=10.2) == "", "after a failure, one batch tries alone"
        resting.answered(10.2)
        assert chosen([full, down, resting], now_s=10.2) == "resting"

    def test_rests_double_up_to_a_bound_and_batches_that_fail_together_count_once(self) -> None:
        resting = place("r")
        rests, now_s = [], 0.0
        for _ in range(6):
            resting.rest(now_s, delay_min_s=0.1, delay_max_s=1.0)
            resting.rest(now_s, delay_min_s=0.1, delay_max_s=1.0)
            rests.append(round(resting.again_s - now_s, 3))
            now_s = resting.again_s
        assert rests == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]

    def test_a_server_is_idle_while_only_batch_jobs_use_it_and_tells_so_once(self) -> None:
        one = place("one")
        server, told = one.server, list[str]()
        one.departed(1, 0.0)
        assert not server.idle
        server.wanted.add(lambda: told.append("idle"))
        server.settle()
        server.background += 1
        server.awaited += 1
        server.settle()
        assert told == []
        server.awaited -= 1
        server.settle()
        server.settle()
        assert (server.idle, told) == (True, ["idle"])

    def test_work_of_other_versions_on_the_same_server_counts(self) -> None:
        busy, idle = place("busy", latency_s=0.010), place("idle", latency_s=0.012)
        assert chosen([busy, idle]) == "busy"
        other = Place(Backend("o", "busy", "", "other", 1.0), busy.server, in_flight_per_backend=2)
        other.observe(rows=8, seconds=0.05, now_s=0.0)
        other.departed(8, 0.0)
        assert busy.server.backlog_s == pytest.approx(0.05)
        assert chosen([busy, idle]) == "idle"
        other.left(8)
        assert busy.server.backlog_s == 0.0
        assert chosen([busy, idle]) == "busy"

    def test_of_equals_the_one_used_longest_ago_is_next(self) -> None:
        places = [place(name, latency_s=latency_s) for name, latency_s in (("a", 0.010), ("b", 0.011), ("c", 0.0105))]
        turns = []
        for step in range(6):
            found = choose(places, 8, step / 100)
            assert found is not None
            found.departed(8, step / 100)
            found.left(8)
            turns.append(found.backend.backend_id)
        assert turns == ["a", "b", "c", "a", "b", "c"]

    def test_a_place_that_was_slow_once_is_tried_again(self) -> None:
        fast, slow = place("fast", latency_s=0.01), place("slow", latency_s=0.1)
        fast.observe(rows=8, seconds=0.01, now_s=20.0)
        assert chosen([fast, slow], now_s=20.5) == "fast"
        fast.observe(rows=8, seconds=0.01, now_s=26.0)
        assert chosen([fast, slow], now_s=26.0) == "slow"
        slow.observe(rows=8, seconds=0.01, now_s=26.0)
        assert slow.latency_s < 0.02, "after a long silence one batch says more than all before it"

    def test_a_server_that_was_away_starts_slowly_unless_it_was_a_moment(self) -> None:
        one = place("one", latency_s=0.01)
        one.server.fell(10.0)
        one.server.rose(10.5)
        assert one.share(10.5) == 1.0
        one.server.fell(20.0)
        one.server.rose(22.0)
        assert [round(one.share(at_s), 3) for at_s in (22.0, 27.0, 32.0)] == [0.1, 0.55, 1.0]

    def test_a_model_that_was_gone_for_long_starts_slowly(self) -> None:
        one = place("one", latency_s=0.01)
        one.rest(10.0, delay_min_s=0.1, delay_max_s=1.0)
        one.answered(10.2)
        assert one.share(10.2) == 1.0
        one.rest(20.0, delay_min_s=0.1, delay_max_s=1.0)
        one.rest(21.0, delay_min_s=0.1, delay_max_s=1.0)
        one.answered(21.5)
        assert one.share(21.5) == pytest.approx(0.1)

    @pytest.mark.parametrize(("capacity", "slots"), [(1.0, 2), (3.0, 6), (0.1, 1), (0.0, 1), (1000.0, 64)])
    def test_slots_follow_capacity_within_bounds(self, capacity: float, slots: int) -> None:
        assert place("p", capacity=capacity).slots == slots

    def test_averages_follow_what_is_measured(self) -> None:
        measured = place("m")
        measured.observe(rows=10, seconds=1.0, now_s=0.0)
        assert (measured.latency_s, measured.rows_mean) == (1.0, 10.0)
        for _ in range(50):
            measured.observe(rows=2, seconds=0.5, now_s=0.0)
        assert measured.latency_s == pytest.approx(0.5, abs=0.01)
        assert measured.rows_mean == pytest.approx(2.0, abs=0.01)


class TestRecovery:
    @pytest.mark.parametrize("kind", [FailureKind.UNREACHABLE, FailureKind.MISSING, FailureKind.OVERLOADED])
    def test_what_reached_no_model_costs_nothing(self, kind: FailureKind) -> None:
        batch = members(3)
        for _ in range(20):
            recovery = recover(kind, batch, sent=len(batch), attempts_max=2)
            assert (recovery.again, recovery.given_up, recovery.costs_budget) == ([batch], [], False)

    @pytest.mark.parametrize("kind", [FailureKind.MODEL, FailureKind.PROTOCOL])
    def test_blame_is_found_by_halving(self, kind: FailureKind) -> None:
        batch = members(5)
        assert recover(kind, batch, sent=len(batch), attempts_max=2).again == [batch[:3], batch[3:]]
        alone = recover(kind, batch[:1], sent=len(batch[:1]), attempts_max=2)
        assert (alone.again, alone.given_up) == ([], batch[:1])

    @pytest.mark.parametrize("kind", [FailureKind.MODEL, FailureKind.PROTOCOL, FailureKind.CRASHED])
    def test_nobody_is_blamed_for_mates_that_have_left(self, kind: FailureKind) -> None:
        left = members(1)
        left[0].crashes = 1
        assert recover(kind, left, sent=2, attempts_max=4).again == [left]
        assert recover(kind, left, sent=1, attempts_max=4).given_up == left

    @pytest.mark.parametrize("kind", [FailureKind.LOST, FailureKind.GARBLED])
    def test_what_was_lost_is_tried_whole_then_in_halves_then_no_more(self, kind: FailureKind) -> None:
        batch = members(4)
        assert recover(kind, batch, sent=len(batch), attempts_max=3).again == [batch]
        assert recover(kind, batch, sent=len(batch), attempts_max=3).again == [batch[:2], batch[2:]]
        last = recover(kind, batch[:2], sent=len(batch[:2]), attempts_max=3)
        assert (last.again, last.given_up) == ([], batch[:2])

    def test_a_crash_is_forgiven_once_and_then_blamed(self) -> None:
        batch = members(2)
        first = recover(FailureKind.CRASHED, batch, sent=len(batch), attempts_max=4)
        assert (first.again, first.costs_budget) == ([batch], True)
        assert recover(FailureKind.CRASHED, batch, sent=len(batch), attempts_max=4).again == [batch[:1], batch[1:]]
        assert recover(FailureKind.CRASHED, batch[:1], sent=len(batch[:1]), attempts_max=4).given_up == batch[:1]

    @pytest.mark.parametrize("kind", list(FailureKind))
    @pytest.mark.parametrize("count", range(6))
    def test_nobody_is_forgotten_or_doubled(self, kind: FailureKind, count: int) -> None:
        batch = members(count)
        for _ in range(6):
            recovery = recover(kind, batch, sent=len(batch), attempts_max=3)
            everybody = [one for part in recovery.again for one in part] + recovery.given_up
            assert sorted(map(id, everybody)) == sorted(map(id, batch))
            assert all(recovery.again)


class TestAdmission:
    def test_a_budget_is_earned_and_spent(self) -> None:
        budget = RetryBudget(share=0.5, held_max=2)
        assert [budget.spend() for _ in range(3)] == [True, True, False]
        budget.earn()
        assert not budget.spend()
        budget.earn()
        assert budget.spend()
