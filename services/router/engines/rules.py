"""The traffic rules in memory, kept equal to the store.

The store is the truth. Who writes to it hands the new rule over at once; what other routers have written is looked for
twice a second in the history, where it costs nothing; and beside that all rules are read again from time to time, so
that a write whose outcome was never learnt takes effect all the same.
"""

from collections.abc import Callable, Iterable, Mapping

from services.common.errors import MeshError
from services.common.signals import Signal, wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.rules import Rule
from services.router.ports import RuleStore

log = get_logger(__name__)

_READ_AT_ONCE = 200
_MARKS_MAX = 1000
"""Changes that are looked at in one go; after more of them all rules are read."""
_OVERLAP = 100
"""So many changes are looked at again: one with a smaller number may be stored after one with a larger."""


class RuleBook:
    """All rules, by model."""

    def __init__(self, *, store: RuleStore, period_s: float, news_s: float = 0.5) -> None:
        self._store = store
        self._period_s = period_s
        self._news_s = news_s
        self._seen = 0
        self._rules: dict[str, Rule] = {}
        self._suspected = Signal()
        self._told: list[Callable[[Iterable[str]], object]] = []

    def on_change(self, told: Callable[[Iterable[str]], object]) -> None:
        """Adds someone who is told the models whose rules have changed."""
        self._told.append(told)

    @property
    def rules(self) -> Mapping[str, Rule]:
        """The rules by model."""
        return self._rules

    async def load(self) -> None:
        """Reads all rules that were changed since they were read last; a part at a time, so that thousands of them hold
        up nobody."""
        await self._read(await self._store.generations())

    async def _look(self) -> None:
        """Reads the rules that others have changed."""
        marks = await self._store.marks(after=max(0, self._seen - _OVERLAP), limit=_MARKS_MAX)
        if len(marks) == _MARKS_MAX and self._seen:
            await self.load()
        else:
            newest: dict[str, int] = {}
            for mark in marks:
                newest.setdefault(mark.model_name, mark.generation)
            await self._read(newest)
        self._seen = max((mark.change_id for mark in marks), default=self._seen)

    async def _read(self, generations: Mapping[str, int]) -> None:
        """Reads those that are not held here as they are."""
        stale = [name for name, generation in generations.items() if generation > self._generation(name)]
        for first in range(0, len(stale), _READ_AT_ONCE):
            self._keep(await self._store.some(stale[first : first + _READ_AT_ONCE]))

    def put(self, rule: Rule) -> None:
        """Takes a rule that was just stored."""
        self._keep([rule])

    async def overtaken(self, model_name: str, governing: str, *, what: str) -> str | None:
        """Why the rollout `governing`, a canary or a test as `what` says, decides the shares no more; None: it does."""
        rule = self._rules.get(model_name)
        if rule is not None and rule.governing == governing:
            return None
        rule = await self.fresh(model_name)
        if rule is None or rule.governing == governing:
            return None
        said = f"the traffic was changed by {rule.updated_by or 'hand'}, which ended the {what}"
        return f"{said}: {rule.reason}" if rule.reason else said

    async def fresh(self, model_name: str) -> Rule | None:
        """The rule of a model as it is stored now; it holds here from then on. None: there is none."""
        rule = await self._store.find(model_name)
        if rule is not None:
            self.put(rule)
        return rule

    def suspect(self) -> None:
        """Something may have been stored without being told here: reads all rules soon."""
        self._suspected.fire()

    async def run(self) -> None:
        """Looks for what others have changed; reads all rules every period, and whenever they are suspect. Never ends
        by itself."""
        suspected, waited_s, away = self._suspected.current, 0.0, False
        while True:
            await wait_at_most(suspected, self._news_s)
            waited_s += self._news_s
            everything = suspected.is_set() or waited_s >= self._period_s
            # What is suspected while they are read counts again.
            suspected = self._suspected.current
            try:
                if everything:
                    waited_s = 0.0
                    await self.load()
                else:
                    await self._look()
                away = False
            except MeshError as error:
                if not away:
                    log.warning("the traffic rules cannot be read; those in memory hold", error=error.message)
                away = True

    def _keep(self, rules: Iterable[Rule]) -> None:
        newer = [rule for rule in rules if rule.generation > self._generation(rule.model_name)]
        self._rules.update({rule.model_name: rule for rule in newer})
        if newer:
            for told in self._told:
                told([rule.model_name for rule in newer])

    def _generation(self, model_name: str) -> int:
        known = self._rules.get(model_name)
        return known.generation if known is not None else 0
