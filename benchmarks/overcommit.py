"""More models than memory: `python -m benchmarks.overcommit [--models 1000] [--active 200] [--hot 20] [--seconds 60]`.

A mesh of its own gets a limit of memory into which the hot models fit and not many more. All models are registered,
through the registry's own API, the active ones deployed, without a word of sleeping. Then callers ask, as a Poisson
process: four fifths of the requests are for the hot models, the rest for all other active ones, each by Zipf's law.
What does not fit makes room by itself. Printed are how much was loaded and what that took, how often a version was put
to sleep for another and loaded again, what the first request to it waited, and what a request to a version that is
loaded costs over one to a version that is pinned, in turns, so that what else the machine does meets both. Full size:
`--models 10000 --active 2000 --hot 200 --limit-gb 16`.
"""

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
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
VERSION, DEPLOYMENT = "v1.0.0", "main"
PINNED = tuple(f"pinned-{number}" for number in range(8))
"""As many as hot models that they are compared with."""
ARTIFACT = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
MB = 1e6
HOT_SHARE, SKEW = 0.8, 1.0
MODEL_MB, SERVER_MB = 48, 60
"""What a copy of digits is taken to need, and a Triton itself, where no limit is stated."""
_AT_ONCE = 16
_WITHIN_S = 120.0
_LOOK_EVERY_S = 0.25
_WEIGH_EVERY_S = 2.0
_ACTIVE_WITHIN_S = 3600.0
_PAIRS = 400
BODY = {"instances": [{"X": [0.0] * 64}]}


@dataclass(frozen=True, slots=True)
class Options:
    """The size of it."""

    models: int
    active: int
    hot: int
    seconds: float
    rate: float
    limit_bytes: int
    tritons: int


@dataclass
class Found:
    """What a run came to."""

    registered_s: float = 0.0
    deployed_s: float = 0.0
    hits_ms: list[float] = field(default_factory=list)
    """Of requests to versions that were loaded when they were sent."""
    reloads_ms: list[float] = field(default_factory=list)
    """Of requests to versions that were not."""
    hot: list[bool] = field(default_factory=list)
    """Of each request to a hot model, whether it was loaded."""
    failures: list[str] = field(default_factory=list)
    loaded: list[int] = field(default_factory=list)
    memory_mb: list[float] = field(default_factory=list)
    deployer_cores: float = 0.0
    deployer_idle_cores: float = 0.0
    quiet_ms: tuple[Sequence[float], Sequence[float]] = ((), ())
    """Pinned and hot, in turns, while nothing is loaded."""
    busy_ms: tuple[Sequence[float], Sequence[float]] = ((), ())
    """The same while versions are loaded."""
    evictions: int = 0
    loads: int = 0


def model_name(number: int) -> str:
    """Of a model, counted from 0: the hot ones come first, then the other active ones."""
    return f"small-{number:05d}"


def chosen(chance: random.Random, options: Options) -> int:
    """The model that the next request is for."""
    hot = chance.random() < HOT_SHARE
    first, count = (0, options.hot) if hot else (options.hot, options.active - options.hot)
    weights = [1 / (rank + 1) ** SKEW for rank in range(count)]
    return first + chance.choices(range(count), weights)[0]


