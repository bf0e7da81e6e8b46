"""Holds what is published and tells watchers each change, in steps of an ever-growing revision."""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from operator import is_

from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.deployer.domain.catalog import Change, Models, PublishedVersion, Site, difference, published
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

    def __init__(self, *, store: DeploymentStore) -> None:
        self._store = store
        self._models: Models = {}
        self._sites: tuple[Site, ...] = ()
        self._versions: dict[str, tuple[Site, PublishedVersion | None]] = {}
        """What each deployment was published as: what has not changed is not made again."""
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

    async def refresh(self, sites: Iterable[Site]) -> None:
        """Publishes what follows from these facts, where it differs from what is published."""
        found = tuple(sites)
        if self.restored and len(found) == len(self._sites) and all(map(is_, found, self._sites)):
            return
        models = published(found, self._versions)
        ids = {site.deployment.deployment_id for site in found}
        self._versions = {key: made for key, made in self._versions.items() if key in ids}
        if self.restored and models == self._models:
            self._sites = found
            return
        revision = await self._store.next_revision()
        change = difference(self._models, models)
        self._models, self._revision, self._sites = models, revision, found
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
