"""What sets a place aside, what lets it return, and what people are told of it."""

import pytest

from services.batcher.domain.conduct import EjectionRules
from services.batcher.domain.ejection import (
    Change,
    after_answer,
    after_failure,
    cut_off,
    doubted,
    may_eject,
    state_of,
    why_none,
    why_not,
)
from services.batcher.domain.places import Place, choose
from tests.support.batcher_places import place

RULES = EjectionRules()


def places(count: int) -> list[Place]:
    return [place(f"p{at}", latency_s=0.02) for at in range(count)]


def fail(one: Place, others: list[Place], now_s: float, *, times: int = 1) -> Change | None:
    change = None
    for _ in range(times):
        change = after_failure(one, others, sent_s=now_s, now_s=now_s, rules=RULES) or change
    return change


def answer(one: Place, others: list[Place], now_s: float, *, seconds: float = 0.02, times: int = 1) -> Change | None:
    change = None
    for _ in range(times):
        sent_s = now_s - seconds
        change = after_answer(one, others, sent_s=sent_s, now_s=now_s, rules=RULES) or change
    return change


class TestFailures:
    def test_five_in_a_row_eject_and_the_time_doubles_up_to_its_bound(self) -> None:
        bad, good = both = places(2)
        assert fail(bad, both, 1.0, times=4) is None
        assert fail(bad, both, 1.0) is Change.EJECTED
        times, now_s = [bad.conduct.until_s - 1.0], bad.conduct.until_s
        for _ in range(6):
            assert fail(bad, both, now_s) is Change.EJECTED
            times.append(bad.conduct.until_s - now_s)
            now_s = bad.conduct.until_s
        assert times == [2, 4, 8, 16, 32, 60, 60]
        assert not good.conduct.ejected

    def test_an_answer_between_them_begins_the_count_anew(self) -> None:
        bad, _ = both = places(2)
        for _ in range(9):
            assert fail(bad, both, 1.0, times=1) is None
            assert answer(bad, both, 1.0, times=4) is None

    def test_half_of_the_last_batches_eject(self) -> None:
        bad, _ = both = places(2)
        changes = []
        for _ in range(40):
            changes += [fail(bad, both, 1.0, times=3), answer(bad, both, 1.0)]
        assert Change.EJECTED in changes
        assert "% of the last batches failed" in bad.conduct.reason

    def test_what_befalls_all_places_ejects_none(self) -> None:
        both = places(2)
        for _ in range(50):
            assert [fail(one, both, 1.0) for one in both] == [None, None]
            assert not doubted(both[0], both, 1.0)

    def test_never_more_than_half_and_never_the_last_that_can_be_used(self) -> None:
        four = places(4)
        assert fail(four[0], four, 1.0, times=5) is Change.EJECTED
        assert fail(four[1], four, 1.0, times=50) is Change.EJECTED
        assert fail(four[2], four, 1.0, times=50) is None
        one, other = pair = places(2)
        other.server.fell(1.0)
        assert not may_eject(one, pair, 1.0)
        assert fail(one, pair, 1.0, times=50) is None

    def test_a_refusal_is_doubted_where_the_peers_do_not_refuse(self) -> None:
        bad, good = both = places(2)
        assert not doubted(bad, both, 1.0)
        fail(bad, both, 1.0)
        assert doubted(bad, both, 1.0)
        fail(good, both, 1.0)
        assert [doubted(one, both, 1.0) for one in both] == [False, False], "it was confirmed"
        fail(bad, both, 1.0, times=2)
        assert doubted(bad, both, 1.0)
        good.server.fell(1.0)
        assert not doubted(bad, both, 1.0), "there is nobody else to ask"


class TestSlowness:
    def test_five_slow_batches_in_a_row_eject(self) -> None:
        slow, *_ = three = places(3)
        assert answer(slow, three, 1.0, seconds=0.2, times=4) is None
        assert answer(slow, three, 1.0, seconds=0.2) is Change.EJECTED
        assert "far longer than elsewhere" in slow.conduct.reason

    @pytest.mark.parametrize("seconds", [0.06, 0.099])
    def test_a_little_slower_is_not_slow(self, seconds: float) -> None:
        slow, *_ = three = places(3)
        assert answer(slow, three, 1.0, seconds=seconds, times=50) is None

    def test_standing_still_once_is_not_slow(self) -> None:
        slow, *_ = three = places(3)
        for _ in range(20):
            assert answer(slow, three, 1.0, seconds=3.0, times=2) is None
            assert answer(slow, three, 1.0) is None

    def test_a_smaller_place_may_take_longer(self) -> None:
        small, large = place("small", capacity=0.25, latency_s=0.1), place("large", latency_s=0.02)
        assert answer(small, [small, large], 1.0, seconds=0.35, times=20) is None
        assert answer(small, [small, large], 1.0, seconds=0.45, times=5) is Change.EJECTED


