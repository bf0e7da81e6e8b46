"""A bounded pool of keep-alive connections to one server, each carrying one exchange at a time.

A bare protocol instead of a client library: a batch costs one write, one read and no task. Exchanges have no timeout of
their own; whoever started one gives up with `abort`, and has a deadline for that.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

from services.batcher.adapters.http_wire import GarbledError, Response, ResponseParser
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.common.outside_credentials import NoCredentialError
from services.common.outside_tls import tls_fault
from services.common.server_address import ServerAddress


class Reply(Protocol):
    """Who waits for a response. Exactly one of the two is called, unless the exchange was aborted."""

    def replied(self, response: Response) -> None:
        """The response."""
        ...

    def failed(self, failure: BackendFailure) -> None:
        """There is none: UNREACHABLE, LOST or GARBLED."""
        ...


class PoolExchange:
    """A request on its way."""

    __slots__ = ("_pool", "connection", "payload", "reply", "resent")

    def __init__(self, pool: "HttpPool", payload: bytes, reply: Reply) -> None:
        self._pool = pool
        self.payload = payload
        self.reply: Reply | None = reply
        self.connection: _Connection | None = None
        self.resent = False

    def abort(self) -> None:
        """Gives up at once. The connection goes too: its answer would be in the way of the next."""
        self.reply = None
        if self.connection is not None:
            self.connection.abort()
        else:
            self._pool.withdraw(self)

    def fail(self, kind: FailureKind, message: str) -> None:
        """Tells whoever waits that there is no response."""
        reply, self.reply = self.reply, None
        if reply is not None:
            reply.failed(BackendFailure(kind, message))


class Parser(Protocol):
    """Reads one response after another off one connection."""

    @property
    def untouched(self) -> bool:
        """Whether nothing of the next response has come."""
        ...

    def feed(self, data: bytes) -> Response | None:
        """The response that is complete with `data`; None while it is not. Raises GarbledError."""
        ...


class ParserFactory(Protocol):
    """Makes the parser of a connection."""

    def __call__(self, *, body_bytes_max: int) -> Parser:
        """One that takes bodies of at most so many bytes."""
        ...


class HttpPool:
    """Connections to `address`, "host:port", opened as they are needed: by TLS where `tls` says whose certificates are
    believed, and then the server must show one for that host. `bearer` is the token that every request shows, asked for
    before each; it raises NoCredentialError. None: none is shown."""

    def __init__(
        self,
        address: str,
        *,
        connections_max: int,
        connect_timeout_s: float,
        body_bytes_max: int,
        new_parser: ParserFactory = ResponseParser,
        tls: ssl.SSLContext | None = None,
        bearer: Callable[[], str] | None = None,
    ) -> None:
        self.address = address
        self._at = ServerAddress(address)
        self._tls = tls
        self._bearer = bearer
        self.shown = ""
        """The token that was shown last."""
        self._connections_max = connections_max
        self._connect_timeout_s = connect_timeout_s
        self._body_bytes_max = body_bytes_max
        self._new_parser = new_parser
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[PoolExchange] = deque()
        self._connects: set[asyncio.Task[None]] = set()
        self._closed = False

    @property
    def connections(self) -> int:
        """Connections that are open or being opened."""
        return len(self._open) + len(self._connects)

    def submit(self, payload: bytes, reply: Reply) -> PoolExchange:
        """Sends a whole request, at once or when a connection is free. Never calls `reply` before it returned."""
        if self._bearer is not None:
            try:
                self.shown = self._bearer()
            except NoCredentialError as error:
                unsent = PoolExchange(self, payload, reply)
                asyncio.get_running_loop().call_soon(unsent.fail, FailureKind.UNREACHABLE, str(error))
                return unsent
            payload = authorized(payload, self.shown)
        exchange = PoolExchange(self, payload, reply)
        self._place(exchange)
        return exchange

    def withdraw(self, exchange: PoolExchange) -> None:
        """Takes out an exchange that waits for a connection."""
        if exchange in self._waiting:
            self._waiting.remove(exchange)

    async def close(self) -> None:
        """Closes every connection; what is under way fails as LOST."""
        self._closed = True
        connects = list(self._connects)
        for task in connects:
            task.cancel()
        await asyncio.gather(*connects, return_exceptions=True)
        self._fail_waiting("the client was closed")
        for connection in list(self._open):
            connection.abort()
        # A transport closes in the next turn of the loop.
        await asyncio.sleep(0)

    # -- for the connections

    @property
    def closed(self) -> bool:
        """Whether nothing is sent any more."""
        return self._closed

    def opened(self, connection: "_Connection") -> None:
        """One is ready for its first exchange."""
        self._open.add(connection)

    def freed(self, connection: "_Connection") -> None:
        """One has finished its exchange."""
        if self._waiting:
            connection.carry(self._waiting.popleft())
        else:
            self._idle.append(connection)

    def lost(self, connection: "_Connection") -> None:
        """One is closed."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._reach()

    def stale(self, exchange: PoolExchange) -> None:
        """The server closed a kept connection on which nothing of the answer had come: most likely it had closed it
        before `exchange` was sent. It gets a new connection, once; the other kept ones are probably closed as well."""
        exchange.resent = True
        exchange.connection = None
        for connection in self._idle:
            connection.abort()
        self._idle.clear()
        self._place(exchange)

    # -- inside

    def _place(self, exchange: PoolExchange) -> None:
        while self._idle:
            connection = self._idle.pop()
            if connection.alive:
                connection.carry(exchange)
                return
        self._waiting.append(exchange)
        self._reach()

    def _reach(self) -> None:
        """Opens as many connections as there are exchanges without one, within the bound."""
        while len(self._connects) < len(self._waiting) and self.connections < self._connections_max:
            if self._closed:
                asyncio.get_running_loop().call_soon(self._fail_waiting, "the client is closed")
                return
            task = asyncio.get_running_loop().create_task(self._connect(), name=f"connect {self.address}")
            self._connects.add(task)
            task.add_done_callback(self._connects.discard)

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        failure = ""
        connection: _Connection | None = None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: _Connection(self, self._new_parser(body_bytes_max=self._body_bytes_max)),
                    self._at.host,
                    self._at.port,
                    ssl=self._tls,
                    server_hostname=self._at.host if self._tls is not None else None,
                )
        except TimeoutError:
            failure = f"{self.address} did not take a connection within {self._connect_timeout_s:g} s"
        except OSError as error:
            fault = tls_fault(str(error)) if self._tls is not None else ""
            failure = f"{self.address} {fault or f'takes no connection ({error.strerror or error})'}"
        # Whoever is told may submit at once, and must find that this attempt is over.
        self._connects.discard(cast("asyncio.Task[None]", asyncio.current_task()))
        if connection is not None and connection.alive:
            self.freed(connection)
        else:
            self._fail_waiting(failure or f"{self.address} closed a new connection at once")

    def _fail_waiting(self, message: str) -> None:
        """Who can't connect for one can't for any: all who wait hear of it at once."""
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            exchange.fail(FailureKind.UNREACHABLE, message)


