"""The deployer's neighbours, in memory: each passes the contract tests that its real twin passes."""

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

from services.common.access.book import AccessBook
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, Recipe
from services.deployer.domain.environment import FRAMEWORKS, Environment
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.memory import ServerMemory
from services.deployer.domain.package import Package, Quantised, Served, Stated
from services.deployer.domain.plan import ServerState
from services.deployer.domain.trial import Tensor, TensorShape
from services.deployer.engines.admission import Admission
from services.deployer.engines.clusters import Clusters
from services.deployer.ports import DeploymentStore, ExternalServer, ExternalServers, Namespaces, VersionSource
from tests.support.clock import FakeClock

DIGITS_SCHEMA = ModelSchema(
    inputs=(TensorSpec("X", DataType.FP32, (64,)),),
    outputs=(TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (10,))),
)


def recipe(
    *,
    path: str = "/nowhere/model.onnx",
    digest: str = "0" * 64,
    framework: str = "onnx",
    team: str = "",
    artifact_kind: str = "file",
    stage: str = "draft",
) -> Recipe:
    """What the registry would say of a version of digits."""
    mapping = PredictionMapping("label", "probabilities", tuple(str(digit) for digit in range(10)))
    return Recipe(framework, path, digest, DIGITS_SCHEMA, mapping, team, artifact_kind, stage)


class FakeVersions:
    """A `VersionSource`."""

    async def reference(self, model_name: str, version: str) -> bytes:
        """The sample that it was given."""
        if self.problem is not None:
            raise self.problem
        return self.sample

    def __init__(self, recipes: Mapping[tuple[str, str], Recipe]) -> None:
        self.recipes = dict(recipes)
        self.sample = b'{"instances":[]}'
        self.problem: MeshError | None = None

    async def recipe(self, model_name: str, version: str) -> Recipe:
        """The recipe that it was given."""
        found = self.recipes.get((model_name, version))
        if found is None:
            raise MeshError(Reason.VERSION_NOT_FOUND, f"model {model_name!r} has no version {version!r}")
        return found


def nobody_outside(
    external: ExternalBackend, address: str, *, model_name: str, name: str, schema: ModelSchema | None, team: str
) -> ExternalServer:
    """For tests without external servers."""
    raise AssertionError(f"nobody is at {address}")


def admission(
    store: DeploymentStore,
    versions: VersionSource,
    book: AccessBook | None = None,
    *,
    open_external: ExternalServers = nobody_outside,
    external_hosts: tuple[str, ...] = (),
    clusters: Clusters | None = None,
    namespaces: Namespaces | None = None,
) -> Admission:
    """The checks over these neighbours, for a mesh without artifacts of its own."""
    return Admission(
        store=store,
        versions=versions,
        artifacts=None,
        environments=FakeEnvironments(),
        terms=book or AccessBook(),
        clock=FakeClock(),
        local_replicas_max=16,
        open_external=open_external,
        external_hosts=external_hosts,
        clusters=clusters,
        namespaces=namespaces,
    )


class FakeTraffic:
    """A `TrafficRouter`. It refuses as long as `refusal` is set."""

    def __init__(self) -> None:
        self.splits: list[tuple[str, str, dict[str, int]]] = []
        self.taken_over: list[tuple[str, tuple[str, ...]]] = []
        self.refusal: MeshError | None = None
        self.looks_until_known = 0
        """How many more looks it takes until gateways and batchers know a version."""

    async def knows(self, deployment: Deployment) -> bool:
        """As often as was set, not yet."""
        self.looks_until_known -= 1
        return self.looks_until_known < 0

    async def split(self, deployment: Deployment) -> None:
        """Keeps what was asked."""
        if self.refusal is not None:
            raise self.refusal
        new = deployment.new
        self.splits.append((new.model_name, new.deployment_name, dict(new.traffic_split)))

    async def take_over(self, deployment: Deployment, older: Collection[str]) -> str:
        """Keeps who takes over from whom."""
        if self.refusal is not None:
            raise self.refusal
        self.taken_over.append((deployment.new.version, tuple(sorted(older))))
        return "it has all the traffic now"


class FakeEnvironments:
    """An `Environments`."""

    def __init__(self) -> None:
        self.ensured: list[Environment] = []
        self.problem: MeshError | None = None
        self.build_s = 0.0

    def locked(self, framework: str) -> Mapping[str, str]:
        """numpy alone."""
        return {"numpy": "1.26.4", FRAMEWORKS[framework].package: "1.0.0"}

    def lock_digest(self, framework: str) -> str:
        """Its name."""
        return framework

    async def ensure(self, environment: Environment, report: Callable[[str], Awaitable[None]]) -> Path:
        """There at once, after one word."""
        await report(f"building for {environment.framework}")
        await asyncio.sleep(self.build_s)
        if self.problem is not None:
            raise self.problem
        self.ensured.append(environment)
        return Path("/environments") / environment.framework


