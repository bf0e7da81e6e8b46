"""A batch that a protocol has no words for: it fails like one that the model refused, so that its members are tried
apart and only the guilty ones are told."""

import asyncio

from services.batcher.domain.failure import BackendFailure, FailureKind
from services.batcher.ports import BatchReceiver


class UnsayableError(Exception):
    """A batch cannot be said in this protocol. The text says why, and what to do."""


class RefusedExchange:
    """An `Exchange` that never leaves."""

    __slots__ = ("_handle",)

    def __init__(self, receiver: BatchReceiver, error: UnsayableError) -> None:
        failure = BackendFailure(FailureKind.MODEL, str(error))
        # Nobody is called before the sender knows what it sent.
        self._handle = asyncio.get_running_loop().call_soon(receiver.failed, failure)

    def abort(self) -> None:
        """The receiver hears nothing more."""
        self._handle.cancel()
