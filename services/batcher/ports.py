"""What the engine needs of the world, as small protocols. Each has a fake that passes the same tests.

A batch goes out by one call and its answer comes back by one call, both synchronous: at tens of thousands of requests a
second a task or a coroutine for each batch is what costs most.
"""

from collections.abc import Sequence
from typing import Protocol

from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.request import Tensor
from services.batcher.domain.serving import Backend
from services.batcher.domain.shape import CallShape


class BatchReceiver(Protocol):
    """Whoever sent a batch. Exactly one of the two is called, once, unless the exchange was aborted before."""

    @property
    def traceparent(self) -> bytes:
        """The W3C trace context of the batch, for servers that trace; empty where it is not traced."""
        ...

    def answered(self, outputs: Sequence[Tensor]) -> None:
        """The backend's outputs, as it ordered and shaped them: nothing is checked yet."""
        ...

    def failed(self, failure: BackendFailure) -> None:
        """There is no answer."""
        ...


class Exchange(Protocol):
    """A batch on its way."""

    def abort(self) -> None:
        """Gives up at once; the receiver hears nothing more."""
        ...


class PreparedCall(Protocol):
    """A call of one model with tensors of one shape: all but rows and data is settled."""

    def send(
        self, rows: int, sizes_bytes: Sequence[int], buffers: Sequence[bytes | memoryview], receiver: BatchReceiver
    ) -> Exchange:
        """Sends one batch. `buffers` follow one another as tensors do; `sizes_bytes` has one entry for each tensor.

        Never blocks, and never calls the receiver before it returned.
        """
        ...


class BackendClient(Protocol):
    """One model server."""

    def prepare(self, shape: CallShape, *, backend: Backend) -> PreparedCall:
        """Settles what batches of that shape have in common. `backend` is a place on this server."""
        ...

    async def ready(self) -> bool:
        """Whether the server answers. Never raises and never takes longer than a second."""
        ...

    async def close(self) -> None:
        """Closes every connection; what is in flight fails."""
        ...


class BackendClientFactory(Protocol):
    """Makes clients. Making one opens no connection."""

    def __call__(self, backend: Backend) -> BackendClient:
        """The client of the server that this backend, and maybe others, are places on."""
        ...


class Activator(Protocol):
    """Who loads versions that are cold."""

    async def activate(self, model_name: str, version: str) -> None:
        """Has a version loaded, and returns once it is ready. Asking for one several times loads it once. Cancelling is
        free at any time.

        Raises MeshError where it cannot be loaded, and NoAnswerError where nobody says anything.
        """
        ...


class ActivationObserver(Protocol):
    """Who counts cold starts, for metrics."""

    def activation_ended(self, model_name: str, version: str, *, answered: bool) -> None:
        """The deployer had it loaded, or said why it could not."""
        ...

    def cold_start_ended(self, model_name: str, version: str, seconds: float) -> None:
        """The first batch has left, so long after the first request had come."""
        ...


class BatchObserver(Protocol):
    """Who counts batches, for metrics. Called once for each batch, so it may take a microsecond and no more."""

    def batch_answered(self, model_name: str, version: str, run: BatchRun) -> None:
        """A batch was answered."""
        ...

    def batch_failed(self, model_name: str, version: str, run: BatchRun, *, kind: str) -> None:
        """A batch was sent and not answered; `kind` is a FailureKind's name. Its members may be tried again."""
        ...
