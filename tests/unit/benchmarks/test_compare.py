"""Ratios, bars and winners: what the figures are made into."""

import pytest

from benchmarks.bare_triton import DIGITS_SERVED, Setting
from benchmarks.compare import Bar, Line, Spread, cpu_by_role, summarise, verdicts
from benchmarks.load import Measured
from benchmarks.mesh import count_errors
from benchmarks.rounds import Row, Tried, winners
from benchmarks.run import told_of


def row(
    target: str, number: int, rate: float, *, callers: int = 256, p50: float = 1.0, p99: float = 3.0, cpu: float = 0.0
) -> Row:
    baseline = "bare-json" if target in {"bare-json", "rest"} else "bare"
    measured = Measured(rate, p50, 2.0, p99, 1000, 0, {"worker": cpu} if cpu else {})
    return Row(target, target.title(), baseline, callers, number, measured)


ROWS = [
    row("bare", 1, 100.0),
    row("batcher", 1, 150.0, p50=1.5, p99=6.0),
    row("bare", 2, 50.0),
    row("batcher", 2, 60.0, p50=1.2, p99=3.0),
    row("bare", 3, 200.0),
    row("batcher", 3, 180.0, p50=0.8, p99=1.5),
]


def test_a_target_is_compared_within_its_round_and_shows_its_spread() -> None:
    bare, batcher = summarise(ROWS)
    assert (bare.requests_per_s, bare.throughput, bare.is_baseline) == (100.0, Spread(1.0, 1.0, 1.0), True)
    assert batcher.requests_per_s == 150.0
    assert batcher.throughput == Spread(1.2, 0.9, 1.5)
    assert batcher.p99 == Spread(1.0, 0.5, 2.0)
    assert batcher.p50_over_ms.median == pytest.approx(0.2)
    assert str(batcher.throughput) == "1.20 (0.90–1.50)"


def test_each_protocol_has_its_own_baseline() -> None:
    rows = [row("bare", 1, 100.0), row("bare-json", 1, 10.0), row("rest", 1, 8.0)]
    assert {line.target: line.throughput.median for line in summarise(rows)} == {
        "bare": 1.0, "bare-json": 1.0, "rest": 0.8
    }  # fmt: skip


def test_lines_come_by_load_and_within_it_as_they_were_measured() -> None:
    rows = [row(target, 1, 1.0, callers=callers) for callers in (64, 1) for target in ("bare", "batcher")]
    assert [(line.callers, line.target) for line in summarise(rows)] == [
        (1, "bare"), (1, "batcher"), (64, "bare"), (64, "batcher")
    ]  # fmt: skip


def line(throughput: float = 1.0, p99: float = 1.0, p50_over_ms: float = 0.0) -> Line:
    spreads = [Spread(figure, 0.0, 9.0) for figure in (throughput, p99, p50_over_ms)]
    return Line("batcher", "batcher alone", False, 256, 1.0, 1.0, 1.0, 1.0, *spreads)


@pytest.mark.parametrize(
    ("what", "bound", "at_bound", "beyond"),
    [
        ("throughput", 1.3, line(throughput=1.3), line(throughput=1.29)),
        ("p99", 1.0, line(p99=1.0), line(p99=1.01)),
        ("p50", 0.4, line(p50_over_ms=0.4), line(p50_over_ms=0.41)),
    ],
)
def test_a_bar_is_met_by_the_median_at_its_bound(what: str, bound: float, at_bound: Line, beyond: Line) -> None:
    bar = Bar("batcher", 256, what, bound)
    assert [verdict.met for verdict in verdicts([bar], [at_bound])] == [True]
    assert [verdict.met for verdict in verdicts([bar], [beyond])] == [False]


def test_a_verdict_says_what_was_asked_for() -> None:
    (verdict,) = verdicts([Bar("batcher", 256, "throughput", 0.7, 1.2)], [line(throughput=0.5)])
    assert str(verdict) == (
        "short: batcher alone at 256 callers: 0.50 (0.00–9.00), at least 0.7 × bare Triton's throughput (aim 1.2)"
    )


def test_what_was_not_measured_is_not_judged() -> None:
    assert verdicts([Bar("batcher", 8, "p99", 1.0), Bar("gateway", 256, "p99", 1.0)], [line()]) == []


def test_cpu_is_the_median_of_the_rounds_by_what_spent_it() -> None:
    rows = [row("bare", number, 1.0, cpu=cpu) for number, cpu in enumerate((3.0, 5.0, 40.0))]
    assert cpu_by_role(rows) == {("bare", 256): {"worker": 5.0}}


def test_the_best_setting_is_chosen_for_each_load() -> None:
    none, some = Setting(), Setting(64, 500, (32, 64))
    tried = [Tried(none, 1, 10.0), Tried(some, 1, 5.0), Tried(none, 256, 10.0), Tried(some, 256, 50.0)]
    assert winners(tried) == {1: none, 256: some}


def test_settings_are_distinct_in_name_and_read_as_triton_writes_them() -> None:
    one = Setting(64, 500, (32, 64), instances=2)
    config = one.config(DIGITS_SERVED)
    assert one.model_name(DIGITS_SERVED) == "digits-b64-d500-p32-p64-i2"
    assert "dynamic_batching { max_queue_delay_microseconds: 500 preferred_batch_size: [ 32, 64 ] }" in config
    assert "count: 2" in config
    assert "dynamic_batching" not in Setting().config(DIGITS_SERVED)
    assert "dims: [ -1, 64 ]" in Setting().config(DIGITS_SERVED)


def test_errors_are_summed_and_hang_ups_left_out() -> None:
    page = (
        "# TYPE model_errors counter\n"
        'model_errors_total{model="digits",version="v1.0.0",error_type="QUEUE_FULL"} 3\n'
        'model_errors_total{model="digits",version="",error_type="MODEL_NOT_SERVED"} 2\n'
        'model_errors_total{model="digits",version="",error_type="CALLER_CANCELLED"} 40\n'
        "# TYPE model_requests counter\n"
        'model_requests_total{model="digits"} 100\n'
    )
    assert count_errors(page) == {"QUEUE_FULL": 3, "MODEL_NOT_SERVED": 2}
    assert count_errors("") == {}


def test_a_failed_run_tells_what_the_batcher_counted_meanwhile() -> None:
    assert told_of({"QUEUE_FULL": 3.0}, {"QUEUE_FULL": 5.0, "DEADLINE": 1.0}) == (
        "the batcher counts failed requests: 2 of QUEUE_FULL, 1 of DEADLINE"
    )
    assert told_of({"QUEUE_FULL": 3.0}, {"QUEUE_FULL": 3.0}) == "the batcher counts failed requests: none"
