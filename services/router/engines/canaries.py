"""What callers may ask of canaries, and how any step of one is stored: with its rule and its events, or not at all."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.router.domain.canary import Canary, CanaryConfig
from services.router.domain.canary_document import canary_of, new_rollout, results_of, with_canary
from services.router.domain.canary_steps import (
    Step,
    aborted,
    overtaken,
    paused,
    promoted,
    resumed,
    split_after,
    started,
)
from services.router.domain.canary_wish import CanaryWish, canary_digest, checked_config
from services.router.domain.criteria import CriterionResult
from services.router.domain.rollouts import Mismatch, Rollout, RolloutKind, Saved
from services.router.domain.rules import NewChange, Rule, Split
from services.router.domain.view import TrafficView, split_in_force
from services.router.domain.wishes import (
    SplitWish,
    check_free,
    check_wish_ready,
    checked_weights,
    request_digest,
    wanted_split,
)
from services.router.engines.changing import Call, Changing, TrafficOptions, check_call, etag_mismatch
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Plan, Traffic
from services.router.ports import RuleStore

_TRIES = 5
_REASON_MAX = 1000
_ENDING_S = 2.0
"""How long a start waits for a rollout that was overtaken to be put down as ended."""


@dataclass(frozen=True, slots=True)
class CanaryView:
    """A canary as callers see it."""

    canary: Canary
    rollout: Rollout
    results: Sequence[CriterionResult]
    evidence_error: str


class Canaries:
    """The calls on canaries, in domain values."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        rules: RuleBook,
        rule_store: RuleStore,
        publisher: Publisher,
        traffic: Traffic,
        options: TrafficOptions,
        clock: Clock,
    ) -> None:
        self._rollouts = rollouts
        self._rules = rules
        self._rule_store = rule_store
        self._publisher = publisher
        self._traffic = traffic
        self._changing = Changing(store=rule_store, rules=rules, publisher=publisher, options=options)
        self._options = options
        self._clock = clock
        self.live: dict[str, tuple[Sequence[CriterionResult], str]] = {}
        """What canaries that are driven here show at the moment and why nothing is judged, by their ids."""

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
            await self.fresh_rule(call.model_name)
            rule, before, after, step = await self._first_step(call, wish, asked, canary_id)
            self._changing.check_etag(call)
            now = self._clock.now()
            new = new_rollout(step.canary, now=now, created_by=call.actor, request_id=call.request_id, digest=digest)
            saved = await self._rollouts.save(
                replace(new, ended_at=None if step.canary.running else now),
                change=replace(
                    self._change(step, before, after, actor=call.actor),
                    request_id=call.request_id,
                    request_digest=digest,
                ),
                rule_generation=rule.generation if rule is not None else 0,
                events=step.events,
            )
            if isinstance(saved, Saved):
                await self._published(call.model_name)
                return self._traffic.get(call.model_name)
            mismatch = saved
            if saved is Mismatch.RUNNING:
                await self._rollouts.load()
                await self._rollouts.changed.until(
                    lambda: call.model_name not in self._rollouts.running, timeout_s=_ENDING_S
                )
        if mismatch is Mismatch.RUNNING:
            raise _in_progress(call.model_name)
        raise etag_mismatch(call.model_name)

    async def plan(self, call: Call, wish: SplitWish, asked: CanaryWish) -> Plan:
        """What the first stage of `start` would change. Raises as it would."""
        _check_start(call)
        _, before, after, _ = await self._first_step(call, wish, asked, str(uuid.uuid4()))
        self._changing.check_etag(call)
        return self._traffic.planned(call.model_name, before, after)

    async def get(self, model_name: str) -> CanaryView:
        """The canary of a model that runs, or its last one. Raises TRAFFIC_RULE_NOT_FOUND."""
        check_model_name(model_name)
        return self._view(await self._newest(model_name))

    async def page(self, model_name: str, *, page_size: int, page_token: str) -> tuple[Sequence[CanaryView], str]:
        """A page of a model's canaries, newest first, and the token of the next one."""
        check_model_name(model_name)
        size = check_page_size(page_size)
        query = f"canaries\0{model_name}"
        after = decode_page_token(page_token, query=query)
        found = await self._rollouts.store.page(
            model_name, RolloutKind.CANARY, before=int(after[0]) if after else None, limit=size + 1
        )
        token = encode_page_token(str(found[size - 1].number), query=query) if len(found) > size else ""
        return [self._view(rollout) for rollout in found[:size]], token

    async def pause(self, call: Call) -> CanaryView:
        """Keeps the canary at its stage."""
        now = self._clock.now()
        return await self._by_hand(
            call, lambda view: paused(view.canary, now=now, actor=call.actor, reason=call.reason)
        )

    async def resume(self, call: Call) -> CanaryView:
        """Lets it go on; its stage begins anew."""
        now = self._clock.now()
        return await self._by_hand(
            call, lambda view: resumed(view.canary, now=now, actor=call.actor, reason=call.reason)
        )

    async def promote(self, call: Call) -> CanaryView:
        """Gives it all traffic."""

        def wish(view: CanaryView) -> Step:
            now = self._clock.now()
            return promoted(view.canary, now=now, actor=call.actor, reason=call.reason, results=view.results)

        return await self._by_hand(call, wish)

    async def abort(self, call: Call) -> CanaryView:
        """Ends it; the shares before it come back."""

        def wish(view: CanaryView) -> Step:
            now = self._clock.now()
            return aborted(view.canary, now=now, actor=call.actor, reason=call.reason, results=view.results)

        return await self._by_hand(call, wish)

    async def carry_out(
        self, rollout: Rollout, step: Step, *, actor: str = "", fence: int | None = None
    ) -> Saved | Mismatch:
        """Stores what `step` makes of `rollout`, its model's rule as it is known here, and the events; gateways are
        told then."""
        rule, state = self._rules.rules.get(rollout.model_name), self._publisher.states.get(rollout.model_name)
        before = split_in_force(rule, state)
        change = None
        if step.shares is not None:
            change = self._change(step, before, split_after(step, before), actor=actor)
        return await self._rollouts.save(
            with_canary(rollout, step.canary, now=self._clock.now(), results=step.results),
            change=change,
            rule_generation=rule.generation if rule is not None else 0,
            fence=fence,
            events=step.events,
        )

    async def overtaken(self, canary: Canary, results: Sequence[CriterionResult]) -> Step | None:
        """The end of a canary whose model's shares someone else has decided meanwhile; None: it decides them."""
        rule = self._rules.rules.get(canary.model_name)
        if rule is not None and rule.governing == canary.name:
            return None
        rule = await self.fresh_rule(canary.model_name)
        if rule is None or rule.governing == canary.name:
            return None
        said = f"the traffic was changed by {rule.updated_by or 'hand'}, which ended the canary"
        reason = f"{said}: {rule.reason}" if rule.reason else said
        return overtaken(canary, now=self._clock.now(), reason=reason, results=results)

    async def fresh_rule(self, model_name: str) -> Rule | None:
        """The rule of a model as it is stored now; it holds here from then on."""
        rule = await self._rule_store.find(model_name)
        if rule is not None:
            self._rules.put(rule)
        return rule

    async def _by_hand(self, call: Call, wish: Callable[[CanaryView], Step]) -> CanaryView:
        check_call(call)
        for _ in range(_TRIES):
            rollout = await self._newest(call.model_name)
            if call.etag and call.etag != rollout.etag:
                raise _canary_mismatch(call.model_name)
            view = self._view(rollout)
            await self.fresh_rule(call.model_name)
            ended = await self.overtaken(view.canary, view.results) if view.canary.running else None
            step = ended or wish(view)
            if step.canary == view.canary:
                return view
            saved = await self.carry_out(rollout, step, actor=call.actor)
            if isinstance(saved, Saved) and ended is None:
                await self._published(call.model_name)
                return self._view(saved.rollout)
        raise _canary_mismatch(call.model_name)

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
            _check_beside(wish, step)
            return split_after(step, split)

        rule, before, after = await self._changing.decided(call, decide)
        assert step is not None, "a decision without an error has made a step"
        return rule, before, after, step

    def _version(self, call: Call) -> str:
        """The version of the deployment, which is ready."""
        model = self._publisher.backends[call.model_name]
        return next(one.version for one in model.versions if one.deployment_name == call.deployment_name)

    def _change(self, step: Step, before: Split, after: Split, *, actor: str) -> NewChange:
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

    async def _newest(self, model_name: str) -> Rollout:
        found = await self._rollouts.store.page(model_name, RolloutKind.CANARY, limit=1)
        if not found:
            raise MeshError(
                Reason.TRAFFIC_RULE_NOT_FOUND,
                f"model {model_name!r} never had a canary; start one with UpdateTraffic and canary_config",
                metadata={"model_name": model_name},
            )
        return found[0]

    def _view(self, rollout: Rollout) -> CanaryView:
        kept = results_of(rollout)
        results, error = self.live.get(rollout.rollout_id, kept) if rollout.running else kept
        return CanaryView(canary_of(rollout), rollout, results, error if rollout.running else "")

    async def _published(self, model_name: str) -> None:
        ticket = self._publisher.touch([model_name])
        await self._publisher.caught_up(ticket, timeout_s=self._options.patience_s)


