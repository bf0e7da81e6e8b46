"""The application that the bridge hosts: its life is a lifecycle's, and each path has one handler."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

from services.batcher.bridge.messages import Answer, Handler, Request, StreamHandler
from services.batcher.faces.drain import Drain
from services.batcher.faces.ending import Ending
from services.batcher.faces.plain import not_found
from services.common.lifecycle import Lifecycle


class Prefixed(Protocol):
    """Answers all paths under a prefix."""

    @property
    def prefix(self) -> str:
        """How those paths begin."""
        ...

    async def __call__(self, request: Request) -> Answer:
        """Answers one request."""
        ...


class Built(Protocol):
    """A batcher, put together on the loop that will carry it."""

    @property
    def lifecycle(self) -> Lifecycle:
        """What runs."""
        ...

    @property
    def handlers(self) -> Mapping[str, Handler]:
        """What answers each path."""
        ...

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """What answers the paths of streams."""
        ...

    @property
    def operators(self) -> Mapping[str, Handler]:
        """Those handlers that operators and probes ask, without a body."""
        ...

    @property
    def prefixed(self) -> Prefixed:
        """What answers the paths under one prefix."""
        ...

    @property
    def drain(self) -> Drain:
        """How it ends."""
        ...

    def started(self) -> None:
        """Everything runs."""
        ...


class Carried:
    """One batcher and its life, on one loop. A site of the bridge."""

    def __init__(self, application: "Application") -> None:
        self._application = application
        self._batcher: Built | None = None

    async def start(self) -> None:
        """Builds the batcher and starts it. Raises where it does not start."""
        application, batcher = self._application, self._application.build()
        await batcher.lifecycle.start()
        self._batcher = batcher
        application.newest = (asyncio.get_running_loop(), batcher)
        batcher.started()
        application.ending.follow(batcher.drain)
        application.ending.watch()

    async def stop(self) -> None:
        """Stops it."""
        application, batcher = self._application, self._running
        await batcher.lifecycle.stop()
        application.ending.forget(batcher.drain)
        if application.newest is not None and application.newest[1] is batcher:
            application.newest = None

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """Who answers the paths that are handed over piece by piece."""
        return self._running.streams

    def finder(self) -> Callable[[str], Handler]:
        """Tells who answers a path."""
        batcher = self._running
        get, prefixed, prefix = batcher.handlers.get, batcher.prefixed, batcher.prefixed.prefix

        def find(path: str) -> Handler:
            return get(path) or (prefixed if path.startswith(prefix) else not_found)

        return find

    @property
    def _running(self) -> Built:
        assert self._batcher is not None, "it was started"
        return self._batcher


class Application:
    """What the bridge loads. `build` is called when a listener that carries it begins, on that listener's loop; while
    Envoy replaces a listener there are two."""

    def __init__(self, build: Callable[[], Built]) -> None:
        self.build = build
        self.ending = Ending()
        self.newest: tuple[asyncio.AbstractEventLoop, Built] | None = None
        """The batcher that began last, and its loop; None while none runs."""

    def __call__(self) -> Carried:
        """The site of one listener."""
        return Carried(self)
