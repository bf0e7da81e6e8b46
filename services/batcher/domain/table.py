"""The serving table in force, followed step by step: of thousands of models only those that changed are looked into."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from services.batcher.domain.serving import ServedModel, ServedVersion, ServingTable

VersionKey = tuple[str, str]
"""Model name and version."""


@dataclass(slots=True)
class Step:
    """What one table changed."""

    versions: list[tuple[VersionKey, ServedVersion | None]] = field(default_factory=list)
    """Those that are new or changed, with their new state; None where one is served no more."""
    unnamed: set[str] = field(default_factory=set)
    """Servers that were named before and are not any more."""


class Table:
    """What is served, and how often each server is named in it."""

    def __init__(self) -> None:
        self._models: dict[str, ServedModel] = {}
        self._named: dict[str, int] = {}

    def version(self, key: VersionKey) -> ServedVersion | None:
        """A version; None where it is not served."""
        model = self._models.get(key[0])
        return model.versions.get(key[1]) if model is not None else None

    def names(self, address: str) -> bool:
        """Whether anything that is served runs on that server."""
        return address in self._named

    def step(self, table: ServingTable) -> Step:
        """Takes over a table. What did not change is the same object in it."""
        before, after = self._models, dict(table.models)
        changes: list[tuple[ServedModel | None, ServedModel | None]] = [
            (before.get(name), model) for name, model in after.items() if before.get(name) is not model
        ]
        changes += [(model, None) for name, model in before.items() if name not in after]
        self._models = after
        step = Step()
        dropped: list[str] = []
        for old, new in changes:
            for key, was, now in _versions(old, new):
                step.versions.append((key, now))
                for backend in now.backends if now is not None else ():
                    self._named[backend.server] = self._named.get(backend.server, 0) + 1
                dropped += [backend.server for backend in was.backends] if was is not None else []
        for address in dropped:
            self._named[address] -= 1
            if not self._named[address]:
                del self._named[address]
                step.unnamed.add(address)
        return step


def _versions(
    old: ServedModel | None, new: ServedModel | None
) -> Iterator[tuple[VersionKey, ServedVersion | None, ServedVersion | None]]:
    """The versions of a model that changed: before and after."""
    was = old.versions if old is not None else {}
    now = new.versions if new is not None else {}
    name = old.model_name if old is not None else new.model_name if new is not None else ""
    for version in {**was, **now}:
        before, after = was.get(version), now.get(version)
        if before is not after:
            yield (name, version), before, after
