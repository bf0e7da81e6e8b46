"""Small questions to a server over a connection of their own: one that queued behind batches would say that a busy
server is gone."""

import asyncio
import ssl
from collections.abc import Callable

from services.batcher.adapters.http_pool import HttpPool, ParserFactory
from services.batcher.adapters.http_wire import Response, ResponseParser
from services.batcher.domain.failure import BackendFailure

_TIMEOUT_S = 1.0
_BODY_BYTES_MAX = 64 * 1024

Answer = Callable[[Response | None], None]
"""Who is told the response; None: there is none."""


class HttpProbe:
    """Asks by GET. Close it when done."""

    def __init__(
        self,
        address: str,
        *,
        tls: ssl.SSLContext | None = None,
        bearer: Callable[[], str] | None = None,
        connect_timeout_s: float = 1.0,
        new_parser: ParserFactory = ResponseParser,
    ) -> None:
        self._pool = HttpPool(
            address,
            tls=tls,
            bearer=bearer,
            connections_max=1,
            connect_timeout_s=connect_timeout_s,
            body_bytes_max=_BODY_BYTES_MAX,
            new_parser=new_parser,
        )

    async def passes(self, path: str, *, any_answer: bool = False) -> bool:
        """Whether the answer is 200, or comes at all, within a second."""
        answered: asyncio.Future[bool] = asyncio.get_running_loop().create_future()

        def settle(response: Response | None) -> None:
            if not answered.done():
                answered.set_result(response is not None and (any_answer or response.status == 200))

        exchange = self._pool.submit(self._get(path), _ProbeReply(settle))
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                return await answered
        except TimeoutError:
            return False
        finally:
            if not answered.done() or answered.cancelled():
                exchange.abort()

    def ask(self, path: str, answer: Answer) -> None:
        """Asks, and returns at once."""
        self._pool.submit(self._get(path), _ProbeReply(answer))

    async def close(self) -> None:
        """Closes the connection; what is under way has no response."""
        await self._pool.close()

    def _get(self, path: str) -> bytes:
        return f"GET {path} HTTP/1.1\r\nHost: {self._pool.address}\r\n\r\n".encode()


class _ProbeReply:
    __slots__ = ("_answer",)

    def __init__(self, answer: Answer) -> None:
        self._answer = answer

    def replied(self, response: Response) -> None:
        self._answer(response)

    def failed(self, failure: BackendFailure) -> None:  # noqa: ARG002 - any failure is a no
        self._answer(None)
