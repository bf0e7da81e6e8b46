"""A model server over gRPC: one unary call a batch.

Each call has a task, because that is what gRPC's Python gives answers to. It costs some 300 µs of CPU a batch, which is
why the mesh's own servers are not spoken to by it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import grpc

from services.batcher.adapters.http_wire import GarbledError
from services.batcher.adapters.outside import Outside
from services.batcher.adapters.refused import RefusedExchange, UnsayableError
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape
from services.batcher.ports import BatchReceiver, Exchange
from services.common.outside_credentials import NoCredentialError, without
from services.common.outside_tls import tls_fault

_ANSWER_BYTES_MAX = 256 * 1024 * 1024
_PROBE_TIMEOUT_S = 1.0
_MESSAGE_LENGTH_MAX = 2000
_OPTIONS = (
    ("grpc.max_receive_message_length", _ANSWER_BYTES_MAX),
    ("grpc.max_send_message_length", _ANSWER_BYTES_MAX),
    # Whoever is down is probed by the engine, with pauses of its own: a channel that waits longer would say that a
    # server which is back is not.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 400),
    ("grpc.max_reconnect_backoff_ms", 400),
    # A batch that was lost is the engine's to send again, or not.
    ("grpc.enable_retries", 0),
    # Each client has connections of its own, which end with it.
    ("grpc.use_local_subchannel_pool", 1),
)
_CODES = {
    grpc.StatusCode.NOT_FOUND: FailureKind.MISSING,
    grpc.StatusCode.UNIMPLEMENTED: FailureKind.MISSING,
    grpc.StatusCode.UNAUTHENTICATED: FailureKind.MISSING,
    grpc.StatusCode.PERMISSION_DENIED: FailureKind.MISSING,
    grpc.StatusCode.RESOURCE_EXHAUSTED: FailureKind.OVERLOADED,
    grpc.StatusCode.UNAVAILABLE: FailureKind.LOST,
    grpc.StatusCode.CANCELLED: FailureKind.LOST,
    grpc.StatusCode.DEADLINE_EXCEEDED: FailureKind.LOST,
}
_NOT_SENT = ("failed to connect to all addresses", "DNS resolution failed", "connections to all backends failing")
"""How gRPC says that there was no connection."""
_SILENT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
_TYPE_PROBLEMS = frozenset(
    {
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.FAILED_PRECONDITION,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    }
)


class CallFormat(Protocol):
    """The calls of one shape to one model, and their answers."""

    def write(self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview]) -> bytes:
        """A request. Raises UnsayableError."""
        ...

    def read(self, answer: bytes) -> Sequence[Tensor]:
        """The outputs of an answer. Raises GarbledError."""
        ...

    def otherwise(self, request: bytes) -> bytes | None:
        """The same request in other words, for a server that may not know these; None where there are none."""
        ...

    def understood(self) -> None:
        """The server has answered the words of `write`."""
        ...

    def misunderstood(self) -> None:
        """It has answered the words of `otherwise` and not the others."""
        ...


class GrpcDialect(Protocol):
    """What is particular to a protocol."""

    infer_method: str
    """The full name of the method that predicts."""
    probe_method: str
    """The full name of one that is asked to see whether the server is there. Any answer to it says so."""
    probe_request: bytes

    def format(self, shape: CallShape, backend: Backend) -> CallFormat:
        """The calls of one shape to one model."""
        ...


class GrpcClient:
    """A `BackendClient`. Close it when done."""

    def __init__(self, outside: Outside, dialect: GrpcDialect) -> None:
        at = outside.at
        self.address = at.host_port
        self._outside = outside
        self._dialect = dialect
        self._shown = ""
        self._channel = (
            grpc.aio.secure_channel(at.host_port, outside.tls.for_channels(), options=_OPTIONS)
            if at.tls
            else grpc.aio.insecure_channel(at.host_port, options=_OPTIONS)
        )
        self.infer: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(dialect.infer_method)
        self._probe: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = self._channel.unary_unary(dialect.probe_method)
        self.calls: set[asyncio.Task[None]] = set()

    def prepare(self, shape: CallShape, *, backend: Backend) -> "GrpcCall":
        """The calls of one shape to one model."""
        return GrpcCall(self, self._dialect.format(shape, backend))

    def shown(self) -> tuple[tuple[str, str], ...]:
        """The metadata of every call. Raises NoCredentialError."""
        token = self._shown = self._outside.bearer()
        return (("authorization", f"Bearer {token}"),) if token else ()

    def failure_of(self, error: grpc.aio.AioRpcError) -> BackendFailure:
        """What a call's end calls for."""
        failure = failure_of(error)
        return replace(failure, message=without(self._shown, failure.message))

    async def ready(self) -> bool:
        """Whether the server answers, within a second."""
        try:
            # The channel may be about to try again, and knows only then that the server is back.
            await self._probe(
                self._dialect.probe_request, timeout=_PROBE_TIMEOUT_S, wait_for_ready=True, metadata=self.shown()
            )
        except NoCredentialError:
            return False
        except grpc.aio.AioRpcError as error:
            return error.code() not in _SILENT
        return True

    async def close(self) -> None:
        """Closes the connection; what is under way fails as LOST."""
        await self._channel.close()
        if self.calls:
            await asyncio.wait(self.calls)


