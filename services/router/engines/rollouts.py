"""The rollouts that run, kept equal to the store, and the one way to change one.

The store is the truth, as with rules: who changes a rollout hands it over at once, and all that run are read again
every second, so that a change made by another router, or one whose outcome was never learnt, takes effect all the same.
"""

from collections.abc import Iterable, Mapping, Sequence

from services.common.errors import MeshError
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.rollouts import Document, Mismatch, Rollout, RolloutEvent, Saved
from services.router.domain.rules import NewChange
from services.router.engines.events import EventReporter
from services.router.engines.leadership import Leadership
from services.router.engines.rules import RuleBook
from services.router.ports import RolloutBoard, RolloutStore

log = get_logger(__name__)

_ENDING_S = 2.0


class Rollouts:
    """All that run or are paused, by model."""

    def __init__(
        self,
        *,
        store: RolloutStore,
        rules: RuleBook,
        leadership: Leadership,
        reporter: EventReporter,
        board: RolloutBoard | None = None,
        period_s: float = 1.0,
    ) -> None:
        self._store = store
        self._rules = rules
        self._leadership = leadership
        self._reporter = reporter
        self._board = board
        self._period_s = period_s
        self._running: Mapping[str, Rollout] = {}
        self._puts = 0
        self._suspected = Signal()
        self.changed = Signal()
        """Fires when a rollout begins, changes or ends, when a rule does, and when this router begins or ceases to
        lead."""
        self._woken: dict[str, Signal] = {}
        leadership.on_change(lambda: self._wake(self._running))
        rules.on_change(self._wake)

    @property
    def running(self) -> Mapping[str, Rollout]:
        """By model."""
        return self._running

    def woken(self, model_name: str) -> Signal:
        """Fires as `changed` does, for one model alone. Take it anew for each wait."""
        return self._woken.setdefault(model_name, Signal())

    @property
    def store(self) -> RolloutStore:
        """Where all of them are, also those that have ended."""
        return self._store

    async def load(self) -> None:
        """Reads all that run."""
        puts = self._puts
        running = {one.model_name: one for one in await self._store.running()}
        if puts != self._puts:
            # What was read may be older than what was handed over meanwhile.
            self._suspected.fire()
            return
        before, self._running = self._running, running
        if _generations(before) != _generations(running):
            # Each change of a rollout may have changed its rule, by another router.
            self._rules.suspect()
            self._wake({*before, *running})
        for model_name in [name for name in self._woken if name not in running]:
            self._woken.pop(model_name).fire()

    async def let_end(self, model_name: str) -> None:
        """Returns once no rollout of the model runs, or after 2 s: one that was overtaken is put down as ended soon."""
        await self.load()
        await self.changed.until(lambda: model_name not in self._running, timeout_s=_ENDING_S)

    async def run(self) -> None:
        """Reads them every period, and whenever they are suspect. Never ends by itself."""
        suspected, away = self._suspected.current, False
        while True:
            await wait_at_most(suspected, self._period_s)
            # What is suspected while they are read counts again.
            suspected = self._suspected.current
            try:
                await self.load()
                away = False
            except MeshError as error:
                if not away:
                    log.warning("the rollouts cannot be read; those in memory hold", error=error.message)
                away = True

    async def save(
        self,
        rollout: Rollout,
        *,
        change: NewChange | None = None,
        rule_generation: int = 0,
        fence: int | None = None,
        events: Sequence[RolloutEvent] = (),
    ) -> Saved | Mismatch:
        """Stores `rollout`, made from one of its generation, as `RolloutStore.save` does. What was stored holds at
        once: the publisher has been touched when this returns. A mismatch has everything read again soon."""
        try:
            saved = await self._store.save(
                rollout,
                generation=rollout.generation,
                change=change,
                rule_generation=rule_generation,
                fence=fence,
                events=events,
            )
        except BaseException:
            # Whether it was stored is not known.
            self._rules.suspect()
            self._suspected.fire()
            raise
        if isinstance(saved, Mismatch):
            log.info("a rollout was not stored", model=rollout.model_name, rollout=rollout.name, mismatch=saved)
            self._rules.suspect()
            self._suspected.fire()
            return saved
        if saved.rule is not None:
            self._rules.put(saved.rule)
        known = self._running.get(rollout.model_name)
        ran = known is not None and known.rollout_id == rollout.rollout_id
        self._put(saved.rollout)
        if self._board is not None and ran and not saved.rollout.running:
            self._board.ended(saved.rollout.kind, saved.rollout.status)
        if events:
            self._reporter.touch()
        return saved

    async def note(self, rollout: Rollout, results: Document) -> None:
        """Keeps what a rollout shows, where this router leads; a failure is only logged: it is noted again soon."""
        token = self._leadership.token
        if token is None:
            return
        try:
            await self._store.note(rollout, results, fence=token)
        except MeshError as error:
            log.warning("what a rollout shows cannot be kept", model=rollout.model_name, error=error.message)

    def _put(self, rollout: Rollout) -> None:
        self._puts += 1
        others = {name: one for name, one in self._running.items() if one.rollout_id != rollout.rollout_id}
        self._running = {**others, rollout.model_name: rollout} if rollout.running else others
        self._wake([rollout.model_name])

    def _wake(self, models: Iterable[str]) -> None:
        for model_name in models:
            signal = self._woken.get(model_name)
            if signal is not None:
                signal.fire()
        self.changed.fire()


def _generations(rollouts: Mapping[str, Rollout]) -> set[tuple[str, int]]:
    return {(one.rollout_id, one.generation) for one in rollouts.values()}
