"""Autoscaling in virtual time: bounds, rates and stabilisation hold whatever the load does, and it settles."""

from collections.abc import Sequence
from itertools import pairwise
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.deployer.domain.deployment import Autoscaling
from services.deployer.domain.scaling import DOWN_EVERY_S, TOLERANCE, UP_EVERY_S, Load, Scaler, acts, wanted_replicas

PERIOD_S = 2.0
loads = st.builds(
    Load,
    requests_per_s=st.floats(0, 10_000),
    in_flight=st.floats(0, 1000),
    queued=st.floats(0, 1000),
    p95_ms=st.floats(0, 10_000),
)
scalings = st.builds(
    Autoscaling,
    enabled=st.just(True),
    min_replicas=st.integers(0, 4),
    max_replicas=st.integers(4, 40),
    target_latency_ms=st.sampled_from((0.0, 100.0)),
    target_requests_per_sec=st.sampled_from((0.0, 50.0)),
    target_concurrency=st.sampled_from((0.0, 4.0)),
    target_queue_depth=st.sampled_from((0.0, 2.0)),
    scale_down_stabilization_s=st.sampled_from((0, 30, 300)),
)


def run(scaling: Autoscaling, course: Sequence[Load], replicas: int = 1) -> list[int]:
    """The number of replicas after each word of the load."""
    scaler, seen = Scaler(), []
    for step, load in enumerate(course):
        now_s = step * PERIOD_S
        decided = scaler.decide(scaling, replicas, load, now_s).replicas
        if decided != replicas:
            scaler.changed(replicas, now_s)
            replicas = decided
        seen.append(replicas)
    return seen


