"""Versions that are cold: whoever asks for one waits, and it is loaded once for all of them.

A call to the deployer is made while somebody waits and not oftener than once at a time. What it says decides: that the
version is ready, then the serving table will list its backends, and the lane sends; that it cannot be loaded, then all
who wait are told, and for a moment whoever comes; nothing at all, then it is asked again for as long as somebody waits.
Nothing here is on the way of a request for a version that is loaded.
"""

import asyncio
from math import inf
from typing import TYPE_CHECKING

from services.batcher.domain.activation import NoAnswerError
from services.batcher.domain.priority import Priority
from services.batcher.domain.refusals import not_for_copies, not_loaded, unforeseen
from services.batcher.engines.options import EngineOptions
from services.batcher.ports import ActivationObserver, Activator
from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.telemetry.logging import get_logger

if TYPE_CHECKING:
    from services.batcher.engines.lane import Lane

log = get_logger(__name__)


class NobodyLoads:
    """An `Activator` where there is no deployer."""

    async def activate(self, model_name: str, version: str) -> None:
        """Refuses."""
        raise MeshError(
            Reason.BACKEND_UNAVAILABLE, f"this batcher knows of nobody who loads version {version} of {model_name!r}"
        )


class Awakener:
    """What the awakenings of all versions share: who loads, and the calls under way."""

    def __init__(
        self,
        activator: Activator | None,
        *,
        clock: Clock,
        options: EngineOptions,
        observer: ActivationObserver | None,
    ) -> None:
        self.activator = activator or NobodyLoads()
        self.clock = clock
        self.options = options
        self.observer = observer
        self.calls: set[asyncio.Task[None]] = set()
        self.away = False
        """Whether the deployer did not answer when it was last asked."""

    def answers(self) -> None:
        """The deployer said something."""
        if self.away:
            log.info("the deployer answers again")
        self.away = False

    def silent(self, why: str) -> None:
        """It did not. Told once, however many versions wait for it."""
        if not self.away:
            log.warning("the deployer gives no answer; requests for versions that are not loaded wait", reason=why)
        self.away = True

    async def close(self) -> None:
        """Gives up all calls, and waits until they have ended."""
        for call in self.calls:
            call.cancel()
        await asyncio.gather(*self.calls, return_exceptions=True)


