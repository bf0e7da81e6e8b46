"""The places of a version that was loaded anew begin at once, whatever was known of them."""

from datetime import UTC, datetime

from services.batcher.domain.conduct import EjectionRules
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import Placement
from services.batcher.engines.servers import Servers
from services.common.clock import LoopClock
from tests.support.batcher_engine_fakes import Fleet, backend, served


def test_no_rest_no_ejection_and_no_slow_start_is_left() -> None:
    options = EngineOptions()
    servers = Servers(
        clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)),
        open_client=Fleet("a:1", "b:1"),
        options=options,
        on_up=lambda _: None,
        on_silent=lambda _: None,
    )
    placement = Placement(servers=servers, options=options)
    placement.adopt(served(backend("a:1"), backend("b:1")), [], 0.0)
    first, second = placement.places
    first.departed(1, 0.0)
    for now_s in (0.0, 1.0, 2.0):
        placement.failed(first, BackendFailure(FailureKind.MISSING, "gone"), sent_s=now_s, now_s=now_s)
    first.conduct.eject(2.0, "it failed", EjectionRules())
    assert not first.usable(2.01)
    placement.adopt(served(), [first], 2.0)
    assert placement.adopt(served(backend("a:1"), backend("b:1")), [first], 2.01, loaded=True)
    kept, new = placement.places
    assert kept is first, "it still has its batch"
    assert new is not second
    assert kept.usable(2.01)
    assert [view.state for view in placement.views(2.01)] == ["up", "up"]
    assert not kept.conduct.ejected
