"""The deployer's neighbours, in memory: each passes the contract tests that its real twin passes."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.deployer.adapters.postgres import same_or_refused
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Status, Wish
from services.deployer.domain.environment import FRAMEWORKS, Environment
from services.deployer.domain.package import Package, Quantised, Stated
from services.deployer.domain.plan import ServerState
from services.deployer.domain.quota import Quota, check_quota
from services.deployer.domain.trial import Tensor, TensorShape

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
        """One instance."""
        return b'{"instances":[]}'

    def __init__(self, recipes: Mapping[tuple[str, str], Recipe]) -> None:
        self.recipes = dict(recipes)

    async def recipe(self, model_name: str, version: str) -> Recipe:
        """The recipe that it was given."""
        found = self.recipes.get((model_name, version))
        if found is None:
            raise MeshError(Reason.VERSION_NOT_FOUND, f"model {model_name!r} has no version {version!r}")
        return found


class FakeTraffic:
    """A `TrafficRouter`. It refuses as long as `refusal` is set."""

    def __init__(self) -> None:
        self.splits: list[tuple[str, str, dict[str, int]]] = []
        self.refusal: MeshError | None = None

    async def split(self, deployment: Deployment) -> None:
        """Keeps what was asked."""
        if self.refusal is not None:
            raise self.refusal
        new = deployment.new
        self.splits.append((new.model_name, new.deployment_name, dict(new.traffic_split)))


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

    async def requirements(self, package: Package) -> Stated:
        """As it was set."""
        return self.stated

    async def link(self, package: Package, environment: Path) -> None:
        """Notes it."""
        self.links[package.server_model_name] = environment

    def runner_digest(self) -> str:
        """Any."""
        return "runner"

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
        return self.answers(name, inputs[0].shape[0])

    def _reach(self) -> None:
        if not self.up:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"{self._place.server_id} does not answer")


class MemoryStore:
    """A `DeploymentStore`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rows: dict[str, Deployment] = {}
        self._revision = 0
        self._made = 0
        self.away = False
        self.records = 0
        """How often progress was stored."""

    async def create(self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None) -> Deployment:
        """Stores it, or says what stands in its way."""
        self._reach()
        rivals = [
            (same_request, same_name, row)
            for row in self._rows.values()
            for same_request in (bool(new.request_id) and _request(row.new) == _request(new),)
            for same_name in (_name(row.new) == _name(new),)
            if same_name or same_request or (row.new.model_name, row.new.version) == (new.model_name, new.version)
        ]
        if rivals:
            return same_or_refused(new, max(rivals, key=lambda rival: rival[:2])[2])
        if quota is not None:
            check_quota(quota, new.wish, others=[row.wish for row in self._of_team(quota.team)])
        self._made += 1
        now = self._clock.now()
        key = f"00000000-0000-0000-0000-{self._made:012}"
        made = Deployment(key, new, recipe, new.wish, Progress(), 1, now, now)
        self._rows[key] = made
        return made

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """By name."""
        self._reach()
        return next((row for row in self._rows.values() if _name(row.new) == (model_name, deployment_name)), None)

    async def page(
        self,
        *,
        model_name: str,
        status: str,
        environment: str,
        after: tuple[str, ...],
        limit: int,
        models: Collection[str] | None = None,
    ) -> Sequence[Deployment]:
        """A page."""
        return [
            row
            for row in await self.every()
            if (not model_name or row.new.model_name == model_name)
            and (models is None or row.new.model_name in models)
            and (not status or row.progress.status == status)
            and (not environment or row.new.environment == environment)
            and (not after or _name(row.new) > after)
        ][:limit]

    async def every(self) -> Sequence[Deployment]:
        """All, in order."""
        self._reach()
        return sorted(self._rows.values(), key=lambda row: _name(row.new))

    async def change(
        self, deployment_id: str, wish: Wish, *, generation: int, reload: bool = False, quota: Quota | None = None
    ) -> Deployment | None:
        """Replaces the wish."""
        self._reach()
        row = self._rows.get(deployment_id)
        if row is None or row.generation != generation or row.deleting:
            return None
        if quota is not None:
            others = [one.wish for one in self._of_team(quota.team) if one.deployment_id != deployment_id]
            check_quota(quota, wish, others=others, before=row.wish)
        progress = replace(row.progress, attempts=0, next_attempt_at=None, replicas=None)
        if reload:
            progress = replace(progress, loaded=dict.fromkeys(progress.loaded, ""))
        changed = replace(row, wish=wish, generation=generation + 1, progress=progress, new=replace(row.new, wish=wish))
        return self._put(changed)

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes whose they are now."""
        self._reach()
        for row in list(self._rows.values()):
            if row.new.model_name == model_name and row.new.team != team:
                self._put(replace(row, new=replace(row.new, team=team, request_id="")))

    async def request_deletion(self, deployment_id: str, *, generation: int) -> Deployment | None:
        """Marks it."""
        self._reach()
        row = self._rows.get(deployment_id)
        if row is None or row.generation != generation:
            return None
        progress = replace(row.progress, status=Status.TERMINATING, attempts=0, next_attempt_at=None)
        return self._put(replace(row, deleting=True, progress=progress))

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores progress."""
        self._reach()
        self.records += 1
        row = self._rows.get(deployment.deployment_id)
        if row is None:
            return
        if row.deleting:
            progress = replace(progress, status=Status.TERMINATING)
        if row.generation != deployment.generation:
            progress = replace(progress, replicas=None)
        if (row.generation, row.deleting) != (deployment.generation, deployment.deleting):
            progress = replace(progress, attempts=0, next_attempt_at=None)
        self._put(replace(row, progress=progress))

    async def forget(self, deployment_id: str) -> None:
        """Removes it."""
        self._reach()
        self._rows.pop(deployment_id, None)

    async def next_revision(self) -> int:
        """The next."""
        self._reach()
        self._revision += 1
        return self._revision

    def _of_team(self, team: str) -> Sequence[Deployment]:
        return [row for row in self._rows.values() if row.new.team == team and not row.deleting]

    def _put(self, row: Deployment) -> Deployment:
        moment = max(self._clock.now(), row.updated_at + timedelta(microseconds=1))
        self._rows[row.deployment_id] = replace(row, updated_at=moment)
        return self._rows[row.deployment_id]

    def _reach(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the store does not answer")


def _request(new: NewDeployment) -> tuple[str, str]:
    return (new.team, new.request_id)


def _name(new: NewDeployment) -> tuple[str, str]:
    return (new.model_name, new.deployment_name)