def _check_start(call: Call) -> None:
    check_call(call)
    if not call.deployment_name:
        raise invalid("deployment_name", "", "the deployment of the version that the canary is to try")


def _check_beside(wish: SplitWish, step: Step) -> None:
    if not wish.weights:
        return
    asked = {version: share for version, share in checked_weights(wish.weights).items() if share}
    begins = {version: share for version, share in (step.shares or {}).items() if share}
    if asked != begins:
        raise invalid(
            "traffic_split", dict(wish.weights), f"beside canary_config nothing, or its first stage: {begins}"
        )


def _check_shadowed(config: CanaryConfig, split: Split, version: str) -> None:
    limit = config.criteria.shadow_disagreement_max
    if limit is not None and all(shadow.version != version for shadow in split.shadows):
        allowed = f"a limit only where the model has a shadow of {version}; without its copies nothing could be judged"
        raise invalid("canary_config.success_criteria.shadow_disagreement_max", limit, allowed)


def _in_progress(model_name: str) -> MeshError:
    return MeshError(
        Reason.ROLLOUT_IN_PROGRESS,
        f"model {model_name!r} has a rollout that runs already; end it first, or wait until it has ended",
        metadata={"model_name": model_name},
    )


def _canary_mismatch(model_name: str) -> MeshError:
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"the canary of model {model_name!r} has moved on; read it again and repeat the call with its new etag",
        metadata={"model_name": model_name},
    )
