"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Protocol

from services.common.access.book import TeamTerms
from services.common.access.decide import Standing
from services.common.body import Body
from services.common.schema import ModelSchema
from services.common.signals import Signal
from services.deployer.domain.catalog import Place
from services.deployer.domain.cluster.floor import Floor
from services.deployer.domain.cluster.objects import ClusterObject
from services.deployer.domain.deployment import Condition, Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.environment import Environment
from services.deployer.domain.events import KeptEvent
from services.deployer.domain.external import ExternalBackend
from services.deployer.domain.forecast import Outlook
from services.deployer.domain.history import Bucket, Key
from services.deployer.domain.memory import ServerMemory
from services.deployer.domain.package import Package, Quantised, Served, Stated
from services.deployer.domain.plan import ServerState
from services.deployer.domain.quota import Quota
from services.deployer.domain.trial import Tensor, TensorShape
from services.deployer.domain.usage import CopyUse


class Recorder(Protocol):
    """Who is told how far a deployment is."""

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Takes the progress of what was read as `deployment`."""
        ...


class Board(Protocol):
    """Where the deployer's figures are shown."""

    def brought_up(self, seconds: float) -> None:
        """A version answers, so long after its first step began."""
        ...


class DeploymentStore(Recorder, Protocol):
    """Where deployments are kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def create(
        self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None, *, dry_run: bool = False
    ) -> Deployment:
        """Stores a deployment, pending, generation 1. Called again with the same `request_id` of the same team it
        returns the first one. With `dry_run` nothing stays stored.

        Raises DEPLOYMENT_EXISTS where the name or the version is taken, DEPLOYMENT_TERMINATING where its owner is
        about to go, REQUEST_ID_REUSED where the id belongs to another wish, and what `check_quota` raises: of the
        deployments of a team one is measured at a time.
        """
        ...

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """The deployment of that name; never an older version."""
        ...

    async def holder(self, model_name: str, version: str) -> Deployment | None:
        """The deployment that has the version, or has it as an older one."""
        ...

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
        """At most `limit` deployments in order of (model, name), from behind `after` (empty: from the first). Empty
        texts match all; `models` None: of all models, else of these. Older versions are left out."""
        ...

    async def every(self) -> Sequence[Deployment]:
        """All deployments, older versions included. What has not changed since the last time may be the same object."""
        ...

    async def change(
        self,
        deployment_id: str,
        wish: Wish,
        *,
        generation: int,
        reload: bool = False,
        quota: Quota | None = None,
        actor: str = "",
        dry_run: bool = False,
    ) -> Deployment | None:
        """Replaces the wish if `generation` is still the current one, which then rises; else None. Past failures are
        forgotten, and other shares than before are to be handed to the router (`asked_split`); with `reload` all that
        is loaded counts as out of date. Raises what `check_quota` raises. With `dry_run` nothing stays stored."""
        ...

    async def roll(
        self,
        deployment_id: str,
        version: str,
        recipe: Recipe,
        wish: Wish,
        *,
        generation: int,
        quota: Quota | None = None,
        actor: str = "",
        dry_run: bool = False,
    ) -> Deployment | None:
        """Gives the deployment another version if `generation` is still the current one; else None. The version that
        it had goes on as an older one, with all that came of it and an id of its own; where the other version is such
        an older one, it goes on from there.

        Raises DEPLOYMENT_EXISTS where the version is another deployment's, DEPLOYMENT_TERMINATING where it is just
        being removed, and what `check_quota` raises; older versions are not measured. With `dry_run` nothing stays
        stored.
        """
        ...

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes that a model's deployments are that team's now."""
        ...

    async def request_deletion(
        self, deployment_id: str, *, generation: int, actor: str = "", why: str = ""
    ) -> Deployment | None:
        """Marks for removal, with its older versions, if `generation` is still the current one; else None."""
        ...

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores the progress of what was read as `deployment`; the wish is left alone, and so is what somebody asked
        for meanwhile (`outcomes.held`). What came of a version that the deployment does not have any more is not
        recorded."""
        ...

    async def forget(self, deployment_id: str) -> None:
        """Removes the deployment."""
        ...

    async def events(
        self, model_name: str, deployment_name: str, *, before: int | None, limit: int
    ) -> Sequence[KeptEvent]:
        """At most `limit` of what happened to deployments of that name, the newest first, of those with a number less
        than `before`. Every change of the wish and of the progress that is worth telling is stored with it."""
        ...

    async def forget_events(self) -> None:
        """Removes events that are older than EVENTS_KEEP_DAYS."""
        ...

    async def next_revision(self) -> int:
        """A number greater than all before, also across restarts."""
        ...


class Terms(Protocol):
    """What the registry says of teams and of who owns what."""

    def terms(self, team: str) -> TeamTerms:
        """What a team may use. Raises DEPENDENCY_UNAVAILABLE where that was never heard."""
        ...

    def standing(self, model_name: str) -> Standing | None:
        """Whose a model is; None where it is not known."""
        ...


class VersionSource(Protocol):
    """The registry."""

    async def recipe(self, model_name: str, version: str) -> Recipe:
        """What loading a version needs. Raises MODEL_NOT_FOUND, VERSION_NOT_FOUND, DEPENDENCY_UNAVAILABLE."""
        ...

    async def reference(self, model_name: str, version: str) -> bytes:
        """The reference sample of a version, as JSON. Raises as `recipe` does, and ARTIFACT_NOT_FOUND."""
        ...


class ArtifactSource(Protocol):
    """Who gives out artifacts by their digest: the registry. Every call may raise ARTIFACT_NOT_FOUND,
    DEPENDENCY_UNAVAILABLE."""

    async def size(self, digest: str) -> int:
        """How many bytes the artifact has."""
        ...

    def pieces(self, digest: str, *, offset_bytes: int) -> AsyncGenerator[bytes, None]:
        """Its bytes from an offset on. Raises ARTIFACT_CORRUPT where the registry's copy is damaged."""
        ...


