"""Holds what is published and tells watchers each change, in steps of an ever-growing revision."""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass

from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.deployer.domain.catalog import Change, Models, Place, difference, published
from services.deployer.domain.deployment import Deployment
from services.deployer.domain.plan import Observation
from services.deployer.ports import DeploymentStore

log = get_logger(__name__)


@dataclass(frozen=True)
class Update:
    """One message to a watcher. `full`: the change leads from nothing to all there is."""

    revision: int
    full: bool
    change: Change


class Catalog:
    """Empty and silent until the first `refresh`: a watcher must never take "not read yet" for "nothing there"."""

    def __init__(self, *, store: DeploymentStore, pool: Mapping[str, Place]) -> None:
        self._store = store
        self._pool = pool
        self._models: Models = {}
        self._revision = 0
        self._signal = Signal()

    @property
    def restored(self) -> bool:
        """Whether it has been read from the store since the start."""
        return self._revision > 0

    @property
    def models(self) -> Models:
        """What is published now."""
        return self._models

    @property
    def revision(self) -> int:
        """The revision of `models`; 0 before the first refresh."""
        return self._revision

    def lists(self, model_name: str, version: str) -> bool:
        """Whether the version is published with places where it runs."""
        return self._is_cold(model_name, version) is False

    def sleeps(self, model_name: str, version: str) -> bool:
        """Whether the version is published as cold."""
        return self._is_cold(model_name, version) is True

    def _is_cold(self, model_name: str, version: str) -> bool | None:
        model = self._models.get(model_name)
        return next((one.cold for one in model.versions if one.version == version), None) if model else None

    async def refresh(self, deployments: Iterable[Deployment], observed: Observation) -> None:
        """Publishes what follows from these facts, where it differs from what is published."""
        models = published(deployments, observed, self._pool)
        if self.restored and models == self._models:
            return
        revision = await self._store.next_revision()
        change = difference(self._models, models)
        self._models, self._revision = models, revision
        log.info(
            "published",
            revision=revision,
            changed=[model.model_name for model in change.models],
            removed=list(change.removed),
        )
        self._signal.fire()

    async def watch(self) -> AsyncIterator[Update]:
        """All there is, then every change. A slow watcher gets several changes as one. Never ends by itself."""
        known: Models = {}
        revision = 0
        while True:
            changed = self._signal.current
            if self._revision > revision:
                change = difference(known, self._models)
                full, revision, known = revision == 0, self._revision, self._models
                yield Update(revision, full, change)
                continue
            await changed.wait()
