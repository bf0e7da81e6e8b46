"""The ASGI application: its life is a lifecycle's, and each path has one handler."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from services.batcher.faces.asgi import CallerGoneError, Handler, Receive, Scope, Send, Sent
from services.batcher.faces.drain import Drain
from services.batcher.faces.ending import Ending
from services.batcher.faces.plain import not_found
from services.common.lifecycle import Lifecycle
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)


class Prefixed(Protocol):
    """Answers all paths under a prefix."""

    @property
    def prefix(self) -> str:
        """How those paths begin."""
        ...

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
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
    def operators(self) -> Mapping[str, Handler]:
        """Those of them that operators and probes ask, without a body."""
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


class _Here(threading.local):
    """What answers on this thread: each listener that carries the application has a thread, a loop and a batcher of its
    own, and while Envoy replaces a listener there are two of them."""

    handlers: Mapping[str, Handler] = {}
    prefix = ""
    prefixed: Handler = staticmethod(not_found)


class Application:
    """What pyvoy loads. `build` is called when a listener that carries it begins, on that listener's loop."""

    def __init__(self, build: Callable[[], Built]) -> None:
        self._build = build
        self._here = _Here()
        self.ending = Ending()
        self.newest: tuple[asyncio.AbstractEventLoop, Built] | None = None
        """The batcher that began last, and its loop; None while none runs."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of a listener."""
        here = self._here
        handler = here.handlers.get(scope.get("path", ""))
        if handler is None:
            if scope["type"] == "lifespan":
                await self._live(receive, send)
                return
            handler = here.prefixed if scope["path"].startswith(here.prefix) else not_found
        # Whoever hung up needs no answer; pyvoy says so when the last part of one is sent.
        with contextlib.suppress(CallerGoneError, OSError):
            await handler(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            batcher = self._build()
            await batcher.lifecycle.start()
        except Exception as error:
            log.exception("the batcher did not start")
            await send(cast("Sent", {"type": "lifespan.startup.failed", "message": str(error)}))
            return
        here, newest = self._here, (asyncio.get_running_loop(), batcher)
        here.handlers, here.prefixed, here.prefix = batcher.handlers, batcher.prefixed, batcher.prefixed.prefix
        self.newest = newest
        batcher.started()
        self.ending.follow(batcher.drain)
        self.ending.watch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await batcher.lifecycle.stop()
        self.ending.forget(batcher.drain)
        if self.newest is newest:
            self.newest = None
        await send({"type": "lifespan.shutdown.complete"})
