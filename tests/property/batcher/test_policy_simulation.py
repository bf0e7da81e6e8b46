"""The policy in virtual time: nobody alone waits, bounds hold, and what is learned is what is best.

The world is exact and its seed fixed, so these outcomes are the same on every machine.
"""

from dataclasses import replace
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.policy_simulation import HOST, LOADS, SERVICES, Ours, Window, compare, play
from benchmarks.policy_world import Service, World, closed_loop
from services.batcher.domain.adaptive import Answered
from services.batcher.domain.policy import departure_s
from services.batcher.domain.serving import Batching

DIGITS, GPU, TWO, LINEAR = SERVICES
BY_NAME = {load.name: load for load in LOADS}


class Wilful:
    """Wishes what it is told, in turn."""

    def __init__(self, wishes_s: list[float]) -> None:
        self._wishes_s = cycle(wishes_s)

    def leave_at_s(self, *, rows: int, oldest_s: float, now_s: float) -> float:
        return now_s + next(self._wishes_s)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_lone_caller_never_waits_for_others(service: Service) -> None:
    world = World(Ours(service), service, host=HOST, seed=1)
    outcome = closed_loop(world, 1, warm_s=service.usual_s(1) * 50, seconds=service.usual_s(1) * 200)
    least_s = HOST.request_in_s + HOST.batch_s + 2 * HOST.transit_s + HOST.request_out_s
    assert outcome.quantile_s(0.5) == pytest.approx(service.usual_s(1) + least_s, rel=0.05)


@pytest.mark.parametrize(
    ("name", "least"),
    # With 64 it still tries other ways while it is measured.
    [("1 callers", 0.95), ("8 callers", 0.95), ("64 callers", 0.92), ("256 callers", 0.95), ("steady 70%", 0.95)],
)
def test_digits_keep_up_with_the_best_window(name: str, least: float) -> None:
    result = compare(DIGITS, BY_NAME[name], learn_s=4.0, batches=800)
    assert result.ratio >= least, (result.ratio, result.ours_way, result.best_window)


@pytest.mark.parametrize("name", ["1 callers", "8 callers", "64 callers", "steady 30%", "Poisson 70%"])
def test_where_batches_gain_nothing_it_keeps_up_with_the_best_window(name: str) -> None:
    result = compare(LINEAR, BY_NAME[name], learn_s=4.0, batches=200)
    assert result.ratio >= 0.97, (result.ratio, result.ours_way, result.best_window)


@pytest.mark.parametrize("name", ["1 callers", "8 callers", "64 callers", "steady 30%"])
def test_a_model_with_a_large_cost_for_each_batch_keeps_up_with_the_best_window(name: str) -> None:
    result = compare(GPU, BY_NAME[name], learn_s=20.0, batches=200)
    assert result.ratio >= 0.95, (result.ratio, result.ours_way, result.best_window)


@pytest.mark.parametrize(
    ("service", "name", "delay_s", "in_flight", "least"),
    [
        (GPU, "steady 90%", 1e-3, 1, 0.95),
        (GPU, "Poisson 70%", 1e-3, 1, 0.95),
        (GPU, "bursty 30%", 5e-3, 1, 0.93),
        (TWO, "steady 30%", 5e-3, 2, 0.93),
        (TWO, "Poisson 70%", 5e-3, 2, 0.93),
        (TWO, "Poisson 90%", 1e-3, 2, 0.93),
        (TWO, "bursty 30%", 5e-3, 2, 0.9),
        (TWO, "bursty 70%", 5e-3, 2, 0.85),
        (DIGITS, "bursty 30%", 500e-6, 1, 0.93),
    ],
    ids=lambda value: value.name if isinstance(value, Service) else str(value),
)
def test_loads_of_many_who_do_not_wait_keep_up_with_the_window_that_is_best_for_them(
    service: Service, name: str, delay_s: float, in_flight: int, least: float
) -> None:
    learn_s, seconds = (5.0, 1.0) if service is DIGITS else (20.0, 4.0)
    window = Window(service, delay_s=delay_s, preferred=(), in_flight=in_flight)
    best = play(window, service, BY_NAME[name], warm_s=0.2, seconds=seconds)
    ours = play(Ours(service), service, BY_NAME[name], warm_s=0.2, seconds=seconds, learn_s=learn_s)
    assert best.mean_s / ours.mean_s >= least


