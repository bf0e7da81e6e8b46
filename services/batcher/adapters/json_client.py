"""A model server over HTTP that is none of the mesh's own: one POST a batch, in whatever words its protocol has."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from services.batcher.adapters.http_chunks import AnyFramingParser
from services.batcher.adapters.http_pool import HttpPool
from services.batcher.adapters.http_probe import HttpProbe
from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import RefusedExchange, UnsayableError
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape
from services.batcher.ports import BatchReceiver, Exchange
from services.common.outside_credentials import without

_ANSWER_BYTES_MAX = 256 * 1024 * 1024


class BatchFormat(Protocol):
    """The requests of one shape to one model, and their answers."""

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """One whole request. Raises UnsayableError."""
        ...

    def read(self, response: Response) -> Sequence[Tensor]:
        """The outputs of an answer 200. Raises GarbledError."""
        ...

    def failure(self, response: Response) -> BackendFailure:
        """What any other answer means."""
        ...


class Dialect(Protocol):
    """What is particular to a protocol."""

    health_path: str
    """What is asked to see whether the server is there."""
    any_answer: bool
    """Whether any answer to that says so, or only 200."""

    def met(self, probe: HttpProbe) -> None:
        """The server was not known, or answers again: whatever it has to say of itself may be asked now."""
        ...

    def format(self, shape: CallShape, backend: Backend, *, host: str) -> BatchFormat:
        """The requests of one shape to one model."""
        ...


class JsonClient:
    """A `BackendClient`. Close it when done."""

    def __init__(
        self,
        outside: Outside,
        dialect: Dialect,
        *,
        connections_max: int = 64,
        connect_timeout_s: float = 1.0,
    ) -> None:
        self._dialect = dialect
        at = outside.at
        context = outside.tls.for_sockets if at.tls else None
        bearer = outside.bearer if outside.credential else None
        self._pool = HttpPool(
            at.host_port,
            tls=context,
            bearer=bearer,
            connections_max=connections_max,
            connect_timeout_s=connect_timeout_s,
            body_bytes_max=_ANSWER_BYTES_MAX,
            new_parser=AnyFramingParser,
        )
        self._probe = HttpProbe(
            at.host_port, tls=context, bearer=bearer, connect_timeout_s=connect_timeout_s, new_parser=AnyFramingParser
        )
        self._met = False

    def prepare(self, shape: CallShape, *, backend: Backend) -> "JsonCall":
        """The calls of one shape to one model."""
        if not self._met:
            self._met = True
            self._dialect.met(self._probe)
        return JsonCall(self._pool, self._dialect.format(shape, backend, host=self._pool.address))

    async def ready(self) -> bool:
        """Whether the server answers, within a second."""
        ready = await self._probe.passes(self._dialect.health_path, any_answer=self._dialect.any_answer)
        if ready:
            # It may have come back as another program.
            self._dialect.met(self._probe)
        return ready

    async def close(self) -> None:
        """Closes every connection."""
        await self._probe.close()
        await self._pool.close()


class JsonCall:
    """A `PreparedCall`."""

    __slots__ = ("_format", "_pool")

    def __init__(self, pool: HttpPool, written: BatchFormat) -> None:
        self._pool = pool
        self._format = written

    def send(
        self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview], receiver: BatchReceiver
    ) -> Exchange:
        """Sends one batch."""
        try:
            payload = self._format.write(rows, sizes_bytes, buffers)
        except UnsayableError as error:
            return RefusedExchange(receiver, error)
        return self._pool.submit(payload, _Reply(receiver, self._format, self._pool))


class _Reply:
    __slots__ = ("_format", "_pool", "_receiver")

    def __init__(self, receiver: BatchReceiver, written: BatchFormat, pool: HttpPool) -> None:
        self._receiver = receiver
        self._format = written
        self._pool = pool

    def replied(self, response: Response) -> None:
        if response.status != 200:
            failure = self._format.failure(response)
            self._receiver.failed(replace(failure, message=without(self._pool.shown, failure.message)))
            return
        try:
            outputs = self._format.read(response)
        except GarbledError as error:
            self._receiver.failed(BackendFailure(FailureKind.GARBLED, str(error)))
        else:
            self._receiver.answered(outputs)

    def failed(self, failure: BackendFailure) -> None:
        self._receiver.failed(failure)


def post(path: str, host: str, body: bytes) -> bytes:
    """A whole request with a JSON body."""
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_NOT_SERVED = frozenset({401, 403, 404, 405})
"""Nothing here for us: the model is not there, or not for this caller."""
_BUSY = frozenset({429, 503})
_BROKEN = frozenset({502, 504})
"""A proxy in front has lost the server."""


def kind_of(status: int) -> FailureKind:
    """What a status other than 200 calls for, where nothing else is known."""
    if status in _NOT_SERVED:
        return FailureKind.MISSING
    if status in _BUSY:
        return FailureKind.OVERLOADED
    return FailureKind.LOST if status in _BROKEN else FailureKind.MODEL
