"""What operators ask of a batcher that a gateway carries, on a port of its own: health, readiness, metrics.

It is an application of its own on a loop of its own, there from the beginning; the batcher comes when the router has
told the gateway its listener. Questions are answered on the batcher's loop, where what they read belongs.
"""

import asyncio

import orjson

from services.batcher.faces.application import Application
from services.batcher.faces.asgi import Handler, Receive, Received, Scope, Send, Sent, respond
from services.batcher.faces.plain import JSON_TYPE, not_found

_ANSWER_S = 5.0
_WAITING = orjson.dumps({"status": "unready", "waiting_for": ["the gateway's listener, which the router tells"]})

_STUCK = orjson.dumps({"status": "unready", "waiting_for": ["the batcher's loop, which does not answer"]})


class Operations:
    """The ASGI application."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One question, or the life of the port."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        newest = self._application.newest
        if newest is None:
            await respond(send, 200 if scope["path"] == "/health" else 503, _WAITING, [JSON_TYPE])
            return
        loop, batcher = newest
        answering = _answer(batcher.operators.get(scope["path"], not_found), scope)
        try:
            answered = asyncio.run_coroutine_threadsafe(answering, loop)
        except RuntimeError:  # the loop has just been closed
            answering.close()
            await respond(send, 503, _STUCK, [JSON_TYPE])
            return
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await asyncio.wrap_future(answered)
        except TimeoutError:
            await respond(send, 503, _STUCK, [JSON_TYPE])
            return
        for message in answer:
            await send(message)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._application.ending.watch()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


async def _answer(handler: Handler, scope: Scope) -> list[Sent]:
    """What a handler sends to a request without a body."""
    sent: list[Sent] = []

    async def receive() -> Received:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Sent) -> None:
        sent.append(message)

    await handler(scope, receive, send)
    return sent