class ModelServer(Protocol):
    """One server of the pool."""

    @property
    def place(self) -> Place:
        """Its name and addresses."""
        ...

    async def observe(self) -> ServerState:
        """How it stands now. Never raises and never takes longer than about a second."""
        ...

    async def software(self) -> str:
        """Name and version of the program; empty where it does not answer."""
        ...

    async def load(self, name: str) -> None:
        """Loads what the repository holds under `name`, anew where it is loaded; the old one answers until then.

        Raises LOAD_FAILED with the server's own words, or DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def unload(self, name: str) -> None:
        """Unloads `name` once what is in flight is answered; nothing where it is not loaded."""
        ...

    async def infer(self, name: str, inputs: Sequence[Tensor]) -> Mapping[str, TensorShape]:
        """One prediction; what the outputs look like. Raises WARMUP_FAILED or DEPENDENCY_UNAVAILABLE."""
        ...


class MemoryMeter(Protocol):
    """Of one server of the pool."""

    async def read(self, models: Iterable[str] | None = None) -> ServerMemory | None:
        """What the server and these models in it, or all, take of the memory; None where that cannot be measured."""
        ...


class ExternalServer(ModelServer, Protocol):
    """One server that somebody else runs. Loading is to prove that it has the model: SCHEMA_MISMATCH where that is
    another one than the version. Unloading is to ask it no more."""

    async def schema(self) -> ModelSchema | None:
        """What it states of its model; None where it states nothing.

        Raises LOAD_FAILED where it does not have the model, SCHEMA_REQUIRED where what it states is of no use, or
        DEPENDENCY_UNAVAILABLE.
        """
        ...

    async def close(self) -> None:
        """Closes what is open."""
        ...


class ExternalServers(Protocol):
    """Who speaks to external servers. Making one opens no connection."""

    def __call__(
        self,
        external: ExternalBackend,
        address: str,
        *,
        model_name: str,
        name: str,
        schema: ModelSchema | None,
        team: str,
    ) -> ExternalServer:
        """The server at one of the addresses. `model_name`: the mesh's name of the model; `name`: what `observe` calls
        the version when it is ready; `schema`: the version's, None where it is yet to be read; `team`: whose the model
        is, and the credentials that the server is shown."""
        ...


class Pods(Protocol):
    """Who speaks to pods of a cluster. Making one opens no connection."""

    def __call__(self, place: Place, *, name: str) -> ExternalServer:
        """The pod at a place, which has loaded `name`. Loading is to see whether it is ready."""
        ...


class ClusterSights(Protocol):
    """What is known of a cluster, as it was told last. Nothing of it waits."""

    @property
    def synced(self) -> bool:
        """Whether all that there is has been read since the start."""
        ...

    def objects(self) -> Sequence[ClusterObject]:
        """Every ModelDeployment, the oldest first."""
        ...

    def find(self, namespace: str, model_name: str, deployment_name: str) -> ClusterObject | None:
        """The object of a deployment: of several that claim the name the oldest."""
        ...

    def pods(self, found: ClusterObject, version: str) -> Mapping[str, Place]:
        """The pods of a version that are ready, by their names as servers."""
        ...


class Cluster(ClusterSights, Protocol):
    """A Kubernetes cluster. Every call may raise DEPENDENCY_UNAVAILABLE; what the API server answers is known by
    `ClusterSights` at once."""

    @property
    def name(self) -> str:
        """As deployments name it."""
        ...

    @property
    def changed(self) -> Signal:
        """Fires whenever anything may be otherwise."""
        ...

    async def run(self) -> None:
        """Follows what there is, until it is cancelled."""
        ...

    async def read(self, namespace: str, name: str) -> ClusterObject | None:
        """An object as it is now, whatever is known; None where there is none."""
        ...

    async def in_namespace(self, namespace: str) -> Sequence[ClusterObject]:
        """All objects of a namespace as they are now."""
        ...

    async def apply(self, manifest: Body, *, dry_run: bool = False) -> ClusterObject:
        """Makes or changes an object. Raises what the API server refuses, in its words: INVALID_FIELD with fields as
        the mesh names them, QUOTA_EXCEEDED, CLUSTER_REFUSED, and ETAG_MISMATCH where it is not as it was read."""
        ...

    async def delete(self, found: ClusterObject) -> None:
        """Deletes exactly that object; nothing where it is gone already."""
        ...

    async def tell(self, found: ClusterObject, conditions: tuple[Condition, ...], floor: Floor | None) -> None:
        """Writes the deployer's part of the status: its own conditions, all of them, and the floor of replicas."""
        ...

    async def wake(self, found: ClusterObject) -> None:
        """Has one replica of the wished version started where there is none."""
        ...


