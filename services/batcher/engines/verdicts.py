"""The errors that a version's callers are answered with, each at most once and counted."""

from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.queue import Waiter
from services.batcher.domain.refusals import failed, too_late
from services.batcher.engines.counters import Counters
from services.common.errors import MeshError


class Verdicts:
    """Tells callers of one version that they get nothing."""

    __slots__ = ("_counters", "_model_name", "_version")

    def __init__(self, model_name: str, version: str, counters: Counters) -> None:
        self._model_name = model_name
        self._version = version
        self._counters = counters

    def expire(self, waiter: Waiter, now_s: float, *, sent: bool) -> None:
        """Its deadline has passed."""
        if not waiter.caller.done():
            self._counters.expired += 1
            waiter.caller.set_exception(too_late(self._model_name, self._version, now_s - waiter.arrived_s, sent=sent))

    def fail(self, waiter: Waiter, error: MeshError) -> None:
        """Any other error."""
        if not waiter.caller.done():
            self._counters.failed += 1
            waiter.caller.set_exception(error)

    def failed(self, waiter: Waiter, failure: BackendFailure) -> None:
        """The failure of its batch is final for it."""
        self.fail(waiter, failed(self._model_name, self._version, failure))
