"""Unary gRPC methods: one frame in, one frame and trailers out."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.batcher.bridge.messages import Answer, Pairs, Request, answer
from services.batcher.codec.frames import error_trailers, frame, unframe
from services.batcher.domain.cached import CacheOutcome
from services.batcher.faces.bodies import whole_body
from services.batcher.faces.call import HEADER_CACHE, Call
from services.batcher.faces.caller import Asks
from services.batcher.faces.core import Core
from services.batcher.faces.precondition import precondition, transcoder_errs
from services.common.errors import MeshError

Method = Callable[[Call, bytes], Awaitable[bytes]]
"""The serialised request in, the serialised response out. Raises MeshError."""

CONTENT_TYPE = (b"content-type", b"application/grpc")


def _head(cached: CacheOutcome | None) -> Pairs:
    kept = [] if cached is None else [(HEADER_CACHE, cached.value.encode())]
    return [(b":status", b"200"), CONTENT_TYPE, *kept]


_HEADS: Mapping[CacheOutcome | None, Pairs] = {cached: _head(cached) for cached in (None, *CacheOutcome)}
_OK_TRAILERS: Pairs = [(b"grpc-status", b"0")]
_NOT_GRPC = (
    b'{"error":"this path speaks gRPC: send content-type application/grpc over HTTP/2; '
    b'for REST ask the gateway, or /v2/models/{name}/infer here"}'
)


class UnaryMethod:
    """One method. What asks for no prediction is not counted as one."""

    __slots__ = ("_answer", "_asks", "_core", "_name")

    def __init__(self, name: str, answer: Method, *, core: Core, asks: Asks = Asks.PREDICTION) -> None:
        self._name = name
        self._answer = answer
        self._core = core
        self._asks = asks

    async def __call__(self, request: Request) -> Answer:
        """Answers one call."""
        core, headers = self._core, request.headers
        now_s = core.monotonic()
        caller = core.callers.of(headers, now_s)
        call = Call(headers, arrived_s=now_s, caller=caller)
        core.begin(call)
        try:
            if caller.limited:
                caller.check(self._asks)
            reply = await self._answer(call, unframe(whole_body(request)))
        except asyncio.CancelledError as error:
            self._failed(call, error)
            raise
        except Exception as error:
            known = self._failed(call, error)
            if transcoder_errs(call, known):
                return precondition(known)
            return error_answer(known) if speaks_grpc(call.headers) else unsupported()
        finally:
            core.end(call)
        return Answer(_HEADS[call.cached], frame(reply), _OK_TRAILERS)

    def _failed(self, call: Call, error: BaseException) -> MeshError:
        if self._asks is not Asks.PREDICTION and isinstance(error, MeshError):
            return error
        return self._core.failed(call, error, face=self._name)


def speaks_grpc(headers: Mapping[bytes, bytes]) -> bool:
    """Whether the caller said that it speaks gRPC."""
    return headers.get(b"content-type", b"").startswith(CONTENT_TYPE[1])


def unsupported() -> Answer:
    """What gRPC answers to callers who speak something else, in words that they can read."""
    return answer(415, _NOT_GRPC, [(b"content-type", b"application/json")])


def error_answer(error: MeshError) -> Answer:
    """A failure before any message: everything is in the head (gRPC's "Trailers-Only")."""
    return answer(200, b"", [CONTENT_TYPE, *error_trailers(error)])
