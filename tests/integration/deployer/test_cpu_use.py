"""CPU that models use in a real Triton, seen from the deployer, and what becomes of it."""

import asyncio
import http.server
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from services.common.signals import Signal
from services.deployer.adapters.processes import ProcCopyUsage
from services.deployer.adapters.triton import TritonServer
from services.deployer.adapters.triton_metrics import TritonGpuUsage, gpu_percent
from services.deployer.adapters.triton_processes import TritonProcesses
from services.deployer.domain.deployment import (
    Autoscaling,
    Deployment,
    NewDeployment,
    Progress,
    Resources,
    Status,
    Wish,
)
from services.deployer.domain.plan import Scale, ServerState
from services.deployer.domain.scaling import Load
from services.deployer.domain.trial import trial_inputs
from services.deployer.engines.demand import Demand
from services.deployer.engines.scaling import Scaling
from services.deployer.engines.usage import Usage
from tests.integration.deployer.driving import Triton
from tests.integration.deployer.loaded import NAME, address, loading
from tests.support.clock import NOON, FakeClock
from tests.support.deployer_fakes import DIGITS_SCHEMA, recipe
from tests.support.parts import free_port
from tests.support.scaling_fakes import FakeGpuUsage, ScalingParts


def used_s(copies: list[psutil.Process]) -> float:
    return sum(sum(one.cpu_times()[:2]) for one in copies)


async def burn(server: TritonServer, copies: list[psutil.Process], seconds: float) -> float:
    """Predictions until the copies have used so much CPU time; how much that was."""
    before_s = used_s(copies)
    while (spent_s := used_s(copies) - before_s) < seconds:
        await asyncio.gather(*(server.infer(NAME, trial_inputs(DIGITS_SCHEMA, 256)) for _ in range(4)))
    return spent_s


async def test_cpu_that_is_burned_in_a_copy_is_seen(triton: Triton, tmp_path: Path) -> None:
    """By a clock of the test's, so that it does not matter how long it took."""
    clock = FakeClock()
    usage = ProcCopyUsage({"here": address(triton), "elsewhere": "192.0.2.1:8120"}, clock=clock)
    assert await usage.sample() == {"here": {}}
    async with loading(triton, tmp_path) as server:
        copies = list((TritonProcesses(address(triton)).copies() or {})[NAME])
        # Of copies that are new nothing is known but that they are there.
        assert (await usage.sample())["here"][NAME].copies == 0
        clock.advance(10)
        spent_s = await burn(server, copies, 0.3)
        seen = (await usage.sample())["here"][NAME]
        assert seen.copies == 2
        # The kernel counts in hundredths of a second, for each copy in user and in system time.
        assert abs(seen.cores * 10 - spent_s) <= 0.05
        clock.advance(10)
        idle = (await usage.sample())["here"][NAME]
        assert idle.cores < seen.cores / 2
        await triton.kill()
        assert await usage.sample() == {}


async def test_copies_that_burn_what_they_may_get_another(triton: Triton, tmp_path: Path) -> None:
    """Real predictions in real processes, measured as ever and decided as ever; time alone is played."""
    clock = FakeClock()
    demand = Demand(clock=clock, changed=Signal())
    demand.keep({("digits", "v1.0.0")})
    parts = ScalingParts(demand, clock)
    copies_use = ProcCopyUsage({"triton-0": address(triton)}, clock=clock)
    usage = Usage(copies=copies_use, gpus=FakeGpuUsage(), clock=clock, threads_default=1)
    scaling = Scaling(demand=demand, usage=usage, history=parts.history, forecasts=parts.forecasts, clock=clock)
    wish = Wish(Resources(replicas=2), Autoscaling(enabled=True, max_replicas=4, target_cpu_percent=1))
    progress = Progress(status=Status.ACTIVE, loaded={"triton-0": "f"})
    new = NewDeployment("digits", "v1.0.0", "main", wish)
    deployment = Deployment("id", new, recipe(), wish, progress, 1, NOON, NOON)
    observed = {"triton-0": ServerState(up=True, ready=frozenset({NAME}))}

    def decided() -> object:
        demand.report("batcher-0", 2.0, {("digits", "v1.0.0"): Load(requests_per_s=1)})
        scaling.look([deployment])
        return scaling.step(deployment, observed)

    async with loading(triton, tmp_path) as server:
        copies = list((TritonProcesses(address(triton)).copies() or {})[NAME])
        assert decided() is None
        await usage.measure()
        assert decided() is None
        # A third of a second of CPU in two is 8 % of two cores.
        clock.advance(2)
        await burn(server, copies, 0.3)
        await usage.measure()
        step = decided()
    assert isinstance(step, Scale)
    assert step.replicas == 4
    assert step.why.endswith("% CPU of 1")


GPUS = """\
# HELP nv_gpu_utilization GPU utilization rate [0.0 - 1.0)
# TYPE nv_gpu_utilization gauge
nv_gpu_utilization{gpu_uuid="GPU-1"} 0.5
nv_gpu_utilization{gpu_uuid="GPU-2"} 0.8
# HELP nv_cpu_utilization CPU utilization rate [0.0 - 1.0]
# TYPE nv_cpu_utilization gauge
nv_cpu_utilization 0.9
"""


def test_gpus_are_read_from_a_servers_metrics() -> None:
    assert gpu_percent(GPUS) == pytest.approx(65)
    assert gpu_percent(GPUS.replace("nv_gpu_utilization", "nv_gpu_power_usage")) is None
    assert gpu_percent("") is None
    with pytest.raises(ValueError, match="nonsense"):
        gpu_percent("nv_gpu_utilization nonsense")


@contextmanager
def saying(status: int, body: str) -> Iterator[str]:
    """The address of a server that says so whatever it is asked."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the standard library's
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, name="metrics")
        thread.start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_servers_without_gpus_or_without_an_answer_are_left_out(triton: Triton) -> None:
    with saying(200, GPUS) as busy, saying(500, GPUS) as broken, saying(200, "nv_gpu_utilization x") as odd:
        usage = TritonGpuUsage(
            {
                "busy": busy,
                "broken": broken,
                "odd": odd,
                "real": f"127.0.0.1:{triton.part.ports['triton_metrics']}",
                "away": f"127.0.0.1:{free_port()}",
            }
        )
        found = dict(await usage.sample())
        await usage.close()
    assert found.pop("busy") == pytest.approx(65)
    # This machine may have a GPU.
    assert set(found) <= {"real"}
