"""What a deployer hears of demand, also one that was away."""

import asyncio
from collections.abc import Sequence

import pytest
from infermesh.deployer.v1 import activation_service_pb2 as pb

from services.batcher.adapters.demand import DemandReports
from services.batcher.domain.demand import COUNT_MAX, Demand
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from tests.support.batcher_cold import ScriptedDeployer, deploying
from tests.support.clock import FakeClock
from tests.support.waiting import eventually

ONE = Demand("m", "v1.0.0", requests=3, rows=30, in_flight=1, queued=2, waited_max_s=0.25)


class Taking:
    """What came, window by window."""

    def __init__(self, *windows: Sequence[Demand]) -> None:
        self.windows = list(windows)

    def __call__(self) -> Sequence[Demand]:
        """The next window."""
        return self.windows.pop(0) if self.windows else ()


async def told(reports: DemandReports, clock: FakeClock, *, times: int = 1) -> None:
    for _ in range(times):
        clock.advance(2.0)
        await reports.report()


async def test_each_version_is_told_and_silence_too() -> None:
    deployer, clock = ScriptedDeployer(), FakeClock()
    async with deploying(deployer) as address, open_channel(address) as channel:
        reports = DemandReports(channel, batcher_id="b-0", take=Taking([ONE]), clock=clock, period_s=2.0)
        reports.latencies = lambda keys: dict.fromkeys(keys, 7.5)
        await told(reports, clock, times=2)
    first, second = deployer.reports
    assert (first.batcher_id, first.window_s) == ("b-0", 2.0)
    assert list(first.demands) == [
        pb.VersionDemand(
            model_name="m",
            version="v1.0.0",
            requests=3,
            rows=30,
            in_flight=1,
            queued=2,
            queue_wait_max_ms=250.0,
            latency_p95_ms=7.5,
        )
    ]
    assert (second.window_s, list(second.demands)) == (2.0, [])


async def test_windows_that_could_not_be_told_are_told_later_as_one(caplog: pytest.LogCaptureFixture) -> None:
    deployer, clock = ScriptedDeployer(), FakeClock()
    deployer.outcome = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "not now")
    many = Demand("m", "v2.0.0", requests=COUNT_MAX, rows=COUNT_MAX)
    async with deploying(deployer) as address, open_channel(address) as channel:
        take = Taking([ONE], [many], [many], [Demand("m", "v1.0.0", requests=1, rows=2)])
        reports = DemandReports(channel, batcher_id="b-0", take=take, clock=clock, period_s=2.0)
        await told(reports, clock, times=3)
        deployer.outcome = None
        await told(reports, clock, times=2)
    (report, empty) = deployer.reports
    assert report.window_s == 8.0
    by_version = {one.version: one for one in report.demands}
    assert (by_version["v1.0.0"].requests, by_version["v1.0.0"].rows) == (4, 32)
    assert (by_version["v1.0.0"].in_flight, by_version["v1.0.0"].queue_wait_max_ms) == (0, 250.0)
    assert by_version["v2.0.0"].requests == COUNT_MAX
    assert list(empty.demands) == []
    assert len([one for one in caplog.records if "deployer" in one.getMessage()]) == 1, "it is said once"


async def test_a_task_reports_every_period() -> None:
    deployer, clock = ScriptedDeployer(), FakeClock()
    async with deploying(deployer) as address, open_channel(address) as channel:
        reports = DemandReports(channel, batcher_id="b-0", take=Taking(), clock=clock, period_s=5.0)
        task = asyncio.create_task(reports.run())
        await asyncio.sleep(0)
        clock.advance(4.0)
        await asyncio.sleep(0)
        assert deployer.reports == []
        clock.advance(1.0)
        await eventually(lambda: deployer.reports, what="it reports")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [one.window_s for one in deployer.reports] == [5.0]
