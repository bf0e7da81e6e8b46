"""Aliases: names that point to a version of a model and can be moved."""

from dataclasses import dataclass
from datetime import datetime

from services.registry.domain.version import etag_of


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias as it points now. `revision` is the number of its last move, in no other alias's history."""

    model_id: str
    model_name: str
    alias: str
    version: str
    updated_by: str
    updated_at: datetime
    revision: int

    @property
    def etag(self) -> str:
        """Changes with every move."""
        return etag_of(f"{self.model_id}/{self.alias}", self.revision)


@dataclass(frozen=True, slots=True)
class Move:
    """What shall become of an alias: to which version it points, by whose wish and why."""

    model_name: str
    alias: str
    version: str
    """Empty: the alias is taken away."""
    reason: str = ""
    moved_by: str = ""


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move that was made. Empty versions: the alias was new, or was taken away."""

    move_id: int
    from_version: str
    to_version: str
    reason: str
    moved_by: str
    moved_at: datetime
