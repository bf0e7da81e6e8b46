"""What a scrape says of a version's backends."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.servers import Servers
from services.batcher.telemetry.backend_families import backend_metrics
from services.batcher.telemetry.labels import LabelSets
from services.common.clock import SystemClock
from tests.support.batcher_engine_fakes import Fleet, backend, served


class Families(Collector):
    def __init__(self, placement: Placement, now_s: float) -> None:
        self._collect = backend_metrics(lambda: {("m", "v1.0.0"): placement}, lambda: now_s, LabelSets())

    def collect(self) -> list[Metric]:
        return list(self._collect())


def test_backends_are_counted_by_state_and_ejections_for_good() -> None:
    options = EngineOptions()
    servers = Servers(
        clock=SystemClock(), open_client=Fleet(), options=options, on_up=lambda _: None, on_silent=lambda _: None
    )
    placement = Placement(servers=servers, options=options)
    three = [backend(f"{name}:1") for name in "abc"]
    placement.adopt(served(*three), [], -100.0)
    bad, down, _ = placement.places
    for _ in range(5):
        placement.failed(bad, BackendFailure(FailureKind.MODEL, "no"), sent_s=1.0, now_s=1.0)
    down.server.fell(1.0)

    def scraped() -> dict[str, str]:
        registry = CollectorRegistry()
        registry.register(Families(placement, 2.0))
        lines = generate_latest(registry).decode().splitlines()
        return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))

    labels = 'model="m",version="v1.0.0"'
    assert scraped() == {
        f'model_backends{{model="m",state="{state}",version="v1.0.0"}}': count
        for state, count in {
            "up": "1.0",
            "slow_start": "0.0",
            "ejected": "1.0",
            "resting": "0.0",
            "down": "1.0",
        }.items()
    } | {f"model_backend_ejections_total{{{labels}}}": "1.0"}
    placement.adopt(served(three[2]), [], 2.0)
    assert scraped()[f"model_backend_ejections_total{{{labels}}}"] == "1.0"