def authorized(request: bytes, token: str) -> bytes:
    """The request with the token behind its first line."""
    first, end, rest = request.partition(b"\r\n")
    return b"".join((first, end, b"Authorization: Bearer ", token.encode(), end, rest))


class _Connection(asyncio.Protocol):
    """One connection, with at most one exchange."""

    def __init__(self, pool: HttpPool, parser: Parser) -> None:
        self._pool = pool
        self._parser = parser
        self._transport: asyncio.Transport | None = None
        self._exchange: PoolExchange | None = None
        self._used = False

    @property
    def alive(self) -> bool:
        """Whether it can carry an exchange, as far as is known here."""
        return self._transport is not None and not self._transport.is_closing()

    def carry(self, exchange: PoolExchange) -> None:
        """Sends a request."""
        assert self._transport is not None
        self._exchange = exchange
        exchange.connection = self
        self._transport.write(exchange.payload)

    def abort(self) -> None:
        """Closes at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The loop has connected."""
        # Not every loop's transports are subclasses of asyncio's.
        self._transport = cast("asyncio.Transport", transport)
        self._pool.opened(self)

    def data_received(self, data: bytes) -> None:
        """A piece of a response."""
        exchange = self._exchange
        if exchange is None:
            # Nothing was asked: whatever this is, it would be taken for the next answer.
            self.abort()
            return
        try:
            response = self._parser.feed(data)
        except GarbledError as error:
            self._exchange = None
            self.abort()
            exchange.fail(FailureKind.GARBLED, f"{self._pool.address}: {error}")
            return
        if response is None:
            return
        self._exchange = None
        exchange.connection = None
        self._used = True
        reply, exchange.reply = exchange.reply, None
        # The connection is free before the answer is handed on, because that sends the next batch.
        if not response.keep_alive:
            self.abort()
        elif self.alive:
            self._pool.freed(self)
        if reply is not None:
            reply.replied(response)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, by either side."""
        self._transport = None
        exchange, self._exchange = self._exchange, None
        if exchange is not None and exchange.reply is not None:
            if self._used and self._parser.untouched and not exchange.resent and not self._pool.closed:
                self._pool.stale(exchange)
            else:
                exchange.connection = None
                exchange.fail(FailureKind.LOST, f"{self._pool.address} closed the connection ({exc or 'end of data'})")
        self._pool.lost(self)