class Awakening:
    """Of one lane."""

    __slots__ = (
        "_again_s",
        "_call",
        "_delay_s",
        "_doing",
        "_doing_s",
        "_failure",
        "_lane",
        "_loop",
        "_moot",
        "_shared",
        "_silent_s",
        "since_s",
    )

    def __init__(self, lane: "Lane", *, loop: asyncio.AbstractEventLoop, awakener: Awakener) -> None:
        self._lane = lane
        self._loop = loop
        self._shared = awakener
        self._call: asyncio.Task[None] | None = None
        self._moot = False
        """Whether the version was loaded since the call was made: what comes of it is about the past."""
        self.since_s: float | None = None
        """Since when somebody has waited for it to be loaded; None where nobody does, and once the first batch left."""
        self._failure: MeshError | None = None
        """Why it could not be loaded."""
        self._again_s = -inf
        """The deployer is not to be asked before."""
        self._delay_s = awakener.options.activation_delay_min_s
        self._doing = ""
        self._doing_s = 0.0
        """What the call has come to, and since when."""
        self._silent_s: float | None = None
        """Since when the deployer was asked and has not answered; None where it has."""

    def hold(self, now_s: float) -> None:
        """Work waits. It waits on, and the version is loaded for it; shadow copies, for which none is, are told that.
        Whatever comes of it ends in the lane's `pump`."""
        lane = self._lane
        lane.displaced(lane.backlog.clear(Priority.SHADOW), self._for_copies)
        lane.recoveries.fail_copies(self._for_copies)
        if lane.wakeful:
            self._ask(now_s)

    def _for_copies(self) -> MeshError:
        return not_for_copies(self._lane.served.model_name, self._lane.served.version)

    def _ask(self, now_s: float) -> None:
        """Has the version loaded, unless that is under way."""
        if self.since_s is None:
            self.since_s = now_s
        if self._call is not None:
            if not self._moot:
                return
            self._call.cancel()
        lane, calls = self._lane, self._shared.calls
        self._moot = False
        # Why it failed the last time is nothing to those who come while it is tried again.
        self._failure = None
        self._now("it is about to be loaded")
        self._silent_s = None
        name = f"load {lane.served.model_name} {lane.served.version}"
        self._call = self._loop.create_task(self._load(), name=name)
        calls.add(self._call)
        self._call.add_done_callback(self._ended)

    def refusal(self, now_s: float, priority: Priority) -> MeshError | None:
        """Why nobody of that priority is taken now: it could not be loaded a moment ago, or will not be."""
        if priority is Priority.SHADOW:
            return self._for_copies()
        return self._told(self._failure, now_s) if self._failure is not None and now_s < self._again_s else None

    def doing(self, now_s: float) -> str:
        """What has come of having it loaded; empty where it is not cold."""
        if not self._lane.cold:
            return ""
        if self._call is None:
            return "it is loaded for whoever asks next"
        if self._silent_s is not None:
            seconds = now_s - self._silent_s
            return f"the deployer, who loads it, has not answered for {seconds:.1f} s (`infermesh status` shows more)"
        return f"{self._doing}, for {now_s - self._doing_s:.1f} s now"

    def awake(self) -> None:
        """It is not cold any more: the table lists its backends."""
        self._failure, self._again_s = None, -inf
        self._delay_s = self._shared.options.activation_delay_min_s
        self._moot = True
        if not self._lane.wakeful:
            self.since_s = None

    def sent(self, now_s: float) -> None:
        """A batch has left, the first since somebody waited."""
        observer, since_s, served = self._shared.observer, self.since_s, self._lane.served
        self.since_s = None
        if observer is not None and since_s is not None:
            observer.cold_start_ended(served.model_name, served.version, now_s - since_s)

    def close(self) -> None:
        """Gives up the call: everybody was told something else."""
        call, self._call = self._call, None
        if call is not None:
            call.cancel()

    async def _load(self) -> None:
        """Asks until the version is awake, cannot be loaded, or nobody waits."""
        clock = self._shared.clock
        while self._wanted():
            left_s = self._again_s - clock.monotonic()
            if left_s > 0:
                await clock.sleep(left_s)
            if self._wanted() and await self._asked():
                await clock.sleep(self._shared.options.listing_patience_s)
        lane = self._lane
        if self._call is asyncio.current_task() and not lane.wakeful:
            self.since_s = None

    def _wanted(self) -> bool:
        return self._lane.cold and self._lane.wakeful and not self._moot

    async def _asked(self) -> bool:
        """Whether it is ready, by the deployer's word."""
        shared, served = self._shared, self._lane.served
        self._now("it is being loaded")
        try:
            await shared.activator.activate(served.model_name, served.version)
        except NoAnswerError as error:
            shared.silent(str(error))
            now_s = shared.clock.monotonic()
            if self._silent_s is None:
                self._silent_s = self._doing_s
            self._failure = None
            self._again_s = now_s + self._delay_s
            self._delay_s = min(2 * self._delay_s, shared.options.activation_delay_max_s)
            return False
        except MeshError as error:
            self._failed(error)
            return False
        except Exception as error:
            log.exception("having a version loaded broke", model=served.model_name, version=served.version)
            self._failed(unforeseen(error))
            return False
        self._answered(ok=True)
        self._now("it is loaded, and the serving table does not say where")
        return True

    def _failed(self, error: MeshError) -> None:
        """Tells all who wait; whoever comes next has it tried again, but not at once."""
        lane, served, now_s = self._lane, self._lane.served, self._shared.clock.monotonic()
        self._answered(ok=False)
        if not lane.cold or self._moot:
            return
        log.warning(
            "a version could not be loaded",
            model=served.model_name,
            version=served.version,
            reason=error.reason,
            error=error.message,
        )
        self._failure, self._again_s = error, now_s + self._shared.options.activation_retry_s
        self.since_s = None
        lane.fail_waiting(lambda: self._told(error, now_s))

    def _answered(self, *, ok: bool) -> None:
        shared, served = self._shared, self._lane.served
        shared.answers()
        self._silent_s = None
        self._delay_s = shared.options.activation_delay_min_s
        if shared.observer is not None:
            shared.observer.activation_ended(served.model_name, served.version, answered=ok)

    def _told(self, error: MeshError, now_s: float) -> MeshError:
        served = self._lane.served
        return not_loaded(served.model_name, served.version, error, again_after_s=max(0.0, self._again_s - now_s))

    def _now(self, doing: str) -> None:
        self._doing, self._doing_s = doing, self._shared.clock.monotonic()

    def _ended(self, call: asyncio.Task[None]) -> None:
        """Whoever came while it ended is seen to."""
        self._shared.calls.discard(call)
        if self._call is call:
            self._call = None
            self._lane.pump()