class FakePackages:
    """A `PackageStore`."""

    def __init__(self) -> None:
        self.packages: dict[str, Package] = {}
        self.problem: MeshError | None = None
        self.stated = Stated((), module=False)
        self.links: dict[str, Path] = {}
        self.runs = Served()

    async def requirements(self, package: Package) -> Stated:
        """As it was set."""
        return self.stated

    async def link(self, package: Package, environment: Path) -> None:
        """Notes it."""
        self.links[package.server_model_name] = environment

    def runner_digest(self) -> str:
        """Any."""
        return "runner"

    async def served(self, package: Package) -> Served:
        """As it was set."""
        return self.runs

    async def quantised(self, package: Package) -> Quantised:
        """Nothing changes."""
        return Quantised(100, 0, 4_000_000, 1_000_000)

    async def ensure(self, package: Package, sample: bytes = b"") -> None:
        """Holds it."""
        if self.problem is not None:
            raise self.problem
        self.packages[package.server_model_name] = package

    async def remove(self, server_model_name: str) -> None:
        """Forgets it."""
        self.packages.pop(server_model_name, None)


class FakeServer:
    """A `ModelServer` over a `FakePackages`. `die` and `revive` are what a kill and a restart do."""

    def __init__(self, packages: FakePackages, server_id: str = "triton-0") -> None:
        self._packages = packages
        self._place = Place(server_id, f"{server_id}:8000", f"{server_id}:8001")
        self.up = True
        self.loaded: dict[str, Package] = {}
        self.loads = 0
        self.loads_of: Counter[str] = Counter()
        self.load_time_s = 0.0
        self.asked: list[int] = []
        """The rows of each prediction."""
        self.sick: set[str] = set()
        """Models whose load is refused."""
        self.answers: Callable[[str, int], Mapping[str, TensorShape]] = lambda _, rows: {
            "label": TensorShape("INT64", (rows,)),
            "probabilities": TensorShape("FP32", (rows, 10)),
        }

    @property
    def place(self) -> Place:
        """Where it would be."""
        return self._place

    def die(self) -> None:
        """It answers no more, and what it had loaded is gone."""
        self.up = False
        self.loaded.clear()

    def revive(self) -> None:
        """It answers again, empty."""
        self.up = True

    async def observe(self) -> ServerState:
        """How it stands."""
        return ServerState(self.up, frozenset(self.loaded)) if self.up else ServerState()

    async def software(self) -> str:
        """What it is."""
        return "fake 1" if self.up else ""

    async def load(self, name: str) -> None:
        """Loads what the repository holds."""
        self._reach()
        await asyncio.sleep(self.load_time_s)
        self._reach()
        if name in self.sick or name not in self._packages.packages:
            raise MeshError(Reason.LOAD_FAILED, f"cannot load {name}")
        self.loads += 1
        self.loads_of[name] += 1
        self.loaded[name] = self._packages.packages[name]

    async def unload(self, name: str) -> None:
        """Forgets it."""
        self._reach()
        self.loaded.pop(name, None)

    async def infer(self, name: str, inputs: Sequence[Tensor]) -> Mapping[str, TensorShape]:
        """Answers as `answers` says."""
        self._reach()
        if name not in self.loaded:
            raise MeshError(Reason.WARMUP_FAILED, f"{name} is not loaded")
        self.asked.append(inputs[0].shape[0])
        return self.answers(name, inputs[0].shape[0])

    def _reach(self) -> None:
        if not self.up:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"{self._place.server_id} does not answer")


class FakeMeter:
    """A `MemoryMeter` of a `FakeServer`: each copy of a model takes as much as every other."""

    def __init__(self, server: FakeServer, copy_bytes: float) -> None:
        self._server = server
        self._copy_bytes = copy_bytes

    async def read(self, models: Iterable[str] | None = None) -> ServerMemory | None:
        """What was loaded takes memory, and the server itself none."""
        if not self._server.up:
            return None
        taken = {name: copies_in(package) * self._copy_bytes for name, package in self._server.loaded.items()}
        return ServerMemory(0.0, {name: size for name, size in taken.items() if models is None or name in models})


def copies_in(package: Package) -> int:
    """How many copies a package asks for."""
    found = re.search(r"KIND_CPU count: (\d+)", package.config)
    assert found is not None
    return int(found[1])


class CountingBoard:
    """A `Board` that remembers."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def brought_up(self, seconds: float) -> None:
        """Remembers it."""
        self.seconds.append(seconds)
