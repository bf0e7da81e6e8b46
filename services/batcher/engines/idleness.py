"""Which servers are idle: the only ones that batch jobs may use.

A server runs many versions. It is idle while it runs no batch of callers or shadow copies, of any version, and none of
them waits for it. Batches of batch jobs do not count: each version may have one at a time on each server.
"""

from collections.abc import Callable, Iterable

from services.batcher.domain.places import ServerState


class _Use:
    __slots__ = ("batches", "waiting", "wanted")

    def __init__(self) -> None:
        self.batches = 0
        self.waiting = 0
        self.wanted: set[Callable[[], None]] = set()

    @property
    def none(self) -> bool:
        return not (self.batches or self.waiting or self.wanted)


class Idleness:
    """What callers have under way on each server."""

    def __init__(self) -> None:
        self._uses: dict[ServerState, _Use] = {}

    def idle(self, server: ServerState) -> bool:
        """Whether nobody's request is there or waits for it."""
        use = self._uses.get(server)
        return use is None or not (use.batches or use.waiting)

    def departed(self, server: ServerState) -> None:
        """A batch that somebody waits for goes there."""
        self._use(server).batches += 1

    def landed(self, server: ServerState) -> None:
        """It is back."""
        use = self._use(server)
        use.batches -= 1
        self._settle(server, use)

    def wait(self, servers: Iterable[ServerState]) -> None:
        """Somebody waits for these servers."""
        for server in servers:
            self._use(server).waiting += 1

    def wait_no_more(self, servers: Iterable[ServerState]) -> None:
        """Takes one `wait` back."""
        for server in servers:
            use = self._use(server)
            use.waiting -= 1
            self._settle(server, use)

    def want(self, server: ServerState, then: Callable[[], None]) -> None:
        """Calls `then` once, when the server is idle. Asking twice is asking once."""
        self._use(server).wanted.add(then)

    def _use(self, server: ServerState) -> _Use:
        use = self._uses.get(server)
        if use is None:
            use = self._uses[server] = _Use()
        return use

    def _settle(self, server: ServerState, use: _Use) -> None:
        if use.wanted and not (use.batches or use.waiting):
            wanted, use.wanted = use.wanted, set()
            for then in wanted:
                then()
        if use.none:
            self._uses.pop(server, None)
