"""All objects of a kind as the API server last told of them: a list, then a watch from there on, without end.

As client-go's reflector: what a watch misses because it broke off is made up for by the next one, and where the API
server does not remember so far back any more, by a new list. Answers to one's own writes are taken in at once, so that
nothing is ever decided by what was before them: of two states of an object the one of the greater resource version
counts, by the API server's own order.
"""

from collections.abc import Callable, Mapping, Sequence

from services.common.body import Body, items, name_of, namespace_of, table, text
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.kubernetes.api_server import ApiServer, is_expired
from services.common.kubernetes.kinds import Kind
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_WATCH_LASTS_S = 300.0
_CHUNK = 500
_AGAIN_FIRST_S, _AGAIN_MAX_S = 0.2, 10.0
_CALM_S = 5.0
"""A watch that lasted so long is followed by the next at once."""

_Key = tuple[str, str]


class Reflector:
    """Of one kind, in a namespace or, where that is empty, in all: a background task, `run`. `changed` is told of every
    change."""

    def __init__(
        self,
        server: ApiServer,
        kind: Kind,
        *,
        namespace: str,
        labels: str = "",
        clock: Clock,
        changed: Callable[[], None],
    ) -> None:
        self._server = server
        self._kind = kind
        self._path = kind.path(namespace)
        self._query = {"labelSelector": labels} if labels else {}
        self._clock = clock
        self._changed = changed
        self._objects: dict[_Key, Body] = {}
        self._version = ""
        self.synced = False
        """Whether all that there is has been read once."""
        self.trouble: MeshError | None = None
        """Why the API server does not let its objects be read; None: it does, or is away."""

    def every(self) -> Sequence[Body]:
        """All objects."""
        return tuple(self._objects.values())

    async def run(self) -> None:
        """Lists and watches until it is cancelled."""
        delay_s = _AGAIN_FIRST_S
        while True:
            began_s = self._clock.monotonic()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
            except MeshError as error:
                if is_expired(error):
                    self._version = ""
                elif error.reason is Reason.CLUSTER_REFUSED:
                    # A list says whether it still refuses.
                    self._version, self.trouble = "", error
                    self._changed()
                log.info("watching again soon", kind=self._kind.kind, error=error.message)
            if self._clock.monotonic() - began_s > _CALM_S:
                delay_s = _AGAIN_FIRST_S
                continue
            await self._clock.sleep(delay_s)
            delay_s = min(2 * delay_s, _AGAIN_MAX_S)

    def learn(self, body: Body) -> None:
        """Takes in what a write was answered with."""
        if self._take(body):
            self._changed()

    def forget(self, namespace: str, name: str, uid: str) -> None:
        """Takes in that an object is gone."""
        if text(self._objects.get((namespace, name), {}), "metadata", "uid") == uid:
            del self._objects[namespace, name]
            self._changed()

    async def _list(self) -> None:
        found: list[Body] = []
        more = ""
        while True:
            query = {**self._query, "limit": str(_CHUNK)} | ({"continue": more} if more else {})
            page = await self._server.call("GET", self._path, kind=self._kind.kind, query=query)
            found.extend(self._whole(one) for one in items(page, "items"))
            more = text(page, "metadata", "continue")
            if not more:
                break
        version = text(page, "metadata", "resourceVersion")
        listed = {_key(one): one for one in found}
        # What was learned since the list was made is newer than the list.
        kept = {key: one for key, one in self._objects.items() if _number(one) > _whole(version)}
        for key, one in kept.items():
            if key not in listed or _number(listed[key]) < _number(one):
                listed[key] = one
        self._objects, self._version, self.synced, self.trouble = listed, version, True, None
        self._changed()

    async def _watch(self) -> None:
        query = {**self._query, "resourceVersion": self._version, "allowWatchBookmarks": "true"}
        watching = self._server.watch(self._path, kind=self._kind.kind, query=query, lasts_s=_WATCH_LASTS_S)
        try:
            async for event in watching:
                self._hear(text(event, "type"), table(event, "object"))
        finally:
            await watching.aclose()

    def _hear(self, kind: str, body: Body) -> None:
        if kind == "ERROR":
            # Whatever it is, a list says how things stand.
            self._version = ""
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"the API server ended a watch: {text(body, 'message')}")
        version = text(body, "metadata", "resourceVersion")
        if kind == "DELETED":
            there = self._objects.get(_key(body))
            if there is not None and _number(there) <= _number(body):
                del self._objects[_key(body)]
                self._changed()
        elif kind in {"ADDED", "MODIFIED"} and self._take(self._whole(body)):
            self._changed()
        if version:
            self._version = version

    def _take(self, body: Body) -> bool:
        """Whether it is newer than what is known."""
        there = self._objects.get(_key(body))
        if there is not None and _number(there) >= _number(body):
            return False
        self._objects[_key(body)] = body
        return True

    def _whole(self, body: object) -> Body:
        """Lists do not say of each object what it is."""
        found: Mapping[str, object] = body if isinstance(body, Mapping) else {}
        return {"apiVersion": self._kind.api_version, "kind": self._kind.kind, **found}


def _key(body: Body) -> _Key:
    return namespace_of(body), name_of(body)


def _number(body: Body) -> int:
    return _whole(text(body, "metadata", "resourceVersion"))


def _whole(version: str) -> int:
    return int(version) if version.isdecimal() else 0