class Bench:
    """A mesh under test."""

    def __init__(self, mesh: BenchMesh, options: Options) -> None:
        self._mesh = mesh
        self._options = options
        limits = httpx.Limits(max_connections=512)
        self._client = httpx.AsyncClient(
            base_url=f"http://{mesh.gateway}", timeout=_WITHIN_S, limits=limits, trust_env=False
        )
        purposes = ["triton_http", *(f"triton_http_{place}" for place in range(1, options.tritons))]
        self._tritons = [f"http://127.0.0.1:{mesh.ports[purpose]}" for purpose in purposes]
        self._resident: frozenset[str] = frozenset()
        self.found = Found()

    async def run(self) -> Found:
        """Everything, in order."""
        found = self.found
        async with (
            open_channel(f"127.0.0.1:{self._mesh.ports['registry']}") as registry,
            open_channel(f"127.0.0.1:{self._mesh.ports['deployer']}") as deployer,
        ):
            self._registry = registry_service_pb2_grpc.RegistryServiceStub(registry)
            self._deployer = deployer_service_pb2_grpc.DeployerServiceStub(deployer)
            began_s = CLOCK.monotonic()
            names = [*PINNED, *map(model_name, range(self._options.models))]
            await _all("registered", [self._register(name) for name in names])
            found.registered_s = CLOCK.monotonic() - began_s
            began_s = CLOCK.monotonic()
            for name in PINNED:
                await self._deploy(name, pinned=True)
            # The hot ones last: what was loaded long ago and is not asked for makes room for them.
            for number in track(reversed(range(self._options.active)), "deployed", total=self._options.active):
                await self._deploy(model_name(number))
            weighing = asyncio.create_task(self._weigh(), name="weigh")
            await self._all_active()
            found.deployed_s = CLOCK.monotonic() - began_s
            found.deployer_idle_cores = await self._cores_of_deployer(asyncio.sleep(5))
            # The hot ones are asked for once, so that they are loaded.
            for number in range(self._options.hot):
                await self._predict(model_name(number))
            await self._look()
            found.quiet_ms = await self._turns(_PAIRS)
            before = self._said("falls asleep"), self._said("answers")
            found.deployer_cores = await self._cores_of_deployer(self._under_load())
            found.evictions = self._said("falls asleep") - before[0]
            found.loads = self._said("answers") - before[1]
        weighing.cancel()
        await self._client.aclose()
        return found

    async def _register(self, name: str) -> None:
        request = registry_service_pb2.CreateModelRequest(name=name, version=VERSION, artifact_uri=ARTIFACT.as_uri())
        await self._registry.CreateModel(request)

    async def _deploy(self, name: str, *, pinned: bool = False) -> None:
        request = deployer_service_pb2.CreateDeploymentRequest(
            model_name=name,
            version=VERSION,
            deployment_name=DEPLOYMENT,
            serving=deployment_pb2.ServingOptions(pinned=pinned),
        )
        await self._deployer.CreateDeployment(request)

    async def _all_active(self) -> None:
        """Returns once every deployment has answered. Raises SystemExit where one fails."""
        async with asyncio.timeout(_ACTIVE_WITHIN_S):
            for status in ("pending", "deploying", "failed"):
                request = deployer_service_pb2.ListDeploymentsRequest(status=status, page_size=1)
                while found := (await self._deployer.ListDeployments(request)).deployments:
                    if status == "failed":
                        raise SystemExit(f"{found[0].model_name} failed: {found[0].error_message}")
                    await asyncio.sleep(_LOOK_EVERY_S)

    async def _under_load(self) -> None:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(self._watch(), name="watch")
            comparing = group.create_task(self._compare(), name="compare")
            await self._callers()
            comparing.cancel()
            watching.cancel()

    async def _callers(self) -> None:
        chance, until_s = random.Random(1), CLOCK.monotonic() + self._options.seconds
        async with asyncio.TaskGroup() as group:
            while CLOCK.monotonic() < until_s:
                await CLOCK.sleep(chance.expovariate(self._options.rate))
                group.create_task(self._ask(chosen(chance, self._options)), name="caller")

    async def _ask(self, number: int) -> None:
        name, found = model_name(number), self.found
        resident = name in self._resident
        took_ms = await self._predict(name)
        if took_ms is not None:
            (found.hits_ms if resident else found.reloads_ms).append(took_ms)
        if number < self._options.hot:
            found.hot.append(resident)

    async def _predict(self, name: str) -> float | None:
        began_s = CLOCK.monotonic()
        try:
            answer = await self._client.post(f"/v1/models/{name}/predict", json=BODY)
        except httpx.HTTPError as error:
            self.found.failures.append(f"{name}: {type(error).__name__}")
            return None
        if answer.status_code != 200:
            self.found.failures.append(f"{name}: {answer.status_code} {answer.text[:200]}")
            return None
        return (CLOCK.monotonic() - began_s) * 1000

    async def _turns(self, pairs: int) -> tuple[Sequence[float], Sequence[float]]:
        """Requests to versions that are pinned and to hot ones that are loaded, in turns: of both as many."""
        pinned: list[float] = []
        hot: list[float] = []
        for number in range(pairs):
            place = number % min(len(PINNED), self._options.hot)
            name = model_name(place)
            if name in self._resident:
                pair = [(PINNED[place], pinned), (name, hot)]
                for target, kept in pair if number % 2 else reversed(pair):
                    took_ms = await self._predict(target)
                    if took_ms is not None:
                        kept.append(took_ms)
            else:
                await CLOCK.sleep(0.001)
        return pinned, hot

    async def _compare(self) -> None:
        pinned: list[float] = []
        hot: list[float] = []
        self.found.busy_ms = (pinned, hot)
        while True:
            for kept, new in zip((pinned, hot), await self._turns(2 * len(PINNED)), strict=True):
                kept.extend(new)
            await CLOCK.sleep(1)

    async def _watch(self) -> None:
        while True:
            await self._look()
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _weigh(self) -> None:
        """What the model servers really take, now and then."""
        pids = [pid for name, pid in self._mesh.pids().items() if name.partition("-")[0] == "triton"]
        while True:
            self.found.memory_mb.append(await asyncio.to_thread(shared_mb, pids))
            await asyncio.sleep(_WEIGH_EVERY_S)

    async def _look(self) -> None:
        names: set[str] = set()
        async with httpx.AsyncClient(trust_env=False) as client:
            for address in self._tritons:
                index = (await client.post(f"{address}/v2/repository/index", json={"ready": True})).json()
                names |= {str(one["name"]).partition("--")[0] for one in index}
        self._resident = frozenset(names)
        self.found.loaded.append(len(names))

    async def _cores_of_deployer(self, meanwhile: Awaitable[None]) -> float:
        process = psutil.Process(self._mesh.pids()["deployer"])
        before, began_s = process.cpu_times(), CLOCK.monotonic()
        await meanwhile
        after = process.cpu_times()
        return (after.user + after.system - before.user - before.system) / (CLOCK.monotonic() - began_s)

    def _said(self, what: str) -> int:
        """How often the deployer's log says it."""
        log = self._mesh.state.parent / "logs" / "deployer.log"
        return sum(f'"{what}"' in line for line in log.read_text().splitlines())


