"""What is ready, as the deployer says it, and the steps from one state of it to the next."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ReadyVersion:
    """A version that answers."""

    version: str
    deployment_name: str
    served: bytes
    """All that batchers must know of it, in the form in which it travels. The router passes it on and looks at nothing
    in it, so that what deployer and batchers agree on can grow without the router."""


@dataclass(frozen=True, slots=True)
class ReadyModel:
    """What is ready of a model: at least one version, in ascending order."""

    model_name: str
    versions: tuple[ReadyVersion, ...]
    team: str = ""

    @property
    def version_names(self) -> tuple[str, ...]:
        """The versions' names, in ascending order."""
        return tuple(version.version for version in self.versions)


Backends = Mapping[str, ReadyModel]


@dataclass(frozen=True, slots=True)
class BackendUpdate:
    """One message of the deployer."""

    revision: int
    full: bool
    """True: `models` is all there is."""
    models: tuple[ReadyModel, ...] = ()
    removed: tuple[str, ...] = ()


def updated(known: Backends, update: BackendUpdate) -> tuple[Backends, frozenset[str]]:
    """What is ready after `update`, and the models that it changed."""
    sent = {model.model_name: model for model in update.models if model.versions}
    emptied = [model.model_name for model in update.models if not model.versions]
    if update.full:
        return sent, _changed(known, sent, {*known, *sent})
    after = {**known, **sent}
    for name in (*update.removed, *emptied):
        after.pop(name, None)
    return after, _changed(known, after, {*sent, *update.removed, *emptied})


def _changed(before: Backends, after: Backends, names: Iterable[str]) -> frozenset[str]:
    return frozenset(name for name in names if before.get(name) != after.get(name))
