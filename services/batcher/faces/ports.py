"""What the faces need of the rest of the batcher, as small protocols."""

from typing import Protocol

from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.faces.call import Call


class InferEngine(Protocol):
    """Whoever answers a request that was checked."""

    async def infer(self, request: InferRequest) -> InferResult:
        """The request's own rows, or MeshError. Cancelling is free at any time."""
        ...


class RequestLog(Protocol):
    """Where finished requests are noted for the monitor. Takes a microsecond and never fails."""

    def add(self, call: Call, *, ended_s: float, code: int, reason: int) -> None:
        """Notes a request: its google.rpc.Code and ErrorReason, both 0 for success."""
        ...