def test_one_large_batch_at_a_time_is_found_where_batches_cost_the_same_whatever_is_in_them() -> None:
    ours = Ours(GPU)
    outcome = play(ours, GPU, BY_NAME["8 callers"], warm_s=0.5, seconds=3.0, learn_s=20.0)
    assert (ours.version.climb.best.in_flight, ours.version.climb.best.share) == (1, 1.0)
    assert outcome.per_s > 650, "8 in each batch of about 11 ms"


def test_a_model_that_gains_nothing_by_batches_holds_nobody_back() -> None:
    outcome = play(Ours(LINEAR), LINEAR, BY_NAME["steady 70%"], warm_s=0.5, seconds=2.0, learn_s=5.0)
    assert outcome.quantile_s(0.95) < 0.001


def test_batches_have_no_more_rows_than_gain_something() -> None:
    of_linear, of_gpu = Ours(LINEAR), Ours(GPU)
    for ours, service in ((of_linear, LINEAR), (of_gpu, GPU)):
        play(ours, service, BY_NAME["64 callers"], warm_s=0.5, seconds=0.5, learn_s=5.0)
    assert of_linear.rows_max() < LINEAR.rows_max / 2
    assert of_gpu.rows_max() == GPU.rows_max


def test_what_is_enough_follows_a_model_that_begins_to_gain_by_batches() -> None:
    policy = Ours(LINEAR)
    group, now_s = policy.version.group(), 0.0
    taken: list[int] = []
    for number in range(3000):
        # Fewer wait at times, or small batches would never have been seen.
        taken.append(group.rows_max(policy.batching))
        rows = min(taken[-1], 1 + number % 64)
        seconds = 0.0005 * rows if number < 1000 else 0.010 + 0.0001 * rows
        group.departed(rows, left_behind=True)
        sent_s, now_s = now_s, now_s + seconds
        group.landed(rows, waiting=64, now_s=now_s)
        group.observe(Answered(rows, rows, sent_s, sent_s, now_s, rows * 2 * seconds, contended=False))
    assert max(taken[900:1000]) <= 8
    assert min(taken[2500:]) == 64, "within 1500 batches"


def test_a_model_that_is_five_times_as_slow_for_a_while_is_followed_there_and_back() -> None:
    ours = Ours(GPU)
    world = World(ours, GPU, host=HOST, seed=1)
    settled_per_s = closed_loop(world, 32, warm_s=15.0, seconds=5.0).per_s
    moves = ours.version.climb.moves
    for times in (5, 1):
        world.service = replace(GPU, fixed_s=times * GPU.fixed_s, row_s=times * GPU.row_s)
        # 500 batches of the best size; while it finds its way back they are smaller and a few more.
        world.run(world.now_s + 500 * times * GPU.usual_s(32))
        world.latencies_s.clear()
        measured_s = 100 * times * GPU.usual_s(32)
        world.run(world.now_s + measured_s)
        assert len(world.latencies_s) / measured_s * times > 0.9 * settled_per_s
    assert ours.version.climb.moves - moves <= 4


@pytest.mark.parametrize(("name", "most"), [("8 callers", 3), ("256 callers", 3)])
def test_it_settles(name: str, most: int) -> None:
    ours = Ours(DIGITS)
    play(ours, DIGITS, BY_NAME[name], warm_s=0.0, seconds=0.1, learn_s=8.0)
    assert ours.version.climb.moves <= most


@given(
    wishes_s=st.lists(st.floats(-1, 1), min_size=1),
    timeout_ms=st.floats(0, 100),
    began_s=st.floats(0, 1e6),
    grain_s=st.sampled_from((0.0, 1e-4, 1e-3)),
)
def test_whatever_a_policy_wishes_looking_again_comes_to_an_end(
    wishes_s: list[float], timeout_ms: float, began_s: float, grain_s: float
) -> None:
    batching = Batching(max_batch_size=8, batch_timeout_ms=timeout_ms)
    policy, now_s = Wilful(wishes_s), began_s
    for _ in range(int(timeout_ms / 1000 / 0.0005) + 3):
        leave_s = departure_s(policy, batching, rows=1, rows_max=8, oldest_s=began_s, now_s=now_s)
        if leave_s <= now_s:
            return
        now_s = leave_s + grain_s
    pytest.fail(f"looked again until {now_s - began_s} s after it came")
