"""What the parts judge by."""

import math

import numpy as np
import pytest

from benchmarks.compare import Spread, summarise
from benchmarks.load import Measured
from benchmarks.open_loop import Outcome
from benchmarks.parts import adaptive, openloop, rows32, telemetry
from benchmarks.parts.openloop import Shot
from benchmarks.payloads import open_inference
from benchmarks.rounds import Row
from benchmarks.targets import BARE, BATCHER, GATEWAY_GRPC, Target


def measured(rate: float, *, p95: float = 1.0, cpu: float = 10.0) -> Measured:
    return Measured(rate, 1.0, p95, 1.0, 1000, 0, {"batcher, Python": cpu, "h2load": 99.0})


def shot(target: str, number: int, goodput: float, p95_ms: float = 5.0) -> Shot:
    return Shot(
        "gateway", "Poisson", target, target, target == BARE, number, 1000.0, 1.0, p95_ms, 9.0, goodput, 0, 0.1, 0.5
    )


def test_goodput_is_compared_with_bare_tritons_of_the_same_arrivals() -> None:
    shots = [
        shot(GATEWAY_GRPC, 2, 45.0), shot(BARE, 2, 50.0), shot(BARE, 1, 100.0), shot(GATEWAY_GRPC, 1, 100.0)
    ]  # fmt: skip
    bare, gateway = openloop.score(shots)
    assert (bare.is_baseline, bare.goodput_ratio) == (True, Spread(1.0, 1.0, 1.0))
    assert gateway.goodput_ratio == Spread(0.95, 0.9, 1.0)
    assert [verdict.met for verdict in openloop.judge(gateway)] == [True, False]


@pytest.mark.parametrize(("p95_ms", "met"), [(99.0, True), (100.0, False)])
def test_an_open_loop_must_stay_below_its_bound(p95_ms: float, met: bool) -> None:
    (_, gateway) = openloop.score([shot(BARE, 1, 100.0), shot(GATEWAY_GRPC, 1, 99.6, p95_ms)])
    assert [verdict.met for verdict in openloop.judge(gateway)] == [met, True]


def test_a_script_that_lost_requests_says_so() -> None:
    outcome = Outcome(1.0, np.array([0.01, float("nan")]), np.zeros(2))
    target = Target(BATCHER, "host:1", lambda sample: open_inference("m", sample), "batcher", BARE)
    seen = openloop.shot_of(outcome, group="g", process="bursty", target=target, number=1, rate=2.0, perfect_p95_ms=0.5)
    assert (seen.errors, seen.goodput, seen.p95_ms) == (1, 1.0, float("inf"))


@pytest.mark.parametrize(("rate", "met"), [(3126.0, True), (3125.0, False)])
def test_rows_are_judged_at_the_load_that_carries_most(rate: float, met: bool) -> None:
    rows = [
        Row(target, target, BARE, callers, 1, measured(speed))
        for callers, speed in ((8, 1000.0), (32, rate))
        for target in (BARE, GATEWAY_GRPC)
    ]
    verdict = rows32.judge(summarise(rows), GATEWAY_GRPC)
    assert verdict.met is met
    assert "at 32 callers" in verdict.text


def adaptive_rows(on: float, off: float) -> list[Row]:
    rates = {adaptive.MESH_ON: on, adaptive.MESH_OFF: off}
    return [Row(name, name, name, 64, number, measured(rate)) for number in (1, 2, 3) for name, rate in rates.items()]


def adaptive_shots(on_ms: float, off_ms: float) -> list[Shot]:
    times = {adaptive.MESH_ON: on_ms, adaptive.MESH_OFF: off_ms}
    return [shot(name, number, 1.0, p95_ms) for number in (1, 2, 3) for name, p95_ms in times.items()]


def test_batching_must_be_three_times_as_fast_and_no_later() -> None:
    met = [verdict.met for verdict in adaptive.judge(adaptive_rows(300.0, 100.0), adaptive_shots(5.0, 5.0))]
    assert met == [True, True]
    short = [verdict.met for verdict in adaptive.judge(adaptive_rows(299.0, 100.0), adaptive_shots(5.1, 5.0))]
    assert short == [False, False]


def turns(*rates: float, cpu: float = 10.2) -> list[telemetry.Turn]:
    return [
        telemetry.Turn(64, number, {"on": measured(rate, cpu=cpu), "off": measured(100.0)}, measured(200.0))
        for number, rate in enumerate(rates)
    ]


def test_telemetry_may_cost_two_in_a_hundred_by_the_median_of_the_turns() -> None:
    assert telemetry.judge("on", 64, turns(50.0, 98.0, 99.0)).met
    assert not telemetry.judge("on", 64, turns(50.0, 97.9, 99.0)).met
    assert "CPU × 1.02" in telemetry.judge("on", 64, turns(98.0)).text


def test_the_load_generator_is_none_of_the_batchers_cpu() -> None:
    assert telemetry.batcher_us(measured(1.0, cpu=12.5)) == 12.5


def test_a_bare_triton_that_kept_nothing_in_time_is_no_error() -> None:
    bare, batcher = openloop.score([shot(BARE, 1, 0.0), shot(BATCHER, 1, 5.0)])
    assert (bare.goodput_ratio.median, batcher.goodput_ratio.median) == (1.0, math.inf)
