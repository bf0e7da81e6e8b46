"""How long the first request to a sleeping model takes: `python -m benchmarks.cold_start [--times 20] [--callers 100]`.

A mesh of its own deploys digits so that it may sleep. Again and again it is let fall asleep, until Triton has let go of
it, and is then asked by one caller, and by many at once. Printed is what the caller waits, what of it is Triton's load
and the trial prediction, and what the rest is: noticing, publishing, telling router and batchers.
"""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
import httpx
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from rich.console import Console
from rich.progress import track

from benchmarks.mesh import BenchMesh, bench_mesh
from benchmarks.report import new_table
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
NAME, VERSION, DEPLOYMENT = "sleepy", "v1.0.0", "main"
ARTIFACT = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
_IDLE_S = 1
_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05


@dataclass(frozen=True, slots=True)
class Start:
    """One cold start."""

    waited_ms: Sequence[float]
    """What each caller waited."""
    load_ms: float
    """From packaging to the trial prediction's answer, as the deployer says."""
    failed: int


class Sleeper:
    """A deployment of digits that sleeps when nobody asks."""

    def __init__(self, mesh: BenchMesh, deployer: grpc.aio.Channel) -> None:
        self._mesh = mesh
        self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(deployer)
        self._client = httpx.AsyncClient(base_url=f"http://{mesh.gateway}", timeout=_WITHIN_S, trust_env=False)
        self._triton = httpx.AsyncClient(base_url=f"http://127.0.0.1:{mesh.ports['triton_http']}", trust_env=False)

    async def deploy(self) -> None:
        """Registers and deploys it, and waits until it answers."""
        async with open_channel(f"127.0.0.1:{self._mesh.ports['registry']}") as channel:
            registry = registry_service_pb2_grpc.RegistryServiceStub(channel)
            request = registry_service_pb2.CreateModelRequest(
                name=NAME, version=VERSION, artifact_uri=ARTIFACT.as_uri()
            )
            await registry.CreateModel(request)
        scaling = deployment_pb2.Autoscaling(enabled=True, min_replicas=0, max_replicas=1, idle_timeout_s=_IDLE_S)
        await self._deployer.CreateDeployment(
            deployer_service_pb2.CreateDeploymentRequest(
                model_name=NAME, version=VERSION, deployment_name=DEPLOYMENT, autoscaling=scaling
            )
        )

    async def asleep(self) -> None:
        """Returns once Triton has let go of it."""
        async with asyncio.timeout(_WITHIN_S):
            while not await self._is_unloaded():  # noqa: ASYNC110 - the state of another process
                await asyncio.sleep(_LOOK_EVERY_S)

    async def start(self, callers: int) -> Start:
        """Asks it, by so many callers at once."""
        waits = await asyncio.gather(*(self._ask() for _ in range(callers)))
        found = await self._found()
        return Start([wait for wait, _ in waits], found.load_time_ms, sum(not answered for _, answered in waits))

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()
        await self._triton.aclose()

    async def _ask(self) -> tuple[float, bool]:
        began_s = CLOCK.monotonic()
        answer = await self._client.post(f"/v1/models/{NAME}/predict", json={"instances": [{"X": [0.0] * 64}]})
        return (CLOCK.monotonic() - began_s) * 1000, answer.status_code == 200

    async def _found(self) -> deployment_pb2.Deployment:
        request = deployer_service_pb2.GetDeploymentRequest(model_name=NAME, deployment_name=DEPLOYMENT)
        return await self._deployer.GetDeployment(request)

    async def _is_unloaded(self) -> bool:
        conditions = (await self._found()).conditions
        if not any(one.type == "Asleep" and one.status == "True" for one in conditions):
            return False
        index = (await self._triton.post("/v2/repository/index", json={})).json()
        return not any(one["name"] == f"{NAME}--{VERSION}" and one.get("state") == "READY" for one in index)


def report(starts: Sequence[tuple[int, Start]]) -> int:
    """Prints the table; 1 where a request failed."""
    table = new_table("Cold starts", "callers", "times", "p50 ms", "max ms", "load ms", "rest ms", "failed", text=())
    for callers in sorted({callers for callers, _ in starts}):
        mine = [start for number, start in starts if number == callers]
        waits = [wait for start in mine for wait in start.waited_ms]
        load = statistics.median(start.load_ms for start in mine)
        rest = statistics.median(max(start.waited_ms) - start.load_ms for start in mine)
        figures = (statistics.median(waits), max(waits), load, rest)
        failed = sum(start.failed for start in mine)
        table.add_row(str(callers), str(len(mine)), *(f"{figure:,.0f}" for figure in figures), str(failed))
    Console().print(table)
    return 1 if any(start.failed for _, start in starts) else 0


async def main() -> int:
    """The exit status: 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--times", type=int, default=20, help="cold starts of each kind")
    parser.add_argument("--callers", type=int, default=100, help="how many ask at once, beside one alone")
    options = parser.parse_args()
    starts = []
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        print("Starting a mesh of its own")
        async with (
            bench_mesh(Path(folder), clock=CLOCK) as mesh,
            open_channel(f"127.0.0.1:{mesh.ports['deployer']}") as channel,
        ):
            sleeper = Sleeper(mesh, channel)
            await sleeper.deploy()
            for _ in track(range(options.times), description="starts"):
                for callers in (1, options.callers):
                    await sleeper.asleep()
                    starts.append((callers, await sleeper.start(callers)))
            await sleeper.close()
    return report(starts)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
