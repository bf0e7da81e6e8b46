"""How a step of a canary is stored: with its rule and its events, or not at all."""

from collections.abc import Sequence

from services.common.clock import Clock
from services.router.domain.canary import Canary
from services.router.domain.canary_document import with_canary
from services.router.domain.canary_steps import Step, overtaken, split_after
from services.router.domain.criteria import CriterionResult
from services.router.domain.rollouts import Mismatch, Rollout, Saved
from services.router.domain.rules import NewChange, Split
from services.router.domain.view import split_in_force
from services.router.engines.changing import TrafficOptions
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook

_REASON_MAX = 1000


class CanarySaving:
    """What callers and drivers do to canaries goes through here."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        rules: RuleBook,
        publisher: Publisher,
        options: TrafficOptions,
        clock: Clock,
    ) -> None:
        self._rollouts = rollouts
        self._rules = rules
        self._publisher = publisher
        self._options = options
        self._clock = clock
        self.live: dict[str, tuple[Sequence[CriterionResult], str]] = {}
        """What canaries that are driven here show at the moment and why nothing is judged, by their ids."""

    async def carry_out(
        self, rollout: Rollout, step: Step, *, actor: str = "", fence: int | None = None
    ) -> Saved | Mismatch:
        """Stores what `step` makes of `rollout`, its model's rule as it is known here, and the events; gateways are
        told then."""
        rule, state = self._rules.rules.get(rollout.model_name), self._publisher.states.get(rollout.model_name)
        before = split_in_force(rule, state)
        change = None
        if step.shares is not None:
            change = self.change(step, before, split_after(step, before), actor=actor)
        return await self._rollouts.save(
            with_canary(rollout, step.canary, now=self._clock.now(), results=step.results),
            change=change,
            rule_generation=rule.generation if rule is not None else 0,
            fence=fence,
            events=step.events,
        )

    async def overtaken(self, canary: Canary, results: Sequence[CriterionResult]) -> Step | None:
        """The end of a canary whose model's shares someone else has decided meanwhile; None: it decides them."""
        reason = await self._rules.overtaken(canary.model_name, canary.name, what="canary")
        if reason is None:
            return None
        return overtaken(canary, now=self._clock.now(), reason=reason, results=results)

    def change(self, step: Step, before: Split, after: Split, *, actor: str) -> NewChange:
        """The change of the rule that a step is."""
        canary = step.canary
        return NewChange(
            model_name=canary.model_name,
            deployment_name=canary.deployment_name,
            action="canary",
            actor=actor,
            reason=step.why[:_REASON_MAX],
            before=before,
            after=after,
            governing=canary.name if canary.running else "",
            log_labels=canary.labels_before or (canary.running and canary.waits_for_outcomes),
        )

    async def published(self, model_name: str) -> None:
        """Returns once gateways have what was stored, or after the time that calls wait."""
        await self._publisher.brought(model_name, timeout_s=self._options.patience_s)
