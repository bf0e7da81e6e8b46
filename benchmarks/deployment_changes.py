"""Whether anybody notices that deployments change: `python -m benchmarks.deployment_changes [--requests 100000]`.

A mesh of its own with several model servers answers digits while its deployment goes over to another version and back,
is scaled up and down, and while a model server or the deployer is killed, one after the other, without pause. Callers
in processes of their own, each with its next request as soon as the last is answered, check every answer against what
its version says of that instance. Printed is what failed, by what was under way.

Then callers ask at a steady rate, of an otherwise idle mesh and while other models load, in turns: how much of the
latency of one model is another's load?
"""

import argparse
import asyncio
import multiprocessing
import os
import signal
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.synchronize import Event
from pathlib import Path

import grpc
import numpy as np
import orjson
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc, deployment_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from rich.console import Console

from benchmarks.mesh import BenchMesh, bench_mesh
from benchmarks.open_loop import FIRST_IN_LINE, first_in_line
from benchmarks.payloads import MODEL, VERSION
from benchmarks.report import new_table
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
OTHER = "v1.1.0"
ARTIFACT = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
_SAMPLES = ROOT / ".build" / "digits" / "samples.json"
_TIMEOUT_S = 30.0
_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.05
_SETTLE_S = 0.3


@dataclass
class Count:
    """What one process of callers saw."""

    right: Counter[str] = field(default_factory=Counter)
    """Right answers, by version."""
    wrong: list[tuple[float, str]] = field(default_factory=list)
    """When an answer was wrong or none, and why."""


def call_without_pause(gateway: str, callers: int, over: Event, counts: "multiprocessing.Queue[object]") -> None:
    """A process of callers; puts its count at the end."""
    counts.put(asyncio.run(_callers(gateway, callers, over)))


async def _callers(gateway: str, callers: int, over: Event) -> Count:
    count, sample = Count(), orjson.loads(_SAMPLES.read_bytes())[0]
    request = _request(sample["instance"]["X"])
    async with open_channel(gateway) as channel:
        predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict

        async def caller() -> None:
            while not over.is_set():
                try:
                    answer = await predict(request, metadata=[("x-model-name", MODEL)], timeout=_TIMEOUT_S)
                except MeshError as failure:
                    count.wrong.append((CLOCK.monotonic(), str(failure)))
                    continue
                label = answer.predictions[0].output.int64_value
                if label == sample["expected"][answer.model_version]:
                    count.right[answer.model_version] += 1
                else:
                    count.wrong.append((CLOCK.monotonic(), f"{answer.model_version} says {label}"))

        await asyncio.gather(*(caller() for _ in range(callers)))
    return count


def _request(pixels: Sequence[float]) -> prediction_pb2.PredictRequest:
    feature = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=pixels))
    return prediction_pb2.PredictRequest(model_name=MODEL, instances=[instance_pb2.Instance(features={"X": feature})])


class Changes:
    """What is done to the deployment, and what was under way when."""

    def __init__(self, mesh: BenchMesh, channel: grpc.aio.Channel, name: str, tritons: int) -> None:
        self._mesh = mesh
        self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)
        self._name = name
        self._tritons = tritons
        self._killed = 0
        self.log: list[tuple[float, str]] = []
        """When each began."""
        self.took_s: dict[str, list[float]] = {}

    async def once(self) -> None:
        """Every change, one after the other."""
        steps: tuple[tuple[str, Callable[[], Awaitable[None]]], ...] = (
            (f"update to {OTHER}", lambda: self._update(version=OTHER)),
            ("scale to 2", lambda: self._scale(2)),
            # Alone it would be missed, until it is started again.
            *([("kill a model server", self._kill_triton)] if self._tritons > 1 else []),
            ("kill the deployer", lambda: self._kill("deployer")),
            ("scale to 1", lambda: self._scale(1)),
            (f"update to {VERSION}", lambda: self._update(version=VERSION)),
        )
        for what, change in steps:
            began_s = CLOCK.monotonic()
            self.log.append((began_s, what))
            await change()
            self.took_s.setdefault(what, []).append(CLOCK.monotonic() - began_s)
            await asyncio.sleep(_SETTLE_S)

    def under_way(self, at_s: float) -> str:
        """What had begun last."""
        return next((what for began_s, what in reversed(self.log) if began_s <= at_s), "nothing")

    async def _update(self, *, version: str) -> None:
        wish = deployment_pb2.Deployment(model_name=MODEL, deployment_name=self._name, version=version)
        await self._deployer.UpdateDeployment(
            deployer_service_pb2.UpdateDeploymentRequest(deployment=wish), timeout=_TIMEOUT_S
        )

        def done(now: deployment_pb2.Deployment) -> bool:
            return now.served_version == version and any(
                one.type == "Routed" and one.status == "True" for one in now.conditions
            )

        await self._settles(done)

    async def _scale(self, replicas: int) -> None:
        request = deployer_service_pb2.ScaleDeploymentRequest(
            model_name=MODEL, deployment_name=self._name, replicas=replicas
        )
        await self._deployer.ScaleDeployment(request, timeout=_TIMEOUT_S)
        await self._settles(lambda now: now.ready_replicas >= replicas)

    async def _kill_triton(self) -> None:
        number = self._killed % self._tritons
        self._killed += 1
        await self._kill(f"triton-{number}" if number else "triton")
        await self._settles(lambda now: now.health_status == "healthy")

    async def _kill(self, part: str) -> None:
        pid = self._mesh.pids()[part]
        os.kill(pid, signal.SIGKILL)
        await _until(lambda: _is(self._mesh.pids().get(part, pid) != pid), f"{part} is started again")
        await self._settles(lambda now: now.status == "active")

    async def _settles(self, done: Callable[[deployment_pb2.Deployment], bool]) -> None:
        request = deployer_service_pb2.GetDeploymentRequest(model_name=MODEL, deployment_name=self._name)

        async def settled() -> bool:
            try:
                now = await self._deployer.GetDeployment(request, timeout=_TIMEOUT_S)
            except MeshError as error:
                if error.reason is not Reason.DEPENDENCY_UNAVAILABLE:
                    raise
                return False
            if now.status == "failed":
                raise RuntimeError(f"the deployment failed: {now.error_message}")
            return now.status == "active" and now.observed_generation == now.generation and done(now)

        await _until(settled, "the deployment is as it shall be")


