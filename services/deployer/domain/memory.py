"""The memory that versions take: measured where it can be, guessed until then."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.deployer.domain.deployment import Recipe

_MB = 1_000_000
_PROCESS_BYTES: Mapping[str, float] = {
    "onnx": 60 * _MB,
    "sklearn": 130 * _MB,
    "xgboost": 130 * _MB,
    "lightgbm": 130 * _MB,
    "pytorch": 300 * _MB,
    "tensorflow": 500 * _MB,
}
"""A process of a framework with next to no model in it."""
_OTHER_BYTES = 200 * _MB
_ARTIFACT_FACTOR = 1.5
"""An artifact that is loaded takes some more than its file."""


@dataclass(frozen=True, slots=True)
class ServerMemory:
    """What a model server takes of the memory of its machine, in bytes. What processes share is counted once, in equal
    parts, so that the sum over all is what they take together."""

    own_bytes: float
    """The server's own process."""
    models: Mapping[str, float]
    """The processes of each model that was asked for."""

    @property
    def total_bytes(self) -> float:
        """All of it."""
        return self.own_bytes + sum(self.models.values())


def taken(model: str, before: ServerMemory | None, after: ServerMemory | None) -> float | None:
    """What a model takes that was loaded between two looks: its processes; where it runs within the server, as much as
    that has grown. None: it cannot be said."""
    if after is None:
        return None
    if after.models.get(model):
        return after.models[model]
    grown = after.own_bytes - before.own_bytes if before is not None else 0.0
    return grown if grown > 0 else None


def guess_bytes(recipe: Recipe) -> float:
    """What one copy of a version takes, as far as that can be told before it was ever loaded."""
    return _PROCESS_BYTES.get(recipe.framework, _OTHER_BYTES) + _ARTIFACT_FACTOR * recipe.artifact_bytes
