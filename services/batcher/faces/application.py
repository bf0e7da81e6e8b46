"""The ASGI application: its life is a lifecycle's, and each path has one handler."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol, cast

from services.batcher.faces.asgi import CallerGoneError, Handler, Receive, Scope, Send, Sent
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
    def prefixed(self) -> Prefixed:
        """What answers the paths under one prefix."""
        ...

    def started(self) -> None:
        """Everything runs."""
        ...


class Application:
    """What pyvoy loads. `build` is called when the server starts, on its loop."""

    def __init__(self, build: Callable[[], Built]) -> None:
        self._build = build
        self._handlers: Mapping[str, Handler] = {}
        self._prefix = ""
        self._prefixed: Handler = not_found

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request, or the life of the process."""
        handler = self._handlers.get(scope.get("path", ""))
        if handler is None:
            if scope["type"] == "lifespan":
                await self._live(receive, send)
                return
            handler = self._prefixed if scope["path"].startswith(self._prefix) else not_found
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
        self._handlers, self._prefixed = batcher.handlers, batcher.prefixed
        self._prefix = batcher.prefixed.prefix
        batcher.started()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await batcher.lifecycle.stop()
        await send({"type": "lifespan.shutdown.complete"})
