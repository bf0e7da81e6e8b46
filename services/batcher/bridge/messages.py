"""What the bridge and the faces say to each other: requests, answers, streams, and whoever answers them."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, Protocol

Pairs = Sequence[tuple[bytes, bytes]]
"""Headers or trailers, names in lower case."""


SOURCE_ADDRESS = b":source-address"
"""Among the headers of requests without a body: address and port of the caller."""


class Request:
    """A whole request."""

    __slots__ = ("body", "complete", "headers", "method", "path")

    def __init__(self, method: str, path: str, headers: Mapping[bytes, bytes], body: bytes, complete: bool) -> None:
        self.method = method
        self.path = path
        """Without the query, percent-decoded."""
        self.headers = headers
        """Names in lower case; of a header that comes twice, the last."""
        self.body = body
        self.complete = complete
        """False: the body is larger than what is taken, and was cut off."""


class Answer(NamedTuple):
    """A whole answer."""

    headers: Pairs
    """With `:status` first."""
    body: bytes
    trailers: Pairs | None = None


def answer(status: int, body: bytes, headers: Pairs, trailers: Pairs | None = None) -> Answer:
    """An answer with this status."""
    return Answer([(b":status", b"%d" % status), *headers], body, trailers)


class Exchange(Protocol):
    """A stream: what the caller sends comes piece by piece, and so may the answer go."""

    @property
    def headers(self) -> Mapping[bytes, bytes]:
        """The caller's."""
        ...

    async def receive(self) -> tuple[bytes, bool]:
        """The next piece, and whether more will follow. Not to be called after the last."""
        ...

    async def send(self, body: bytes, *, headers: Pairs | None = None) -> None:
        """Begins the answer, where there are headers, and sends a piece; returns when more may be sent."""
        ...

    def end(self, trailers: Pairs, *, headers: Pairs | None = None) -> None:
        """Ends the answer."""
        ...


Handler = Callable[[Request], Awaitable[Answer]]
"""Answers a request. It is cancelled when the caller hangs up."""
StreamHandler = Callable[[Exchange], Awaitable[None]]
"""Answers a stream. It is cancelled when the caller hangs up."""


class Site(Protocol):
    """An application on one loop, as the bridge sees it."""

    async def start(self) -> None:
        """Begins; requests come when it returned. Raises where it cannot."""
        ...

    async def stop(self) -> None:
        """Ends."""
        ...

    def finder(self) -> Callable[[str], Handler]:
        """Tells who answers a path. Asked once, after the start."""
        ...

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """Who answers the paths that are handed over piece by piece."""
        ...