async def _until(done: Callable[[], Awaitable[bool]], what: str) -> None:
    try:
        async with asyncio.timeout(_WITHIN_S):
            while not await done():  # noqa: ASYNC110 - the state of another process
                await asyncio.sleep(_LOOK_EVERY_S)
    except TimeoutError:
        raise RuntimeError(f"{_WITHIN_S:.0f} s were not enough until {what}") from None


async def _is(value: bool) -> bool:
    return value


async def change_under_load(
    mesh: BenchMesh, console: Console, *, requests: int, processes: int, callers: int, tritons: int
) -> int:
    """Changes until so many requests were answered; how many failed."""
    spawn = multiprocessing.get_context("spawn")
    over, queue = spawn.Event(), spawn.Queue()
    workers = [
        spawn.Process(target=call_without_pause, args=(mesh.gateway, callers, over, queue), name=f"callers {number}")
        for number in range(processes)
    ]
    async with open_channel(f"127.0.0.1:{mesh.ports['deployer']}") as channel:
        deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)
        listed = await deployer.ListDeployments(deployer_service_pb2.ListDeploymentsRequest(model_name=MODEL))
        by_version = {one.version: one.deployment_name for one in listed.deployments}
        if OTHER in by_version:
            gone = deployer_service_pb2.DeleteDeploymentRequest(model_name=MODEL, deployment_name=by_version[OTHER])
            await deployer.DeleteDeployment(gone)
            await _until(lambda: _gone(deployer, by_version[OTHER]), f"{OTHER} is free")
        changes = Changes(mesh, channel, by_version[VERSION], tritons)
        for worker in workers:
            worker.start()
        before = await mesh.requests()
        with console.status("changing the deployment under load") as status:
            while (done := await mesh.requests() - before) < requests:
                status.update(f"changing the deployment under load: {done:,.0f} of {requests:,} requests")
                await changes.once()
        over.set()
        counts = [await asyncio.to_thread(queue.get, timeout=2 * _TIMEOUT_S) for _ in workers]
    for worker in workers:
        worker.join(_TIMEOUT_S)
    return report_changes(console, [count for count in counts if isinstance(count, Count)], changes)


async def _gone(deployer: "deployer_service_pb2_grpc.DeployerServiceAsyncStub", name: str) -> bool:
    listed = await deployer.ListDeployments(deployer_service_pb2.ListDeploymentsRequest(model_name=MODEL))
    return all(one.deployment_name != name for one in listed.deployments)


def report_changes(console: Console, counts: Sequence[Count], changes: Changes) -> int:
    """Prints what came of it; how many failed."""
    right = sum((count.right for count in counts), Counter[str]())
    wrong = [one for count in counts for one in count.wrong]
    table = new_table("changes under load", "change", "times", "took, median", "failed requests", text=("change",))
    by_change = Counter(changes.under_way(at_s) for at_s, _ in wrong)
    for what, took_s in changes.took_s.items():
        table.add_row(what, str(len(took_s)), f"{statistics.median(took_s):.2f} s", str(by_change[what]))
    console.print(table)
    console.print(
        f"{right.total() + len(wrong):,} requests; right answers by version: {dict(right)}; failed: {len(wrong)}"
    )
    for words, times in Counter(words for _, words in wrong).most_common(3):
        console.print(f"  {times} × {words}", markup=False)
    return len(wrong)