def shared_mb(pids: Sequence[int]) -> float:
    """What processes and their children take together, in MB; pages that several map count once."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(psutil.Error):
            root = psutil.Process(pid)
            for process in (root, *root.children(recursive=True)):
                with contextlib.suppress(psutil.Error):
                    total += process.memory_full_info().pss / MB
    return total


async def _all(what: str, work: Sequence[Awaitable[None]]) -> None:
    """Does all, several at once."""
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(job: Awaitable[None]) -> None:
        async with gate:
            await job

    for job in track(asyncio.as_completed([one(job) for job in work]), what, total=len(work)):
        await job


def report(found: Found, options: Options) -> int:
    """Prints it; 1 where a request failed."""
    table = new_table(
        f"{options.active:,} active of {options.models:,} models, {options.hot} hot, "
        f"{options.limit_bytes / MB:,.0f} MB for models",
        "what",
        "figure",
        text=("what",),
    )
    reloads, hits = found.reloads_ms or [0.0], found.hits_ms or [0.0]
    rows: Mapping[str, str] = {
        "registered, s": f"{found.registered_s:,.0f}",
        "deployed, each loaded and tried once, s": f"{found.deployed_s:,.0f}",
        "loaded at once, median": f"{statistics.median(found.loaded):,.0f}",
        "memory of the model servers, largest, MB": f"{max(found.memory_mb):,.0f}",
        "requests": f"{len(found.hits_ms) + len(found.reloads_ms) + len(found.failures):,}",
        "failures": f"{len(found.failures)}",
        "loads / put to sleep for others": f"{found.loads} / {found.evictions}",
        "hot requests that met a loaded version": f"{sum(found.hot) / max(1, len(found.hot)):.1%}",
        "hit p50 / p95, ms": f"{_of(hits, 50):.1f} / {_of(hits, 95):.1f}",
        "reload p50 / p95, ms": f"{_of(reloads, 50):,.0f} / {_of(reloads, 95):,.0f}",
        "hit over pinned, nothing loading, p50 of each, ms": _cost(found.quiet_ms),
        "hit over pinned, under load, p50 of each, ms": _cost(found.busy_ms),
        "cores of the deployer, idle / under load": f"{found.deployer_idle_cores:.2f} / {found.deployer_cores:.2f}",
    }
    for what, figure in rows.items():
        table.add_row(what, figure)
    Console().print(table)
    for failure in found.failures[:10]:
        print(failure)
    return 1 if found.failures else 0


def _of(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1] if len(values) > 1 else values[0]


def _cost(turns: tuple[Sequence[float], Sequence[float]]) -> str:
    pinned, hot = turns
    if not pinned or not hot:
        return "no hot version was loaded"
    before, after = statistics.median(pinned), statistics.median(hot)
    return f"{after - before:+.2f} ({before:.2f} → {after:.2f}, {len(hot)} pairs)"


def parsed() -> Options:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--models", type=int, default=1000, help="registered")
    parser.add_argument("--active", type=int, default=200, help="deployed")
    parser.add_argument("--hot", type=int, default=20, help="asked for by four fifths of the requests")
    parser.add_argument("--seconds", type=float, default=60.0, help="of load")
    parser.add_argument("--rate", type=float, default=10.0, help="requests a second")
    parser.add_argument("--tritons", type=int, default=1, help="model servers")
    parser.add_argument(
        "--limit-gb", type=float, default=0.0, help="of all model servers; 0: what a third more than hot needs"
    )
    asked = parser.parse_args()
    hot_mb = (asked.hot + len(PINNED)) * MODEL_MB * 4 / 3 + asked.tritons * SERVER_MB
    limit_bytes = int(asked.limit_gb * 1e9 or hot_mb * MB)
    return Options(asked.models, asked.active, asked.hot, asked.seconds, asked.rate, limit_bytes, asked.tritons)


async def main() -> int:
    """The exit status: 1 where a request failed."""
    options = parsed()
    told = {
        "INFERMESH_DEPLOYER_SERVER_MEMORY_LIMIT": str(options.limit_bytes // options.tritons),
        "INFERMESH_LOG_LEVEL": "info",
    }
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        print("Starting a mesh of its own")
        async with bench_mesh(Path(folder), clock=CLOCK, tritons=options.tritons, told=told) as mesh:
            found = await Bench(mesh, options).run()
    return report(found, options)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