class Namespaces(Protocol):
    """Where teams are in clusters."""

    async def of(self, team: str) -> str:
        """A team's namespace; it never changes. Raises TEAM_NOT_FOUND, DEPENDENCY_UNAVAILABLE."""
        ...


class PackageStore(Protocol):
    """The model repository that the servers of the pool load from."""

    def runner_digest(self) -> str:
        """Digest of the runner that packages get."""
        ...

    async def ensure(self, package: Package, sample: bytes = b"") -> None:
        """Makes the repository hold exactly `package`, in one step; where it does already it is only touched, so that
        a server that has loaded it loads it anew. What is quantised is proven on `sample`, the version's reference
        sample as the registry gives it out.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, ARTIFACT_INVALID, QUANTISATION_REFUSED, or DEPENDENCY_UNAVAILABLE
        where it must be fetched and the registry is away.
        """
        ...

    async def requirements(self, package: Package) -> Stated:
        """What the artifact of a package that is there says of what it needs."""
        ...

    async def served(self, package: Package) -> Served:
        """What runs a package that stands."""
        ...

    async def quantised(self, package: Package) -> Quantised:
        """What quantising a package that is there came to."""
        ...

    async def link(self, package: Package, environment: Path) -> None:
        """Has a package that is there run in that environment."""
        ...

    async def remove(self, server_model_name: str) -> None:
        """Takes the package away; nothing where there is none."""
        ...


class Environments(Protocol):
    """What frameworks are installed in."""

    def locked(self, framework: str) -> Mapping[str, str]:
        """The versions in the framework's lock file, by package."""
        ...

    def lock_digest(self, framework: str) -> str:
        """Tells one lock file of a framework from another."""
        ...

    async def ensure(self, environment: Environment, report: Callable[[str], Awaitable[None]]) -> Path:
        """The folder of an environment, built where it is not there; `report` is told how far that is.

        Raises ENVIRONMENT_FAILED where the requirements cannot be met, DEPENDENCY_UNAVAILABLE where the package index
        or the disk is at fault.
        """
        ...


class TrafficRouter(Protocol):
    """The router."""

    async def knows(self, deployment: Deployment) -> bool:
        """Whether every gateway and batcher that is connected has been told that its version answers. Raises what the
        router says.
        """
        ...

    async def split(self, deployment: Deployment) -> None:
        """Gives the model's versions the shares of `new.traffic_split`; once for each `split_generation`, however often
        it is called: later changes of the traffic are not undone. Raises what the router says.
        """
        ...

    async def take_over(self, deployment: Deployment, older: Collection[str]) -> str:
        """Gives the shares and conditions of these older versions to the deployment's; once, as above. Says in words
        what that came to. Raises what the router says.
        """
        ...


class RequestHistoryStore(Protocol):
    """What deployments were asked for, for as long as a forecast looks back. Every call may raise
    DEPENDENCY_UNAVAILABLE."""

    async def add(self, buckets: Mapping[Key, Sequence[Bucket]]) -> None:
        """Adds what came to what is there, as `Bucket.plus` does it."""
        ...

    async def read(self, key: Key, since: datetime) -> Sequence[Bucket]:
        """The buckets of a deployment that begin at `since` or later, in order."""
        ...

    async def prune(self, before: datetime) -> None:
        """Removes all buckets that begin earlier."""
        ...


class Forecaster(Protocol):
    """Who knows how a series goes on."""

    async def outlooks(self, series: Sequence[Sequence[float]], *, day: int) -> Sequence[Outlook]:
        """One for each series of more than two days with `day` values each. Takes seconds; raises
        DEPENDENCY_UNAVAILABLE where it could not be done."""
        ...


class CopyUsage(Protocol):
    """What copies of models use of the CPU, on the model servers whose processes can be seen from here."""

    async def sample(self) -> Mapping[str, Mapping[str, CopyUse]]:
        """By server and by the model's name there, since the call before. Servers that are not on this machine, or are
        down, are missing. One call at a time."""
        ...


class GpuUsage(Protocol):
    """How busy the model servers' GPUs are."""

    async def sample(self) -> Mapping[str, float]:
        """In percent, the mean of each server's; servers that report none are missing. Never raises."""
        ...