async def load_beside(mesh: BenchMesh, console: Console, *, rate: float, seconds: float, rounds: int) -> None:
    """Latency at a steady rate, alone and while other models load, in turns."""
    if first_in_line():
        console.print(FIRST_IN_LINE, style="dim")
    alone: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    beside: list[np.ndarray[tuple[int], np.dtype[np.float64]]] = []
    loads = 0
    async with (
        open_channel(mesh.gateway) as channel,
        open_channel(f"127.0.0.1:{mesh.ports['deployer']}") as deploying,
        open_channel(f"127.0.0.1:{mesh.ports['registry']}") as registering,
    ):
        neighbour = Neighbour(deploying, registering)
        await neighbour.register()
        await _paced(channel, rate, 2.0)
        for number in range(rounds):
            console.print(f"round {number + 1} of {rounds}: alone, then beside loads", style="dim")
            alone.append(await _paced(channel, rate, seconds))
            over = asyncio.Event()
            loading = asyncio.create_task(neighbour.load_until(over), name="loads of another model")
            beside.append(await _paced(channel, rate, seconds))
            over.set()
            loads += await loading
    table = new_table(
        "at a steady rate", "model servers are", "requests", "p50 ms", "p95 ms", "p99 ms", text=("model servers are",)
    )
    for words, found in (("idle otherwise", np.concatenate(alone)), ("loading another model", np.concatenate(beside))):
        table.add_row(words, f"{len(found):,}", *(f"{np.percentile(found, q):.2f}" for q in (50, 95, 99)))
    console.print(table)
    ratios = sorted(
        float(np.percentile(two, 99) / np.percentile(one, 99)) for one, two in zip(alone, beside, strict=True)
    )
    whole = float(np.percentile(np.concatenate(beside), 99) / np.percentile(np.concatenate(alone), 99))
    console.print(
        f"p99 while another model loads: × {whole:.2f} ({ratios[0]:.2f}–{ratios[-1]:.2f} by round; {loads} loads in "
        f"{rounds * seconds:.0f} s, at {rate:.0f} requests/s)"
    )


async def _paced(
    channel: grpc.aio.Channel, rate: float, seconds: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Milliseconds of each request, which begin at a steady rate whatever became of those before."""
    request = _request(orjson.loads(_SAMPLES.read_bytes())[0]["instance"]["X"])
    predict = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict
    took_ms: list[float] = []

    async def one(due_s: float) -> None:
        await asyncio.sleep(max(0.0, due_s - CLOCK.monotonic()))
        began_s = CLOCK.monotonic()
        await predict(request, metadata=[("x-model-name", MODEL)], timeout=_TIMEOUT_S)
        took_ms.append((CLOCK.monotonic() - began_s) * 1000)

    start_s = CLOCK.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            group.create_task(one(start_s + number / rate), name="a request")
    return np.array(took_ms)


class Neighbour:
    """Another model that is loaded again and again."""

    NAME = "neighbour"

    def __init__(self, deploying: grpc.aio.Channel, registering: grpc.aio.Channel) -> None:
        self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(deploying)
        self._registry = registry_service_pb2_grpc.RegistryServiceStub(registering)

    async def register(self) -> None:
        """Registers it."""
        request = registry_service_pb2.CreateModelRequest(
            name=self.NAME, version=VERSION, framework="onnx", artifact_uri=ARTIFACT.as_uri()
        )
        await self._registry.CreateModel(request, timeout=_TIMEOUT_S)

    async def load_until(self, over: asyncio.Event) -> int:
        """Deploys it, then loads it anew as soon as it was loaded; how often."""
        create = deployer_service_pb2.CreateDeploymentRequest(
            model_name=self.NAME, version=VERSION, deployment_name="main"
        )
        try:
            await self._deployer.CreateDeployment(create, timeout=_TIMEOUT_S)
        except MeshError as error:
            if error.reason is not Reason.DEPLOYMENT_EXISTS:
                raise
        loads = 0
        wait = deployer_service_pb2.WaitDeploymentRequest(model_name=self.NAME, deployment_name="main", timeout_s=20)
        again = deployer_service_pb2.RestartDeploymentRequest(model_name=self.NAME, deployment_name="main")
        while not over.is_set():
            await self._deployer.RestartDeployment(again, timeout=_TIMEOUT_S)
            await self._deployer.WaitDeployment(wait, timeout=_TIMEOUT_S)
            loads += 1
        return loads


async def main() -> int:
    """The exit status: 1 where a request failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--callers", type=int, default=16, help="of each process")
    parser.add_argument("--tritons", type=int, default=2, help="model servers; with one none is killed")
    parser.add_argument("--rate", type=float, default=200.0, help="requests/s beside loads")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn beside loads")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=120)
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        console.print("Starting a mesh of its own")
        async with bench_mesh(Path(folder), clock=CLOCK, tritons=options.tritons) as mesh:
            failed = 0
            if options.requests:
                failed = await change_under_load(
                    mesh,
                    console,
                    requests=options.requests,
                    processes=options.processes,
                    callers=options.callers,
                    tritons=options.tritons,
                )
            if options.rounds:
                await load_beside(mesh, console, rate=options.rate, seconds=options.seconds, rounds=options.rounds)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
