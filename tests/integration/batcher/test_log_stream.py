"""The prediction log against monitors that die, come back, lose what they said, or are never there."""

import asyncio
from pathlib import Path
from typing import Any

from services.supervisor.ports import free_ports
from tests.support.batcher_faces_calls import asking, digits_request, events, scraped
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0


def logged_ids(monitor: FakeMonitor) -> list[str]:
    """The ids of all requests that the monitor counted, as often as it counted them."""
    return [request_id for group in monitor.groups() for request_id in group.request_ids]


async def test_every_request_is_counted_once_over_a_monitor_that_comes_and_goes(tmp_path: Path) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    [monitor_port] = free_ports(1)
    asked = 0

    async def ask(stub: Any, count: int) -> None:
        nonlocal asked
        for _ in range(count):
            asked += 1
            await stub.Predict(digits_request(request_id=f"r{asked}"), timeout=TIMEOUT_S)

    async with serving(router=router) as router_address:
        part = batcher_part(tmp_path, router=router_address, monitor=f"127.0.0.1:{monitor_port}")
        async with running(part), asking(part) as stub:
            await ask(stub, 20)
            for life in range(3):
                monitor.drop = True
                async with serving(monitor=monitor, port=monitor_port):
                    await ask(stub, 20)
                    await eventually(lambda: len(set(logged_ids(monitor))) == asked, what=f"all in life {life}")
                await ask(stub, 20)
            async with serving(monitor=monitor, port=monitor_port):
                await eventually(lambda: len(logged_ids(monitor)) == asked, what="the rest")
                await eventually(lambda: _held(part), what="nothing is held any more")
    assert sorted(logged_ids(monitor)) == sorted(f"r{number}" for number in range(1, asked + 1))
    assert monitor.received > len(monitor.chunks), "an acknowledgement was lost, so something was sent again"
    classes = [group.predictions_by_class["1"] for group in monitor.groups()]
    assert sum(classes) == asked
    assert {chunk.dropped_total for chunk in monitor.chunks.values()} == {0}
    assert events(part, level="error") == []


async def _held(part: Any) -> bool:
    return (await scraped(part))["batcher_prediction_log_held"] == 0


async def test_a_batcher_that_stops_hands_over_its_last_requests(tmp_path: Path) -> None:
    """Also those of a life so short that the monitor has never acknowledged anything yet."""
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(tmp_path, router=neighbours, monitor=neighbours, settings={"log_flush_ms": 10_000})
        async with running(part), asking(part) as stub:
            for place in range(3):
                await stub.Predict(digits_request(request_id=f"r{place}"), timeout=TIMEOUT_S)
            assert not monitor.chunks
        assert logged_ids(monitor) == ["r0", "r1", "r2"]
    assert events(part, level="error") == []


async def test_a_monitor_that_is_away_costs_few_chunks_and_no_request(tmp_path: Path) -> None:
    router, monitor = FakeRouter(full_table(served_model("v1.0.0"))), FakeMonitor()
    [monitor_port] = free_ports(1)
    async with serving(router=router) as router_address:
        part = batcher_part(
            tmp_path,
            router=router_address,
            monitor=f"127.0.0.1:{monitor_port}",
            settings={"log_rows_max": 300, "log_flush_ms": 1},
        )
        async with running(part), asking(part) as stub:
            for _ in range(10):
                answers = [stub.Predict(digits_request(), timeout=TIMEOUT_S) for _ in range(40)]
                assert len(await asyncio.gather(*answers)) == 40
            found = await scraped(part)
            assert found["batcher_prediction_log_held"] == 300
            assert found["batcher_prediction_log_dropped_total"] == 100
            assert found["model_requests_total"] == 400
            async with serving(monitor=monitor, port=monitor_port):
                await eventually(lambda: len(logged_ids(monitor)) == 300, what="what was held is counted")
                await stub.Predict(digits_request(request_id="afterwards"), timeout=TIMEOUT_S)
                await eventually(lambda: "afterwards" in logged_ids(monitor))
    assert len(monitor.chunks) < 20
    assert max(chunk.dropped_total for chunk in monitor.chunks.values()) == 100
    # Classes are counts of what was predicted, not of what found room in the log.
    assert sum(group.predictions_by_class["1"] for group in monitor.groups()) == 401
