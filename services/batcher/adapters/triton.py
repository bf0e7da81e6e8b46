"""A Triton server as batches see it: one POST a batch over its HTTP endpoint, with binary tensors."""

from collections.abc import Sequence

from services.batcher.adapters.http_pool import HttpPool, PoolExchange
from services.batcher.adapters.http_probe import HttpProbe
from services.batcher.adapters.http_wire import GarbledError, Response
from services.batcher.adapters.triton_wire import RequestFormat, read_failure, read_outputs
from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape
from services.batcher.ports import BatchReceiver

_ANSWER_BYTES_MAX = 256 * 1024 * 1024


class TritonClient:
    """A `BackendClient`. Close it when done."""

    def __init__(self, http_address: str, *, connections_max: int = 64, connect_timeout_s: float = 1.0) -> None:
        self._pool = HttpPool(
            http_address,
            connections_max=connections_max,
            connect_timeout_s=connect_timeout_s,
            body_bytes_max=_ANSWER_BYTES_MAX,
        )
        self._probe = HttpProbe(http_address, connect_timeout_s=connect_timeout_s)

    @property
    def connections(self) -> int:
        """Connections for batches that are open or being opened."""
        return self._pool.connections

    def prepare(self, shape: CallShape, *, backend: Backend) -> "TritonCall":
        """The calls of one shape to one model."""
        written = RequestFormat(shape, server_model_name=backend.server_model_name, host=self._pool.address)
        return TritonCall(self._pool, written)

    async def ready(self) -> bool:
        """Whether the server answers that it is ready, within a second."""
        return await self._probe.passes("/v2/health/ready")

    async def close(self) -> None:
        """Closes every connection."""
        await self._probe.close()
        await self._pool.close()


class TritonCall:
    """A `PreparedCall`."""

    __slots__ = ("_format", "_pool")

    def __init__(self, pool: HttpPool, written: RequestFormat) -> None:
        self._pool = pool
        self._format = written

    def send(
        self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview], receiver: BatchReceiver
    ) -> PoolExchange:
        """Sends one batch."""
        written = self._format.write(rows, sizes_bytes, buffers, traceparent=receiver.traceparent)
        return self._pool.submit(written, _BatchReply(receiver))


class _BatchReply:
    __slots__ = ("_receiver",)

    def __init__(self, receiver: BatchReceiver) -> None:
        self._receiver = receiver

    def replied(self, response: Response) -> None:
        if response.status != 200:
            self._receiver.failed(read_failure(response))
            return
        try:
            outputs = read_outputs(response)
        except GarbledError as error:
            self._receiver.failed(BackendFailure(FailureKind.GARBLED, str(error)))
        else:
            self._receiver.answered(outputs)

    def failed(self, failure: BackendFailure) -> None:
        self._receiver.failed(failure)
