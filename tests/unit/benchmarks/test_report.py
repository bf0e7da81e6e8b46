"""Ratios, bars, winners and settings: what the figures are made into."""

import orjson

from benchmarks.bare_triton import Setting
from benchmarks.load import Measured
from benchmarks.mesh import count_errors
from benchmarks.report import Bar, Line, Machine, Ratio, as_json, summarise
from benchmarks.rounds import Row, Tried, winners


def row(target: str, number: int, rate: float, *, callers: int = 256, errors: int = 0) -> Row:
    return Row(target, callers, number, Measured(rate, 1.0, 2.0, 3.0, 1000, errors))


ROWS = [
    row("bare", 1, 100.0),
    row("batcher", 1, 150.0),
    row("bare", 2, 50.0),
    row("batcher", 2, 60.0, errors=2),
    row("bare", 3, 200.0),
    row("batcher", 3, 180.0),
]


def test_a_ratio_compares_within_its_round_and_shows_its_spread() -> None:
    bare, batcher = summarise(ROWS)
    assert (bare.target, bare.requests_per_s, bare.ratio) == ("bare", 100.0, Ratio(1.0, 1.0, 1.0))
    assert (batcher.requests_per_s, batcher.errors) == (150.0, 2)
    assert batcher.ratio == Ratio(1.2, 0.9, 1.5)
    assert str(batcher.ratio) == "1.20 (0.90–1.50)"


def test_lines_come_by_load_and_within_it_as_they_were_measured() -> None:
    rows = [row(target, 1, 1.0, callers=callers) for callers in (64, 1) for target in ("bare", "batcher")]
    assert [(line.callers, line.target) for line in summarise(rows)] == [
        (1, "bare"), (1, "batcher"), (64, "bare"), (64, "batcher")
    ]  # fmt: skip


def test_a_bar_is_passed_by_the_median_and_never_with_errors() -> None:
    def line(median: float, errors: int = 0) -> Line:
        return Line("batcher", 256, 1.0, 1.0, 1.0, 1.0, errors, Ratio(median, 0.5, 2.0))

    bar = Bar("batcher", 256, 1.0)
    assert (bar.verdict([line(1.0)]) or "").startswith("pass: batcher alone, gRPC at 256 callers ≥ 1 × bare Triton")
    assert (bar.verdict([line(0.99)]) or "").startswith("short: ")
    assert (bar.verdict([line(1.5, errors=1)]) or "").startswith("short: ")
    assert Bar("batcher", 8, 1.0).verdict([line(1.0)]) is None


def test_the_best_setting_is_chosen_for_each_load() -> None:
    none, some = Setting(), Setting(64, 500, (32, 64))
    tried = [Tried(none, 1, 10.0), Tried(some, 1, 5.0), Tried(none, 256, 10.0), Tried(some, 256, 50.0)]
    assert winners(tried) == {1: none, 256: some}


def test_settings_are_distinct_in_name_and_read_as_triton_writes_them() -> None:
    one = Setting(64, 500, (32, 64), instances=2)
    assert one.model_name == "digits-b64-d500-p32-p64-i2"
    assert "dynamic_batching { max_queue_delay_microseconds: 500 preferred_batch_size: [ 32, 64 ] }" in one.config()
    assert "count: 2" in one.config()
    assert "dynamic_batching" not in Setting().config()
    assert "dims: [ -1, 64 ]" in Setting().config()


def test_errors_are_summed_and_hang_ups_left_out() -> None:
    page = (
        "# TYPE model_errors counter\n"
        'model_errors_total{model="digits",version="v1.0.0",error_type="QUEUE_FULL"} 3\n'
        'model_errors_total{model="digits",version="",error_type="MODEL_NOT_SERVED"} 2\n'
        'model_errors_total{model="digits",version="",error_type="CALLER_CANCELLED"} 40\n'
        "# TYPE model_requests counter\n"
        'model_requests_total{model="digits"} 100\n'
    )
    assert count_errors(page) == 5
    assert count_errors("") == 0


def test_the_file_holds_everything_that_was_measured() -> None:
    document = orjson.loads(
        as_json(
            command="python -m benchmarks.hot_path",
            moment="2026-01-15T12:00:00+00:00",
            machine=Machine("a CPU", 2, "Linux", 0.1),
            tried=[Tried(Setting(), 256, 10.0)],
            winners={256: Setting()},
            rows=ROWS,
        )
    )
    assert document["bare_triton_best"] == {"256": "no batching, 1 instance"}
    assert len(document["rows"]) == 6
    assert document["lines"][1]["ratio"] == {"median": 1.2, "low": 0.9, "high": 1.5}
    assert document["bars"] == ["short: batcher alone, gRPC at 256 callers ≥ 1 × bare Triton: 1.20 (0.90–1.50)"]
