"""What Prometheus is shown, and how a host's processes are told apart."""

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from services.monitor.adapters.host import served_version
from services.monitor.adapters.prometheus import PrometheusBoard
from services.monitor.domain.aggregate import Cells
from services.monitor.engines.live import Live
from services.monitor.ports import ModelUse
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of

NOW_US = int(NOON.timestamp() * 1_000_000)
VERSION = 'deployment="main",model="digits"'


def test_versions_with_traffic_are_shown_and_forgotten() -> None:
    registry = CollectorRegistry()
    board, live, clock = PrometheusBoard(registry, host="local"), Live(), FakeClock()
    cells = Cells()
    cells.add_group(group_of([50_000] * 120, times_us=[NOW_US] * 120), now_us=NOW_US, reason_name=str)
    live.add(cells)
    clock.advance(60)
    board.live(live.figures(clock.now()))
    shown = generate_latest(registry).decode()
    assert f'model_throughput_per_sec{{{VERSION},version="v1.0.0"}} 2.0' in shown
    assert f'model_latency_p95_ms{{{VERSION},version="v1.0.0"}} 50.06' in shown
    clock.advance(60)
    board.live(live.figures(clock.now()))
    assert "model_throughput_per_sec{" not in generate_latest(registry).decode()


def test_models_are_shown_with_the_deployment_that_was_seen() -> None:
    registry = CollectorRegistry()
    board, live = PrometheusBoard(registry, host="local"), Live()
    cells = Cells()
    cells.add_group(group_of([1000], times_us=[NOW_US]), now_us=NOW_US, reason_name=str)
    live.add(cells)
    board.models([ModelUse("digits", "v1.0.0", 0.5, 1000), ModelUse("other", "v2.0.0", 0.0, 2000)])
    board.live(live.figures(NOON))
    board.live([])
    shown = generate_latest(registry).decode()
    assert f'model_cpu_usage{{{VERSION},pod="local",version="v1.0.0"}} 0.5' in shown
    assert 'model_memory_usage_bytes{deployment="",model="other",pod="local",version="v2.0.0"} 2000.0' in shown
    assert "# TYPE model_gpu_utilization gauge" in shown
    assert "model_gpu_utilization{" not in shown


def test_the_log_is_shown() -> None:
    registry = CollectorRegistry()
    board = PrometheusBoard(registry, host="local")
    board.chunk("counted", 120)
    board.chunk("duplicate", 120)
    board.flushed("counted", 0.01)
    board.dropped("batcher-0", 7)
    shown = generate_latest(registry).decode()
    assert 'monitor_log_requests_total{result="counted"} 120.0' in shown
    assert 'monitor_log_chunks_total{result="duplicate"} 1.0' in shown
    assert 'monitor_log_dropped_total{batcher="batcher-0"} 7.0' in shown


def test_alerts_are_counted_by_severity() -> None:
    registry = CollectorRegistry()
    board = PrometheusBoard(registry, host="local")
    board.alerts({"critical": 2})
    shown = generate_latest(registry).decode()
    assert 'monitor_alerts_firing{severity="critical"} 2.0' in shown
    assert 'monitor_alerts_firing{severity="warning"} 0.0' in shown


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/x/python/triton_python_backend_stub", "/data/models/digits--v1.0.0/1/model.py", "prefix", "1"],
         ("digits", "v1.0.0")),
        (["/x/triton_python_backend_stub", "/data/models/a_b-c--v1.2.3-rc.1/1/model.py"], ("a_b-c", "v1.2.3-rc.1")),
        (["/x/triton_python_backend_stub", "/data/models/plain/1/model.py"], None),
        (["/usr/bin/vi", "/data/models/digits--v1.0.0/1/model.py"], None),
        ([], None),
    ],
)  # fmt: skip
def test_a_process_tells_what_it_serves(argv: list[str], expected: tuple[str, str] | None) -> None:
    assert served_version(argv) == expected
