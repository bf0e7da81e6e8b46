"""Unary gRPC methods over ASGI: one frame in, one frame and trailers out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.batcher.codec.frames import Headers, error_trailers, frame, unframe
from services.batcher.domain.cached import CacheOutcome
from services.batcher.faces.asgi import CallerGoneError, Receive, Scope, Send, Sent, read_body, respond
from services.batcher.faces.call import HEADER_CACHE, Call
from services.batcher.faces.core import Core
from services.batcher.faces.precondition import send_precondition, transcoder_errs
from services.common.errors import MeshError

Answer = Callable[[Call, bytes], Awaitable[bytes]]
"""The serialised request in, the serialised response out. Raises MeshError."""

CONTENT_TYPE = (b"content-type", b"application/grpc")


def _head(cached: CacheOutcome | None) -> Sent:
    headers = [CONTENT_TYPE] if cached is None else [CONTENT_TYPE, (HEADER_CACHE, cached.value.encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers, "trailers": True}


_HEADS: Mapping[CacheOutcome | None, Sent] = {cached: _head(cached) for cached in (None, *CacheOutcome)}
_OK_TRAILERS: Sent = {"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")], "more_trailers": False}
_NOT_GRPC = (
    b'{"error":"this path speaks gRPC: send content-type application/grpc over HTTP/2; '
    b'for REST ask the gateway, or /v2/models/{name}/infer here"}'
)


class UnaryMethod:
    """One method. `predicts` False: a question about the server, which is not counted as a prediction."""

    __slots__ = ("_answer", "_core", "_name", "_predicts")

    def __init__(self, name: str, answer: Answer, *, core: Core, predicts: bool = True) -> None:
        self._name = name
        self._answer = answer
        self._core = core
        self._predicts = predicts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one call."""
        core = self._core
        call = Call(dict(scope["headers"]), arrived_s=core.monotonic())
        core.begin(call)
        try:
            body = await read_body(receive)
            # Only now: whoever asks whether the caller is still there would otherwise take a part of the body.
            call.receive = receive
            reply = await self._answer(call, unframe(body))
        except asyncio.CancelledError as error:
            self._failed(call, error)
            if not call.gone:
                raise
            return
        except CallerGoneError as error:
            self._failed(call, error)
            return
        except Exception as error:
            known = self._failed(call, error)
            if transcoder_errs(call, known):
                await send_precondition(send, known)
            else:
                await (send_error(send, known) if speaks_grpc(call.headers) else send_unsupported(send))
            return
        finally:
            core.end(call)
        await send(_HEADS[call.cached])
        await send({"type": "http.response.body", "body": frame(reply), "more_body": False})
        await send(_OK_TRAILERS)

    def _failed(self, call: Call, error: BaseException) -> MeshError:
        if not self._predicts and isinstance(error, MeshError):
            return error
        return self._core.failed(call, error, face=self._name)


def speaks_grpc(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the caller said that it speaks gRPC."""
    return headers.get(b"content-type", b"").startswith(CONTENT_TYPE[1])


async def send_unsupported(send: Send) -> None:
    """What gRPC answers to callers who speak something else, in words that they can read."""
    await respond(send, 415, _NOT_GRPC, [(b"content-type", b"application/json")])


async def send_error(send: Send, error: MeshError) -> None:
    """A failure before any message: everything is in the head (gRPC's "Trailers-Only")."""
    headers: Headers = [CONTENT_TYPE, *error_trailers(error)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
