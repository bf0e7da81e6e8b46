"""The policy in virtual time: nobody alone waits, bounds hold, and what is learned is what is best.

The world is exact and its seed fixed, so these outcomes are the same on every machine.
"""

import pytest

from benchmarks.policy_simulation import HOST, LOADS, SERVICES, Ours, compare, play
from benchmarks.policy_world import Service, World, closed_loop

DIGITS, GPU, _, LINEAR = SERVICES
BY_NAME = {load.name: load for load in LOADS}


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_a_lone_caller_never_waits_for_others(service: Service) -> None:
    world = World(Ours(service), service, host=HOST, seed=1)
    outcome = closed_loop(world, 1, warm_s=service.usual_s(1) * 50, seconds=service.usual_s(1) * 200)
    least_s = HOST.request_in_s + HOST.batch_s + 2 * HOST.transit_s + HOST.request_out_s
    assert outcome.quantile_s(0.5) == pytest.approx(service.usual_s(1) + least_s, rel=0.05)


@pytest.mark.parametrize("name", ["8 callers", "steady 30%"])
def test_digits_do_at_least_as_well_as_the_best_window(name: str) -> None:
    result = compare(DIGITS, BY_NAME[name], learn_s=1.0, batches=300)
    assert result.ratio >= 1.0, result.best_window


def test_one_large_batch_at_a_time_is_found_where_batches_cost_the_same_whatever_is_in_them() -> None:
    ours = Ours(GPU)
    outcome = play(ours, GPU, BY_NAME["8 callers"], warm_s=0.5, seconds=3.0, learn_s=20.0)
    assert (ours.version.climb.best.in_flight, ours.version.climb.best.share) == (1, 1.0)
    assert outcome.per_s > 650, "8 in each batch of about 11 ms"


def test_a_model_that_gains_nothing_by_batches_holds_nobody_back() -> None:
    outcome = play(Ours(LINEAR), LINEAR, BY_NAME["steady 70%"], warm_s=0.5, seconds=2.0, learn_s=5.0)
    assert outcome.quantile_s(0.95) < 0.001


def test_batches_are_no_larger_than_a_stated_latency_allows() -> None:
    ours = Ours(GPU, target_ms=26.0)
    play(ours, GPU, BY_NAME["Poisson 30%"], warm_s=0.5, seconds=3.0, learn_s=10.0)
    rows_max = ours.rows_max()
    assert 1 <= rows_max < GPU.rows_max
    assert ours.rows_max() == ours.version.explain().rows_max
