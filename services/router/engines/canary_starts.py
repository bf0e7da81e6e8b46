"""Starts canaries: a change of a model's traffic that is the first stage of one."""

import uuid
from dataclasses import replace

from services.common.clock import Clock
from services.common.errors import invalid
from services.router.domain.canary import CanaryConfig
from services.router.domain.canary_document import new_rollout
from services.router.domain.canary_steps import Step, split_after, started
from services.router.domain.canary_wish import CanaryWish, canary_digest, checked_config
from services.router.domain.rollouts import Mismatch, Saved
from services.router.domain.rules import Rule, Split
from services.router.domain.view import TrafficView
from services.router.domain.wishes import (
    SplitWish,
    check_free,
    check_wish_ready,
    checked_weights,
    request_digest,
    wanted_split,
)
from services.router.engines.canary_saving import CanarySaving
from services.router.engines.changing import Call, Changing, check_call, etag_mismatch, rollout_in_progress
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Plan, Traffic

_TRIES = 5


class CanaryStarts:
    """The one that starts them."""

    def __init__(
        self,
        *,
        saving: CanarySaving,
        rollouts: Rollouts,
        rules: RuleBook,
        changing: Changing,
        publisher: Publisher,
        traffic: Traffic,
        clock: Clock,
    ) -> None:
        self._saving = saving
        self._rollouts = rollouts
        self._rules = rules
        self._changing = changing
        self._publisher = publisher
        self._traffic = traffic
        self._clock = clock

    async def start(self, call: Call, wish: SplitWish, asked: CanaryWish) -> TrafficView:
        """Starts a canary of the version of the deployment that the call names; returns once gateways have its first
        stage. Raises INVALID_FIELD, DEPLOYMENT_NOT_FOUND, ROLLOUT_IN_PROGRESS, ROLLOUT_STATE_INVALID, ETAG_MISMATCH."""
        _check_start(call)
        digest = canary_digest(
            call.model_name, call.deployment_name, asked, beside=request_digest("canary", call.model_name, wish)
        )
        canary_id = str(uuid.uuid4())
        mismatch: Mismatch | None = None
        for _ in range(_TRIES):
            if await self._changing.repeated(call, digest):
                return self._traffic.get(call.model_name)
            # Another router may have ended what governed.
            await self._rules.fresh(call.model_name)
            rule, before, after, step = await self._first_step(call, wish, asked, canary_id)
            await self._changing.check_etag(call)
            now = self._clock.now()
            new = new_rollout(step.canary, now=now, created_by=call.actor, request_id=call.request_id, digest=digest)
            saved = await self._rollouts.save(
                replace(new, ended_at=None if step.canary.running else now),
                change=replace(
                    self._saving.change(step, before, after, actor=call.actor),
                    request_id=call.request_id,
                    request_digest=digest,
                ),
                rule_generation=rule.generation if rule is not None else 0,
                events=step.events,
            )
            if isinstance(saved, Saved):
                await self._saving.published(call.model_name)
                return self._traffic.get(call.model_name)
            mismatch = saved
            if saved is Mismatch.RUNNING:
                await self._rollouts.let_end(call.model_name)
        if mismatch is Mismatch.RUNNING:
            raise rollout_in_progress(call.model_name)
        raise etag_mismatch(call.model_name)

    async def plan(self, call: Call, wish: SplitWish, asked: CanaryWish) -> Plan:
        """What the first stage of `start` would change. Raises as it would."""
        _check_start(call)
        _, before, after, _ = await self._first_step(call, wish, asked, str(uuid.uuid4()))
        await self._changing.check_etag(call)
        return self._traffic.planned(call.model_name, before, after)

    async def _first_step(
        self, call: Call, wish: SplitWish, asked: CanaryWish, canary_id: str
    ) -> tuple[Rule | None, Split, Split, Step]:
        config = checked_config(asked)
        step: Step | None = None

        def decide(rule: Rule | None, before: Split) -> Split:
            nonlocal step
            check_free(rule, "the shares")
            rest = replace(wish, weights={})
            other = rest.of_shares or rest.conditions or rest.shadows or rest.clear
            split = wanted_split(rest, before) if other else before
            check_wish_ready(rest, split, self._changing.ready(call), call.model_name)
            version = self._version(call)
            _check_shadowed(config, split, version)
            step = started(
                canary_id=canary_id,
                model_name=call.model_name,
                deployment_name=call.deployment_name,
                version=version,
                config=config,
                split=split,
                labels=rule is not None and rule.log_labels,
                now=self._clock.now(),
                reason=call.reason,
            )
            _check_beside(wish, before, version)
            return split_after(step, split)

        rule, before, after = await self._changing.decided(call, decide)
        assert step is not None, "a decision without an error has made a step"
        return rule, before, after, step

    def _version(self, call: Call) -> str:
        """The version of the deployment, which is ready."""
        model = self._publisher.backends[call.model_name]
        return next(one.version for one in model.versions if one.deployment_name == call.deployment_name)


def _check_start(call: Call) -> None:
    check_call(call)
    if not call.deployment_name:
        raise invalid("deployment_name", "", "the deployment of the version that the canary is to try")


def _check_beside(wish: SplitWish, before: Split, version: str) -> None:
    """Shares beside a canary say who takes part; the stages say how much each gets."""
    if not wish.weights:
        return
    asked = {name for name, share in checked_weights(wish.weights).items() if share}
    taking_part = {version, *before.positive}
    if asked != taking_part:
        raise invalid(
            "traffic_split",
            dict(wish.weights),
            f"beside canary_config nothing, or shares of {' and '.join(sorted(taking_part))}, which take part in it",
        )


def _check_shadowed(config: CanaryConfig, split: Split, version: str) -> None:
    limit = config.criteria.shadow_disagreement_max
    if limit is not None and all(shadow.version != version for shadow in split.shadows):
        allowed = f"a limit only where the model has a shadow of {version}; without its copies nothing could be judged"
        raise invalid("canary_config.success_criteria.shadow_disagreement_max", limit, allowed)
