"""The batching engine: takes requests, answers each exactly once with its own rows or its own error."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.domain.serving import ServingTable
from services.batcher.engines.options import EngineOptions
from services.batcher.ports import BackendClientFactory, BatchObserver
from services.common.clock import Clock
from services.common.errors import MeshError, Reason


@dataclass(slots=True)
class Depth:
    """How much of one version is under way."""

    requests_waiting: int = 0
    rows_waiting: int = 0
    batches_in_flight: int = 0
    rows_in_flight: int = 0


@dataclass(slots=True)
class Counters:
    """What happened since the start."""

    requests: int = 0
    rows: int = 0
    batches: int = 0
    retries: int = 0
    refused: int = 0
    expired: int = 0
    cancelled: int = 0
    failed: int = 0


class Engine:
    """Joins requests into batches. One a process, on one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        open_client: BackendClientFactory,
        options: EngineOptions | None = None,
        observer: BatchObserver | None = None,
    ) -> None:
        self._clock = clock
        self._open_client = open_client
        self._options = options or EngineOptions()
        self._observer = observer
        self.counters = Counters()

    async def start(self) -> None:
        """Call it on the loop that will carry the requests."""

    async def stop(self, drain_s: float = 5.0) -> None:
        """Refuses new requests, answers what it has within `drain_s`, fails the rest with SHUTTING_DOWN."""

    def serve(self, table: ServingTable) -> None:
        """Tells what is served now, so that waiting requests follow their version to its new backends."""

    async def infer(self, request: InferRequest) -> InferResult:
        """The request's own rows. The request was validated; nobody changes it after.

        Cancelling the caller is free at any time. Raises DEADLINE_TOO_SHORT, QUEUE_FULL, MODEL_FAILED,
        BACKEND_UNAVAILABLE, BACKEND_PROTOCOL, SHUTTING_DOWN.
        """
        raise MeshError(
            Reason.BACKEND_UNAVAILABLE,
            f"no backend runs version {request.served.version} of model {request.served.model_name!r}; try again later",
            retry_after_s=1.0,
        )

    def depths(self) -> Mapping[tuple[str, str], Depth]:
        """How much is under way, by (model name, version)."""
        return {}