class GrpcCall:
    """A `PreparedCall`."""

    __slots__ = ("_client", "_format")

    def __init__(self, client: GrpcClient, written: CallFormat) -> None:
        self._client = client
        self._format = written

    def send(
        self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview], receiver: BatchReceiver
    ) -> Exchange:
        """Sends one batch."""
        try:
            request = self._format.write(rows, sizes_bytes, buffers)
        except UnsayableError as error:
            return RefusedExchange(receiver, error)
        return GrpcExchange(self._client, self._format, request, receiver)


class GrpcExchange:
    """A call on its way."""

    def __init__(self, client: GrpcClient, written: CallFormat, request: bytes, receiver: BatchReceiver) -> None:
        self._client = client
        self._format = written
        self._request = request
        self._receiver: BatchReceiver | None = receiver
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"batch to {client.address}")
        client.calls.add(self._task)
        self._task.add_done_callback(client.calls.discard)

    def abort(self) -> None:
        """Gives up at once."""
        self._receiver = None
        self._task.cancel()

    async def _run(self) -> None:
        try:
            outcome = await self._exchange()
        except asyncio.CancelledError:
            # gRPC cancels what is under way when its channel is closed.
            if self._receiver is None:
                raise
            outcome = BackendFailure(FailureKind.LOST, "the client was closed")
        receiver, self._receiver = self._receiver, None
        if receiver is None:
            return
        if isinstance(outcome, BackendFailure):
            receiver.failed(outcome)
        else:
            receiver.answered(outcome)

    async def _exchange(self) -> Sequence[Tensor] | BackendFailure:
        written = self._format
        try:
            shown = self._client.shown()
            answer = await self._client.infer(self._request, metadata=shown)
            written.understood()
        except NoCredentialError as error:
            return BackendFailure(FailureKind.UNREACHABLE, str(error))
        except grpc.aio.UsageError:
            return BackendFailure(FailureKind.UNREACHABLE, "the client is closed")
        except grpc.aio.AioRpcError as error:
            other = written.otherwise(self._request) if error.code() in _TYPE_PROBLEMS else None
            if other is None:
                return self._client.failure_of(error)
            try:
                answer = await self._client.infer(other, metadata=shown)
            except grpc.aio.AioRpcError:
                return self._client.failure_of(error)
            written.misunderstood()
        try:
            return written.read(answer)
        except GarbledError as error:
            return BackendFailure(FailureKind.GARBLED, str(error))


def failure_of(error: grpc.aio.AioRpcError) -> BackendFailure:
    """What a call's end calls for."""
    code, details = error.code(), error.details() or ""
    message = " ".join(details.split())[:_MESSAGE_LENGTH_MAX] or f"gRPC {code.name}"
    kind = _CODES.get(code, FailureKind.MODEL)
    if code is grpc.StatusCode.UNAVAILABLE and details.startswith(_NOT_SENT):
        kind = FailureKind.UNREACHABLE
        fault = tls_fault(details)
        message = f"the server {fault}" if fault else message
    elif code is grpc.StatusCode.UNAVAILABLE and "queue" in details:
        # TensorFlow Serving's own batching says so when it has no room.
        kind = FailureKind.OVERLOADED
    elif code is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in details:
        # The batch is too large for this server, not the server too busy: its halves may fit.
        kind = FailureKind.MODEL
    elif "is not ready" in details:
        kind = FailureKind.MISSING
    return BackendFailure(kind, message)
