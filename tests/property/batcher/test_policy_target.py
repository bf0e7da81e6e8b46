"""A stated latency, in virtual time: kept where the backend can keep it, and never paid for with the backend's pace.

What the backend can keep is said by its times alone: batches as large as the load makes them while one is under way
(1), each of which waits for the one before it and then takes its own time (2). A load that does not come evenly makes
some larger ones: hence the margins.
"""

from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from benchmarks.policy_simulation import HOST, Ours
from benchmarks.policy_world import Outcome, Service, World, closed_loop, open_loop, poisson, steady

_BATCHES = 300
_LEARNS = 2500
"""Batches in which all ways were tried: what trials do to the 95th percentile is not what is promised."""
_FINDS = (Phase.explicit, Phase.reuse, Phase.generate)
"""An example takes a second, so to make it smaller would take minutes."""

services = st.builds(
    Service,
    st.just("drawn"),
    fixed_s=st.floats(2e-3, 20e-3),
    row_s=st.floats(0.05e-3, 0.5e-3),
    rows_max=st.just(64),
    scatter=st.floats(0.01, 0.15),
    instances=st.integers(1, 2),
)


def cycle_s(service: Service, rate: float) -> float:
    """What a batch takes that holds who came during the one before it: (1), solved for the time."""
    around_s = HOST.batch_s + 2 * HOST.transit_s
    return (service.fixed_s + around_s) / (1 - service.row_s * rate / service.instances)


def play(service: Service, arrivals: list[float], *, target_s: float, learn_s: float) -> Outcome:
    """All but the first `learn_s` of the load."""
    world = World(Ours(service, target_ms=target_s * 1000), service, host=HOST, seed=1)
    return open_loop(world, arrivals, warm_s=learn_s, seconds=arrivals[-1] - learn_s)


@given(service=services, share=st.floats(0.05, 0.6), even=st.booleans(), seed=st.integers(0, 99))
@settings(max_examples=10, phases=_FINDS)
def test_a_latency_that_the_backend_can_keep_is_kept_at_the_95th_percentile(
    service: Service, share: float, even: bool, seed: int
) -> None:
    rate = share * service.capacity
    kept_s = 2 * cycle_s(service, rate) * (1 + 2 * service.scatter)
    learn_s = _LEARNS * cycle_s(service, rate)
    seconds = learn_s + 2 * _BATCHES * cycle_s(service, rate)
    arrivals = steady(rate, seconds) if even else poisson(rate, seconds, seed)
    outcome = play(service, arrivals, target_s=1.5 * kept_s, learn_s=learn_s)
    assert outcome.quantile_s(0.95) <= 1.5 * kept_s


@given(service=services, share=st.floats(0.3, 0.9), of_kept=st.floats(0.1, 1.0), seed=st.integers(0, 99))
@settings(max_examples=10, phases=_FINDS)
def test_a_latency_that_cannot_be_kept_lengthens_the_line_by_little(
    service: Service, share: float, of_kept: float, seed: int
) -> None:
    rate = share * service.capacity
    cycle = cycle_s(service, rate)
    arrivals = poisson(rate, 2 * _BATCHES * cycle, seed)
    learn_s = _BATCHES * cycle
    without = play(service, arrivals, target_s=0.0, learn_s=learn_s)
    stated = play(service, arrivals, target_s=of_kept * cycle, learn_s=learn_s)
    assert stated.per_s >= 0.97 * without.per_s
    assert stated.mean_s <= 1.25 * without.mean_s


@given(service=services, callers=st.sampled_from((8, 64, 200)), of_least=st.floats(0.1, 1.0))
@settings(max_examples=6, phases=_FINDS)
def test_a_latency_that_callers_who_wait_for_answers_cannot_have_costs_little_of_the_pace(
    service: Service, callers: int, of_least: float
) -> None:
    target_s = of_least * service.usual_s(min(callers, service.rows_max))
    seconds = _BATCHES * service.usual_s(min(callers, service.rows_max))
    paces = []
    for target in (0.0, target_s):
        world = World(Ours(service, target_ms=target * 1000), service, host=HOST, seed=1)
        paces.append(closed_loop(world, callers, warm_s=seconds, seconds=seconds).per_s)
    assert paces[1] >= 0.9 * paces[0]


def test_batches_are_no_larger_than_a_stated_latency_allows_where_smaller_ones_carry_the_load() -> None:
    service = Service("drawn", fixed_s=1e-3, row_s=1e-3, rows_max=64)
    arrivals = poisson(50.0, 20.0, 1)
    ours = Ours(service, target_ms=12.0)
    open_loop(World(ours, service, host=HOST, seed=1), arrivals, warm_s=19.0, seconds=1.0)
    assert 2 <= ours.rows_max() <= 12
    assert ours.rows_max() == ours.version.explain().rows_max


def test_batches_are_as_large_as_they_may_be_where_smaller_ones_do_not_carry_the_load() -> None:
    service = Service("drawn", fixed_s=10e-3, row_s=0.1e-3, rows_max=64)
    ours = Ours(service, target_ms=16.0)
    world = World(ours, service, host=HOST, seed=1)
    outcome = open_loop(world, steady(270.0, 20.0), warm_s=10.0, seconds=10.0)
    assert ours.rows_max() == service.rows_max
    assert outcome.quantile_s(0.95) < 0.025, "one of a row at a time carries a third of that load"
