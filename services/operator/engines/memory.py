"""What the API server answered to the operator's own writes, until watching tells the same.

Watching lags behind; without this a second look right after the first would write everything once more. It is believed
for `keep_s`: by then watching has caught up, or what was written is gone again.
"""

from collections.abc import Mapping

from services.common.body import Body, text
from services.common.clock import Clock
from services.operator.domain.applying import Key, key_of
from services.operator.ports import Name

_KEEP_S = 5.0


class Memory:
    """Newest known objects by model deployment. Bounded by what was written in the last `keep_s`, and one version a
    living object."""

    def __init__(self, clock: Clock, *, keep_s: float = _KEEP_S) -> None:
        self._clock = clock
        self._keep_s = keep_s
        self._written: dict[Name, dict[Key, tuple[float, Body | None]]] = {}
        self._settled: dict[Name, dict[Key, str]] = {}

    def wrote(self, name: Name, body: Body) -> None:
        """Remembers what came of a write."""
        self._written.setdefault(name, {})[key_of(body)] = (self._clock.monotonic(), body)

    def applied(self, name: Name, body: Body) -> None:
        """Remembers what came of applying all of an object."""
        self.wrote(name, body)
        self._settled.setdefault(name, {})[key_of(body)] = text(body, "metadata", "resourceVersion")

    def deleted(self, name: Name, key: Key) -> None:
        """Remembers that an object was deleted."""
        self._written.setdefault(name, {})[key] = (self._clock.monotonic(), None)
        self._settled.get(name, {}).pop(key, None)

    def settled_at(self, name: Name, key: Key) -> str | None:
        """The resource version that came of the last time that an object was applied."""
        return self._settled.get(name, {}).get(key)

    def newest(self, name: Name, seen: Mapping[Key, Body]) -> Mapping[Key, Body]:
        """What is there: as watching told, and newer where it was written here."""
        written = self._written.get(name)
        if not written:
            return seen
        now_s, found = self._clock.monotonic(), dict(seen)
        for key, (at_s, body) in list(written.items()):
            there = seen.get(key)
            if now_s - at_s > self._keep_s or (body is not None and there is not None and not _newer(body, there)):
                del written[key]
            elif body is None:
                found.pop(key, None)
            else:
                found[key] = body
        return found

    def forget(self, name: Name) -> None:
        """Forgets all of a model deployment that is gone."""
        self._written.pop(name, None)
        self._settled.pop(name, None)


def _newer(body: Body, other: Body) -> bool:
    """Whether one is a later state of the same object. Resource versions of etcd are numbers that grow."""
    if text(body, "metadata", "uid") != text(other, "metadata", "uid"):
        return True
    mine, others = (text(one, "metadata", "resourceVersion") for one in (body, other))
    return mine.isdecimal() and others.isdecimal() and int(mine) > int(others)