class TestReturn:
    def ejected(self) -> list[Place]:
        both = places(2)
        fail(both[0], both, 1.0, times=5)
        return both

    def test_nothing_until_its_time_then_one_batch_alone(self) -> None:
        bad, good = both = self.ejected()
        assert choose(both, 8, 2.9) is good
        assert choose(both, 8, 3.0) is bad
        bad.departed(8, 3.0)
        assert [choose(both, 8, 3.0) for _ in range(3)] == [good] * 3

    def test_a_good_batch_lets_it_return_slowly(self) -> None:
        bad, _ = both = self.ejected()
        assert answer(bad, both, 3.5) is Change.RETURNED
        assert (state_of(bad, 3.5), why_not(bad, 3.5)) == ("slow_start", "slow start: 10 % of its capacity")
        assert state_of(bad, 13.5) == "up"
        assert why_not(bad, 13.5) == ""

    def test_what_was_under_way_when_it_was_ejected_is_no_trial(self) -> None:
        bad, _ = both = self.ejected()
        assert after_answer(bad, both, sent_s=0.5, now_s=4.0, rules=RULES) is None
        assert after_failure(bad, both, sent_s=0.5, now_s=4.0, rules=RULES) is None
        assert (bad.conduct.ejected, bad.conduct.times) == (True, 1)

    def test_an_answer_too_late_for_anybody_is_no_return(self) -> None:
        bad, _ = both = self.ejected()
        late = after_answer(bad, both, sent_s=3.1, now_s=3.15, rules=RULES, in_time=False)
        assert (late, bad.conduct.ejected) == (None, True)

    def test_a_slow_batch_on_trial_ejects_it_for_longer(self) -> None:
        bad, _ = both = self.ejected()
        assert answer(bad, both, 4.0, seconds=0.9) is Change.EJECTED
        assert bad.conduct.until_s == 8.0

    def test_who_behaves_for_a_minute_begins_anew(self) -> None:
        bad, _ = both = self.ejected()
        answer(bad, both, 3.5)
        fail(bad, both, 10.0, times=5)
        assert bad.conduct.until_s == 14.0
        answer(bad, both, 14.5)
        fail(bad, both, 80.0, times=5)
        assert bad.conduct.until_s == 82.0

    def test_where_nothing_else_is_left_an_ejected_place_is_used(self) -> None:
        bad, good = both = self.ejected()
        good.server.fell(2.0)
        assert choose(both, 8, 2.0) is bad
        bad.departed(8, 2.0)
        assert choose(both, 8, 2.0) is bad, "and not for one batch alone"


class TestWhyNot:
    def test_each_place_says_why(self) -> None:
        down, resting, ejected, trial, full, other = six = places(6)
        down.server.fell(1.0)
        resting.rest(9.9, delay_min_s=1.0, delay_max_s=1.0, why="unknown model")
        fail(trial, six, 1.0, times=5)
        fail(ejected, six, 9.0, times=5)
        full.departed(8, 9.0)
        full.departed(8, 9.0)
        assert [why_not(one, 10.0) for one in six] == [
            "its server, p0, does not answer, for 9.0 s now",
            "it cannot run the version, for 0.1 s now (unknown model); it is tried again in 0.90 s",
            "ejected: 5 batches in a row failed; it is tried again in 1.0 s",
            "ejected: 5 batches in a row failed; one batch decides whether it returns",
            "full: 2 of 2 batches",
            "",
        ]
        assert [state_of(one, 10.0) for one in six] == ["down", "resting", "ejected", "ejected", "up", "up"]
        assert other.usable(10.0)

    def test_all_are_named_as_far_as_it_is_readable(self) -> None:
        many = places(7)
        for one in many:
            one.server.fell(0.0)
        first, second = (f"p{n}: its server, p{n}, does not answer, for 1.0 s now" for n in range(2))
        assert why_none(many[:2], 1.0) == f"{first}; {second}"
        assert why_none(many, 1.0).endswith("; and 2 more")
        assert why_none([], 1.0) == "it has no backend"

    def test_a_version_is_cut_off_until_one_of_its_places_has_run_it_again(self) -> None:
        down, failing = both = places(2)
        assert cut_off(both, 0.0) == ""
        down.server.fell(1.0)
        assert cut_off(both, 1.0) == ""
        failing.departed(8, 1.0)
        failing.departed(8, 1.0)
        assert cut_off(both, 1.0) == "", "busy is not away"
        failing.left(8)
        failing.rest(2.0, delay_min_s=1.0, delay_max_s=1.0, why="unknown model")
        assert "p0, does not answer, for 1.5 s now; p1: it cannot run the version, for 0.5 s now" in cut_off(both, 2.5)
        assert "being tried again" in cut_off(both, 3.5), "that its pause is over says nothing"
        failing.answered(4.0)
        assert cut_off(both, 4.0) == ""
        assert cut_off([], 4.0) == "it has no backend"
