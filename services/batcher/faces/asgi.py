"""ASGI as pyvoy speaks it, typed as far as the faces use it, and bodies read within their bound."""

from collections.abc import Awaitable, Callable
from typing import NotRequired, TypedDict

from services.batcher.codec.frames import HEADER_BYTES, Headers, too_large_error
from services.common.grpc.server import MESSAGE_MAX_BYTES

BODY_MAX_BYTES = MESSAGE_MAX_BYTES + HEADER_BYTES


class Scope(TypedDict):
    """A request's head. `path` is percent-decoded, header names are lower-case."""

    type: str
    method: str
    path: str
    raw_path: bytes
    query_string: bytes
    http_version: str
    headers: Headers
    client: NotRequired[tuple[str, int] | None]
    """Address and port of the caller."""


class Received(TypedDict):
    """`http.request`, or `http.disconnect` without a body."""

    type: str
    body: NotRequired[bytes]
    more_body: NotRequired[bool]


class Sent(TypedDict, total=False):
    """`http.response.start`, `.body` or `.trailers`."""

    type: str
    status: int
    headers: Headers
    trailers: bool
    body: bytes
    more_body: bool
    more_trailers: bool


Receive = Callable[[], Awaitable[Received]]
Send = Callable[[Sent], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


class CallerGoneError(Exception):
    """The caller hung up before its request was complete; there is nobody to answer."""


async def read_body(receive: Receive) -> bytes:
    """The whole body. Raises MESSAGE_TOO_LARGE, or CallerGoneError where the caller hung up."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise CallerGoneError
        body = message.get("body", b"")
        size += len(body)
        if size > BODY_MAX_BYTES:
            raise too_large_error(size)
        if not message.get("more_body"):
            return b"".join((*parts, body)) if parts else body
        parts.append(body)


async def respond(send: Send, status: int, body: bytes, headers: Headers) -> None:
    """A whole HTTP answer."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
