"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from services.common.access.book import TeamTerms
from services.common.access.decide import Standing
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.environment import Environment
from services.deployer.domain.package import Package, Quantised, Stated
from services.deployer.domain.plan import ServerState
from services.deployer.domain.quota import Quota
from services.deployer.domain.trial import Tensor, TensorShape


class DeploymentStore(Protocol):
    """Where deployments are kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def create(self, new: NewDeployment, recipe: Recipe, quota: Quota | None = None) -> Deployment:
        """Stores a deployment, pending, generation 1. Called again with the same `request_id` of the same team it
        returns the first one.

        Raises DEPLOYMENT_EXISTS where the name or the version is taken, DEPLOYMENT_TERMINATING where its owner is
        about to go, REQUEST_ID_REUSED where the id belongs to another wish, and what `check_quota` raises: of the
        deployments of a team one is measured at a time.
        """
        ...

    async def find(self, model_name: str, deployment_name: str) -> Deployment | None:
        """The deployment of that name."""
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
        texts match all; `models` None: of all models, else of these."""
        ...

    async def every(self) -> Sequence[Deployment]:
        """All deployments."""
        ...

    async def change(
        self, deployment_id: str, wish: Wish, *, generation: int, reload: bool = False, quota: Quota | None = None
    ) -> Deployment | None:
        """Replaces the wish if `generation` is still the current one, which then rises; else None. Past failures are
        forgotten; with `reload` all that is loaded counts as out of date. Raises what `check_quota` raises."""
        ...

    async def hand_over(self, model_name: str, team: str) -> None:
        """Notes that a model's deployments are that team's now."""
        ...

    async def request_deletion(self, deployment_id: str, *, generation: int) -> Deployment | None:
        """Marks for removal if `generation` is still the current one; else None."""
        ...

    async def record(self, deployment: Deployment, progress: Progress) -> None:
        """Stores the progress of what was read as `deployment`; the wish is left alone. A deployment that is marked for
        removal stays "terminating", and failures count only for the generation that they befell."""
        ...

    async def forget(self, deployment_id: str) -> None:
        """Removes the deployment."""
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


class PackageStore(Protocol):
    """The model repository that the servers of the pool load from."""

    def runner_digest(self) -> str:
        """Digest of the runner that packages get."""
        ...

    async def ensure(self, package: Package, sample: bytes = b"") -> None:
        """Makes the repository hold exactly `package`, in one step; nothing where it does already. What is quantised
        is proven on `sample`, the version's reference sample as the registry gives it out.

        Raises ARTIFACT_NOT_FOUND, ARTIFACT_CORRUPT, ARTIFACT_INVALID, QUANTISATION_REFUSED, or DEPENDENCY_UNAVAILABLE
        where it must be fetched and the registry is away.
        """
        ...

    async def requirements(self, package: Package) -> Stated:
        """What the artifact of a package that is there says of what it needs."""
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

    async def split(self, deployment: Deployment) -> None:
        """Gives the model's versions the shares that the deployment was made with; once, however often it is called:
        later changes of the traffic are not undone. Raises what the router says.
        """
        ...
