"""What operators ask of a batcher that a gateway carries, on a port of its own: health, readiness, metrics.

It is an application of its own on a loop of its own, there from the beginning; the batcher comes when the router has
told the gateway its listener. Questions are answered on the batcher's loop, where what they read belongs.
"""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, cast

import orjson

from services.batcher.bridge.messages import Answer, Handler, Request, StreamHandler, answer
from services.batcher.faces.application import Application
from services.batcher.faces.plain import JSON_TYPE, not_found

_ANSWER_S = 5.0
_WAITING = orjson.dumps({"status": "unready", "waiting_for": ["the gateway's listener, which the router tells"]})

_STUCK = answer(
    503, orjson.dumps({"status": "unready", "waiting_for": ["the batcher's loop, which does not answer"]}), [JSON_TYPE]
)


class Operations:
    """The application, and the one site of it."""

    def __init__(self, application: Application) -> None:
        self._application = application

    def __call__(self) -> "Operations":
        """The site of the one listener."""
        return self

    async def start(self) -> None:
        """Takes signals from now on, also while there is no batcher."""
        self._application.ending.watch()

    async def stop(self) -> None:
        """Nothing runs that must be stopped."""

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """Operators open no streams."""
        return {}

    def finder(self) -> Callable[[str], Handler]:
        """Everything is answered here."""
        return lambda _path: self.ask

    async def ask(self, request: Request) -> Answer:
        """One question."""
        newest = self._application.newest
        if newest is None:
            return answer(200 if request.path == "/health" else 503, _WAITING, [JSON_TYPE])
        loop, batcher = newest
        handler = batcher.operators.get(request.path, not_found)
        answering = cast("Coroutine[Any, Any, Answer]", handler(request))
        try:
            answered = asyncio.run_coroutine_threadsafe(answering, loop)
        except RuntimeError:  # the loop has just been closed
            answering.close()
            return _STUCK
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await asyncio.wrap_future(answered)
        except TimeoutError:
            return _STUCK
