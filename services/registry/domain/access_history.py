"""What tells callers apart, as it became: whole for those who come, the difference for those who follow.

One history serves any number of followers. It keeps the present and, for each model, when it last changed; never a
queue for anyone. Who was away for long is told more at once, and where too much has been forgotten, everything.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.registry.domain.access import ModelAccess
from services.registry.domain.quotas import RateLimit
from services.registry.domain.teams import Team

GONE_MAX = 10_000
"""Models that are gone and still remembered for followers who have to hear it."""


@dataclass(frozen=True, slots=True)
class KeyLimit:
    """A key with a limit of its own."""

    key_id: str
    rate_limit: RateLimit


@dataclass(frozen=True, slots=True)
class Head:
    """What is told whole, always."""

    revoked: tuple[str, ...] = ()
    """Ids of keys that are revoked and not expired, in ascending order."""
    teams: tuple[Team, ...] = ()
    """In alphabetical order."""
    limits: tuple[KeyLimit, ...] = ()
    key_set: str = ""
    """A JSON Web Key Set."""


@dataclass(frozen=True, slots=True)
class Look:
    """What was read at one moment. `head` None: as before. `models` are all there are where `whole`; else those that
    were looked at, None for one that is not there."""

    revision: int
    head: Head | None
    models: Mapping[str, ModelAccess | None]
    whole: bool


@dataclass(frozen=True, slots=True)
class AccessUpdate:
    """What one follower is told. `mark` is what it then knows, for `since`."""

    mark: int
    revision: int
    head: Head
    reset: bool
    models: Mapping[str, ModelAccess]
    removed: Sequence[str] = ()


@dataclass
class AccessHistory:
    """The present, and in which order it came about."""

    revision: int = -1
    """That of the database; -1: nothing was read yet."""
    head: Head = field(default_factory=Head)
    mark: int = 0
    """Grows with every difference."""
    _models: OrderedDict[str, tuple[int, ModelAccess | None]] = field(default_factory=OrderedDict)
    """Each model with the mark of its last change, in the order of marks; None: it is gone."""
    _gone: int = 0
    _forgotten: int = 0
    """The highest mark of a model that is gone and no longer remembered."""

    @property
    def known(self) -> bool:
        """Whether anything was read yet."""
        return self.revision >= 0

    def apply(self, look: Look) -> bool:
        """Takes what was read. Whether followers have anything to hear."""
        mark = self.mark + 1
        changed = [name for name, access in look.models.items() if self._now(name) != access]
        if look.whole:
            gone = [
                name for name, (_, access) in self._models.items() if access is not None and name not in look.models
            ]
            changed += gone
        for name in changed:
            self._note(name, mark, look.models.get(name))
        self._forget()
        news = bool(changed) or look.revision != self.revision or (look.head is not None and look.head != self.head)
        self.head = look.head if look.head is not None else self.head
        self.revision = look.revision
        self.mark = mark if news else self.mark
        return news

    def since(self, mark: int | None) -> AccessUpdate:
        """What who knows `mark` does not know yet; None: who knows nothing."""
        if mark is None or mark < self._forgotten:
            whole = {name: access for name, (_, access) in self._models.items() if access is not None}
            return AccessUpdate(self.mark, self.revision, self.head, reset=True, models=whole)
        models: dict[str, ModelAccess] = {}
        removed: list[str] = []
        for name in reversed(self._models):
            changed_at, access = self._models[name]
            if changed_at <= mark:
                break
            if access is None:
                removed.append(name)
            else:
                models[name] = access
        return AccessUpdate(self.mark, self.revision, self.head, reset=False, models=models, removed=sorted(removed))

    def _now(self, name: str) -> ModelAccess | None:
        return self._models[name][1] if name in self._models else None

    def _note(self, name: str, mark: int, access: ModelAccess | None) -> None:
        was_gone = name in self._models and self._models[name][1] is None
        self._gone += (access is None) - was_gone
        self._models[name] = (mark, access)
        self._models.move_to_end(name)

    def _forget(self) -> None:
        if self._gone <= GONE_MAX:
            return
        gone = [name for name, (_, access) in self._models.items() if access is None]
        for name in gone[: self._gone - GONE_MAX // 2]:
            self._forgotten, _ = self._models.pop(name)
            self._gone -= 1