@given(scalings, st.lists(loads, min_size=1, max_size=120), st.integers(1, 60))
def test_bounds_and_rates_hold_whatever_happens(scaling: Autoscaling, course: list[Load], first: int) -> None:
    seen = run(scaling, course, first)
    least, most = max(1, scaling.min_replicas), scaling.max_replicas
    history = [first, *seen]
    for step, count in enumerate(seen, start=1):
        up = history[max(0, step - int(UP_EVERY_S / PERIOD_S)) : step]
        down = history[max(0, step - int(DOWN_EVERY_S / PERIOD_S)) : step]
        if count > history[step - 1]:
            assert count <= max(2 * min(up), least)
        if count < history[step - 1]:
            assert count >= min(-(-max(down) // 2), most)
    assert all(count >= least for count in seen[1:]) or first < least
    assert seen[-1] <= max(most, first)


@given(scalings, loads, st.integers(1, 40))
def test_a_steady_load_settles(scaling: Autoscaling, load: Load, first: int) -> None:
    """A load that does not depend on the number of replicas moves it to one number, and there it stays."""
    per_second = Load(requests_per_s=load.requests_per_s, in_flight=load.in_flight, queued=load.queued)
    seen = run(scaling, [per_second] * 1200, first)
    assert len(set(seen[-100:])) == 1


@given(scalings, loads, st.integers(1, 20))
def test_more_load_never_wants_fewer(scaling: Autoscaling, load: Load, replicas: int) -> None:
    more = Load(2 * load.requests_per_s, 2 * load.in_flight, 2 * load.queued, 2 * load.p95_ms)
    assert wanted_replicas(scaling, replicas, more)[0] >= wanted_replicas(scaling, replicas, load)[0]


def test_a_peak_doubles_it_every_15_s_and_its_end_is_believed_after_the_window() -> None:
    scaling = Autoscaling(enabled=True, max_replicas=32, target_requests_per_sec=10, scale_down_stabilization_s=300)
    seen = run(scaling, [Load(requests_per_s=160)] * 60 + [Load(requests_per_s=10)] * 400)
    assert seen[0] == 2
    assert seen[8] == 4
    assert max(seen) == seen[59] == 16
    # 300 s after the last word of the peak it halves, and then every 60 s.
    assert seen[59 + 149] == 16
    assert seen[59 + 152] == 8
    # With 10 a second for a target of 10 one would do, and not be at ease.
    assert seen[-1] == 2
    assert run(scaling, [Load(requests_per_s=160)] * 60 + [Load(requests_per_s=9)] * 400)[-1] == 1


@given(st.floats(1, 400), st.integers(1, 30), st.sampled_from((10.0, 40.0)))
def test_what_it_went_down_to_takes_a_tenth_more_without_another_change(rate: float, first: int, target: float) -> None:
    """However many there were: once it has settled, a load that grows by no more than the tolerance moves nothing."""
    scaling = Autoscaling(enabled=True, max_replicas=100, target_requests_per_sec=target)
    seen = run(scaling, [Load(requests_per_s=rate)] * 1200, first)
    settled = seen[-1]
    assert len(set(seen[-100:])) == 1
    grown = run(scaling, [Load(requests_per_s=rate * (1 + TOLERANCE))] * 300, settled)
    if settled < first:
        assert set(grown) == {settled}


@given(st.integers(0, 2**32 - 1), st.sampled_from((30.0, 60.0, 90.0, 200.0)))
@settings(max_examples=25)
def test_chance_alone_makes_few_changes(seed: int, rate: float) -> None:
    """A load that stays as it is, told by two seconds of requests that come as chance has it: after the first quarter
    of an hour the number changes no more than three times in two hours."""
    scaling = Autoscaling(enabled=True, max_replicas=100, target_requests_per_sec=12)
    counts = np.random.default_rng(seed).poisson(rate * PERIOD_S, 4050)
    seen = run(scaling, [Load(requests_per_s=count / PERIOD_S) for count in counts.tolist()], ceil(rate / 12))
    later = seen[450:]
    assert sum(a != b for a, b in pairwise(later)) <= 3


@given(st.integers(1, 20), st.floats(1.2, 2.0), st.booleans())
def test_a_step_is_followed_at_the_first_word_of_it(replicas: int, growth: float, by_queue: bool) -> None:
    """Whether more comes or more waits: nothing is averaged away. One word with a longer queue asks for more."""
    scaling = Autoscaling(
        enabled=True,
        max_replicas=100,
        target_requests_per_sec=0.0 if by_queue else 12,
        target_concurrency=4 if by_queue else 0.0,
    )
    calm = Load(requests_per_s=12.0 * replicas, in_flight=4.0 * replicas)
    more = Load(requests_per_s=12.0 * replicas * growth, in_flight=calm.in_flight, queued=4.0 * replicas * (growth - 1))
    seen = run(scaling, [calm] * 30 + [more], replicas)
    assert seen[:-1] == [replicas] * 30
    assert seen[-1] > replicas


@pytest.mark.parametrize(
    ("load", "replicas", "expected"),
    [
        (Load(requests_per_s=104), 2, 2),
        (Load(requests_per_s=120), 2, 3),
        (Load(in_flight=8, queued=8), 2, 4),
        (Load(p95_ms=105), 2, 2),
        (Load(p95_ms=130, in_flight=2), 2, 3),
        (Load(p95_ms=900, in_flight=2), 2, 4),
        (Load(p95_ms=20, in_flight=1), 2, 1),
        (Load(p95_ms=20, in_flight=2), 2, 2),
    ],
)
def test_each_target_asks_for_its_number(load: Load, replicas: int, expected: int) -> None:
    by = {
        "target_requests_per_sec": 50.0 if load.requests_per_s else 0.0,
        "target_concurrency": 4.0 if load.queued else 0.0,
        "target_latency_ms": 100.0 if load.p95_ms else 0.0,
    }
    scaling = Autoscaling(enabled=True, **by)  # type: ignore[arg-type]
    assert wanted_replicas(scaling, replicas, load)[0] == expected


def test_it_acts_where_there_is_a_target_that_is_known_here_and_room() -> None:
    assert not acts(None)
    assert not acts(Autoscaling(enabled=False, target_concurrency=1))
    assert acts(Autoscaling(enabled=True, target_cpu_percent=70))
    assert acts(Autoscaling(enabled=True, target_gpu_percent=70))
    assert not acts(Autoscaling(enabled=True, predictive=True))
    assert not acts(Autoscaling(enabled=True, max_replicas=1, target_concurrency=1))
    assert acts(Autoscaling(enabled=True, max_replicas=2, target_concurrency=1))
