"""A model server that answers in the loop's time, as told, and remembers what it was sent."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, Parameter, Tensor
from services.batcher.domain.serving import Backend, Batching, ServedVersion
from services.batcher.domain.shape import CallShape
from services.batcher.ports import BatchReceiver
from services.common.schema import DataType, ModelSchema, TensorSpec

SCHEMA = ModelSchema(
    (TensorSpec("x", DataType.INT64, (2,)),),
    (TensorSpec("y", DataType.INT64, (2,)), TensorSpec("first", DataType.INT64)),
)
Answer = Callable[[int, bytes], "Sequence[Tensor] | BackendFailure"]


def row(number: int, other: int = 0) -> bytes:
    """One row of `x`."""
    return number.to_bytes(8, "little", signed=True) + other.to_bytes(8, "little", signed=True)


def echo(rows: int, data: bytes) -> list[Tensor]:
    """`y` is `x`, `first` its first column."""
    first = b"".join(data[at : at + 8] for at in range(0, len(data), 16))
    return [Tensor("first", DataType.INT64, (rows,), first), Tensor("y", DataType.INT64, (rows, 2), data)]


def backend(address: str = "a:1", *, capacity: float = 1.0) -> Backend:
    """A place at `address`."""
    return Backend(address, address, address, "m--v1", capacity)


def served(
    *backends: Backend, batching: Batching | None = None, schema: ModelSchema = SCHEMA, version: str = "v1.0.0"
) -> ServedVersion:
    """A version of the model "m"."""
    return ServedVersion("m", version, "d", schema, batching=batching or Batching(), backends=backends or (backend(),))


def request(
    version: ServedVersion,
    numbers: Sequence[int],
    *,
    deadline_s: float = 1000.0,
    outputs: tuple[str, ...] = (),
    parameters: tuple[tuple[str, Parameter], ...] = (),
    tenant: str = "",
    priority: Priority = Priority.CALLER,
) -> InferRequest:
    """A request with one row for each number."""
    data = b"".join(row(number) for number in numbers)
    tensor = Tensor("x", DataType.INT64, (len(numbers), 2), data)
    return InferRequest(
        version,
        len(numbers),
        (tensor,),
        deadline_s,
        outputs=outputs,
        parameters=parameters,
        tenant=tenant,
        priority=priority,
    )


@dataclass(eq=False)
class Sent:
    """One batch that came in."""

    shape: CallShape
    rows: int
    data: bytes
    receiver: BatchReceiver
    aborted: bool = False
    at_s: float = 0.0

    def abort(self) -> None:
        """The sender gave up."""
        self.aborted = True

    @property
    def numbers(self) -> list[int]:
        """The first column."""
        return [int.from_bytes(self.data[at : at + 8], "little", signed=True) for at in range(0, len(self.data), 16)]


@dataclass(eq=False)
class FakeServer:
    """Answers every batch with `answer` after `latency_s`; while `down` it refuses at once."""

    address: str
    latency_s: float = 0.01
    row_s: float = 0.0
    """So much longer for each row."""
    answer: Answer = echo
    down: bool = False
    held: bool = False
    """Keeps batches until `release`."""
    hung: bool = False
    """Takes what comes and answers nothing, probes included."""
    probes: int = 0
    closed: bool = False
    sent: list[Sent] = field(default_factory=list)
    waiting: deque[Sent] = field(default_factory=deque)

    def prepare(self, shape: CallShape, *, backend: Backend) -> "FakeCall":
        """As a client does."""
        return FakeCall(self, shape)

    async def ready(self) -> bool:
        """Whether it is up."""
        self.probes += 1
        if self.hung:
            await asyncio.sleep(1)
            return False
        return not self.down

    async def close(self) -> None:
        """As a client does."""
        self.closed = True
        while self.waiting:
            self.finish(self.waiting.popleft(), BackendFailure(FailureKind.LOST, "the client was closed"))

    def take(self, sent: Sent) -> None:
        """A batch comes in."""
        loop = asyncio.get_running_loop()
        sent.at_s = loop.time()
        self.sent.append(sent)
        if self.down:
            failure = BackendFailure(FailureKind.UNREACHABLE, "connection refused")
            loop.call_soon(self.finish, sent, failure)
        elif self.hung:
            return
        elif self.held:
            self.waiting.append(sent)
        else:
            loop.call_later(self.latency_s + sent.rows * self.row_s, self.reply, sent)

    def reply(self, sent: Sent) -> None:
        """Answers one batch as told."""
        if self.down:
            self.finish(sent, BackendFailure(FailureKind.LOST, "connection reset"))
        else:
            self.finish(sent, self.answer(sent.rows, sent.data))

    def finish(self, sent: Sent, outcome: Sequence[Tensor] | BackendFailure) -> None:
        """Calls the receiver, unless it gave up."""
        if sent.aborted:
            return
        if isinstance(outcome, BackendFailure):
            sent.receiver.failed(outcome)
        else:
            sent.receiver.answered(outcome)

    def release(self) -> None:
        """Answers the oldest batch that is held."""
        self.reply(self.waiting.popleft())


class FakeCall:
    """A `PreparedCall`."""

    def __init__(self, server: FakeServer, shape: CallShape) -> None:
        self._server = server
        self._shape = shape

    def send(
        self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview], receiver: BatchReceiver
    ) -> Sent:
        """As a client does."""
        data = b"".join(buffers)
        assert len(data) == sum(sizes_bytes)
        sent = Sent(self._shape, rows, data, receiver)
        self._server.take(sent)
        return sent


class Fleet:
    """A factory of clients that remembers its servers."""

    def __init__(self, *addresses: str) -> None:
        self.servers = {address: FakeServer(address) for address in addresses or ("a:1",)}

    def __call__(self, backend: Backend) -> FakeServer:
        """The server of that place."""
        return self.servers.setdefault(backend.server, FakeServer(backend.server))
