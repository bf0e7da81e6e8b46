"""The errors that a version's callers are answered with, each at most once and counted."""

from collections.abc import Callable

from services.batcher.domain.failure import BackendFailure
from services.batcher.domain.queue import Waiter
from services.batcher.domain.refusals import cut_off, failed, still_cold, too_late
from services.batcher.engines.counters import Counters
from services.common.errors import MeshError


class Verdicts:
    """Tells callers of one version that they get nothing."""

    __slots__ = ("_counters", "_cut_off", "_loading", "_model_name", "_version")

    def __init__(
        self,
        model_name: str,
        version: str,
        counters: Counters,
        cut_off: Callable[[float], str],
        loading: Callable[[float], str],
    ) -> None:
        """`cut_off` says why no backend of the version is there, `loading` what has come of having it loaded where it
        is cold; both empty where that is not so."""
        self._model_name = model_name
        self._version = version
        self._counters = counters
        self._cut_off = cut_off
        self._loading = loading

    def expire(self, waiter: Waiter, now_s: float, *, sent: bool, sent_s: float | None = None) -> None:
        """Its deadline has passed. `sent_s`: when its batch left, where that is on its way."""
        if not waiter.caller.done():
            self._counters.expired += 1
            running_s = now_s - sent_s if sent_s is not None else None
            waiter.caller.set_exception(self.late(now_s - waiter.arrived_s, now_s, sent=sent, running_s=running_s))

    def late(self, waited_s: float, now_s: float, *, sent: bool, running_s: float | None = None) -> MeshError:
        """What someone is told whose deadline has passed."""
        loading = "" if sent else self._loading(now_s)
        if loading:
            return still_cold(self._model_name, self._version, waited_s, doing=loading)
        backends = "" if sent else self._cut_off(now_s)
        if backends:
            return cut_off(self._model_name, self._version, waited_s, backends=backends)
        return too_late(self._model_name, self._version, waited_s, sent=sent, running_s=running_s)

    def fail(self, waiter: Waiter, error: MeshError) -> None:
        """Any other error."""
        if not waiter.caller.done():
            self._counters.failed += 1
            waiter.caller.set_exception(error)

    def failed(self, waiter: Waiter, failure: BackendFailure) -> None:
        """The failure of its batch is final for it."""
        self.fail(waiter, failed(self._model_name, self._version, failure))
