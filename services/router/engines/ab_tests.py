"""What callers may ask of A/B tests, and how any step of one is stored: with its rule and its event, or not at all."""

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.router.domain.ab_document import ab_test_of, new_rollout, shown_by, with_ab_test
from services.router.domain.ab_results import AbTestResults, results_of
from services.router.domain.ab_steps import AbStep, concluded, overtaken, started, stopped
from services.router.domain.ab_test import AbTest, AbTestPlan, AbTestStatus, AbTestWish, ab_test_digest, checked_plan
from services.router.domain.evidence import Evidence
from services.router.domain.rollouts import Mismatch, Rollout, RolloutKind, Saved
from services.router.domain.rules import NewChange, Rule, Split
from services.router.domain.view import split_in_force
from services.router.domain.wishes import check_free
from services.router.engines.changing import (
    Call,
    Changing,
    TrafficOptions,
    check_call,
    etag_mismatch,
    rollout_in_progress,
)
from services.router.engines.publisher import Publisher
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.ports import RuleStore

_TRIES = 5
_REASON_MAX = 1000


@dataclass(frozen=True, slots=True)
class AbTestView:
    """A test as callers see it."""

    test: AbTest
    rollout: Rollout
    results: AbTestResults


class AbTests:
    """The calls on A/B tests, in domain values."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        rules: RuleBook,
        rule_store: RuleStore,
        publisher: Publisher,
        options: TrafficOptions,
        clock: Clock,
    ) -> None:
        self._rollouts = rollouts
        self._rules = rules
        self._publisher = publisher
        self._changing = Changing(store=rule_store, rules=rules, publisher=publisher, options=options)
        self._options = options
        self._clock = clock
        self.live: dict[str, Evidence] = {}
        """The newest evidence on tests that are driven here, by their ids."""

    async def create(self, call: Call, wish: AbTestWish) -> AbTestView:
        """Starts a test; returns once gateways have its shares. Raises INVALID_FIELD, VERSION_NOT_DEPLOYED,
        MODEL_NOT_SERVED, AB_TEST_EXISTS, ROLLOUT_IN_PROGRESS, REQUEST_ID_REUSED."""
        check_call(call)
        plan, digest, test_id = checked_plan(wish), ab_test_digest(call.model_name, wish), str(uuid.uuid4())
        mismatch: Mismatch | None = None
        for _ in range(_TRIES):
            if await self._changing.repeated(call, digest):
                return await self.get(call.model_name, wish.name)
            if await self._rollouts.store.find(call.model_name, wish.name) is not None:
                raise _exists(call.model_name, wish.name)
            # Another router may have ended what governed.
            await self._rules.fresh(call.model_name)
            rule, before, step = await self._first_step(call, wish.name, plan, test_id)
            saved = await self._rollouts.save(
                new_rollout(step.test, created_by=call.actor, request_id=call.request_id, digest=digest),
                change=_change(step, rule, before, actor=call.actor, request_id=call.request_id, digest=digest),
                rule_generation=rule.generation if rule is not None else 0,
            )
            if isinstance(saved, Saved):
                await self._published(call.model_name)
                return self._view(saved.rollout)
            mismatch = saved
            if saved is Mismatch.RUNNING:
                await self._rollouts.let_end(call.model_name)
        raise (rollout_in_progress if mismatch is Mismatch.RUNNING else etag_mismatch)(call.model_name)

    async def get(self, model_name: str, name: str) -> AbTestView:
        """A test with its results up to now. Raises AB_TEST_NOT_FOUND."""
        return self._view(await self._found(model_name, name))

    async def page(
        self, model_name: str, *, status: str, page_size: int, page_token: str
    ) -> tuple[Sequence[AbTestView], str]:
        """A page of a model's tests, newest first, and the token of the next one."""
        check_model_name(model_name)
        if status and status not in tuple(AbTestStatus):
            raise invalid("status", status, ", ".join(f'"{one}"' for one in AbTestStatus))
        size = check_page_size(page_size)
        query = f"ab-tests\0{model_name}\0{status}"
        after = decode_page_token(page_token, query=query)
        found = await self._rollouts.store.page(
            model_name,
            RolloutKind.AB_TEST,
            status=status,
            before=int(after[0]) if after else None,
            limit=size + 1,
        )
        token = encode_page_token(str(found[size - 1].number), query=query) if len(found) > size else ""
        return [self._view(rollout) for rollout in found[:size]], token

    async def stop(self, call: Call, name: str) -> AbTestView:
        """Ends a test without a conclusion. Raises AB_TEST_NOT_FOUND, ROLLOUT_STATE_INVALID, ETAG_MISMATCH."""

        def wish(view: AbTestView, split: Split) -> AbStep:
            now, last = self._clock.now(), view.results
            return stopped(view.test, split, now=now, actor=call.actor, reason=call.reason, last=last)

        return await self._by_hand(call, name, wish)

    async def conclude(self, call: Call, name: str, *, promote: str) -> AbTestView:
        """Ends a test as if its time were over. Raises as `stop`, and INVALID_FIELD."""

        def wish(view: AbTestView, split: Split) -> AbStep:
            now, last = self._clock.now(), view.results
            return concluded(
                view.test, split, now=now, actor=call.actor, reason=call.reason, last=last, promote=promote
            )

        return await self._by_hand(call, name, wish)

    async def carry_out(
        self, rollout: Rollout, step: AbStep, *, actor: str = "", fence: int | None = None
    ) -> Saved | Mismatch:
        """Stores what `step` makes of `rollout`, its model's rule as it is known here, and the events; gateways are
        told then."""
        rule, before = self.in_force(rollout.model_name)
        return await self._rollouts.save(
            with_ab_test(rollout, step.test, now=self._clock.now(), results=step.results),
            change=_change(step, rule, before, actor=actor) if step.split is not None else None,
            rule_generation=rule.generation if rule is not None else 0,
            fence=fence,
            events=step.events,
        )

    async def overtaken(self, rollout: Rollout) -> AbStep | None:
        """The end of a test whose model's shares someone else has decided meanwhile; None: it decides them."""
        test = ab_test_of(rollout)
        reason = await self._rules.overtaken(test.model_name, test.name, what="test")
        if reason is None:
            return None
        return overtaken(test, now=self._clock.now(), reason=reason, last=self.results(rollout))

    def in_force(self, model_name: str) -> tuple[Rule | None, Split]:
        """The rule of a model as it is known here, and the split that holds."""
        rule = self._rules.rules.get(model_name)
        return rule, split_in_force(rule, self._publisher.states.get(model_name))

    def results(self, rollout: Rollout) -> AbTestResults | None:
        """What a test shows: by the newest evidence where it is driven here, else as it was kept; None: nothing."""
        evidence = self.live.get(rollout.rollout_id) if rollout.running else None
        if evidence is None:
            return shown_by(rollout)
        test = ab_test_of(rollout)
        return results_of(test.plan, evidence, over=evidence.window_end >= test.ends_at.replace(microsecond=0))

    async def _by_hand(self, call: Call, name: str, wish: Callable[[AbTestView, Split], AbStep]) -> AbTestView:
        check_call(call)
        for _ in range(_TRIES):
            rollout = await self._found(call.model_name, name)
            if call.etag and call.etag != rollout.etag:
                raise _test_mismatch(call.model_name, name)
            view = self._view(rollout)
            await self._rules.fresh(call.model_name)
            ended = await self.overtaken(rollout) if view.test.running else None
            step = ended or wish(view, self.in_force(call.model_name)[1])
            saved = await self.carry_out(rollout, step, actor=call.actor)
            if isinstance(saved, Saved) and ended is None:
                await self._published(call.model_name)
                return self._view(saved.rollout)
        raise _test_mismatch(call.model_name, name)

    async def _first_step(
        self, call: Call, name: str, plan: AbTestPlan, test_id: str
    ) -> tuple[Rule | None, Split, AbStep]:
        step: AbStep | None = None

        def decide(rule: Rule | None, before: Split) -> Split:
            nonlocal step
            check_free(rule, "the shares")
            _check_ready(plan, self._changing.ready(call), call.model_name)
            step = started(
                test_id=test_id,
                name=name,
                model_name=call.model_name,
                plan=plan,
                split=before,
                labels=rule is not None and rule.log_labels,
                now=self._clock.now(),
            )
            return before

        rule, before, _ = await self._changing.decided(call, decide)
        assert step is not None, "a decision without an error has made a step"
        return rule, before, step

    async def _found(self, model_name: str, name: str) -> Rollout:
        check_model_name(model_name)
        rollout = await self._rollouts.store.find(model_name, name)
        if rollout is None or rollout.kind is not RolloutKind.AB_TEST:
            raise MeshError(
                Reason.AB_TEST_NOT_FOUND,
                f"model {model_name!r} has no A/B test {name!r}; list its tests to see them",
                metadata={"model_name": model_name, "name": name},
            )
        return rollout

    def _view(self, rollout: Rollout) -> AbTestView:
        test = ab_test_of(rollout)
        nothing = AbTestResults(test.plan.control, conclusion="Nothing is known yet: there is no evidence so far.")
        return AbTestView(test, rollout, self.results(rollout) or nothing)

    async def _published(self, model_name: str) -> None:
        await self._publisher.brought(model_name, timeout_s=self._options.patience_s)


def _change(
    step: AbStep, rule: Rule | None, before: Split, *, actor: str, request_id: str = "", digest: str = ""
) -> NewChange:
    assert step.split is not None, "a step that leaves the split alone changes no rule"
    test = step.test
    return NewChange(
        model_name=test.model_name,
        deployment_name=rule.deployment_name if rule is not None else "",
        action="ab_test",
        actor=actor,
        reason=step.why[:_REASON_MAX],
        before=before,
        after=step.split,
        request_id=request_id,
        request_digest=digest,
        governing=test.name if test.running else "",
        log_labels=test.labels_before or (test.running and test.plan.waits_for_outcomes),
    )


def _check_ready(plan: AbTestPlan, ready: Sequence[str], model_name: str) -> None:
    missing = [version for version in plan.versions if version not in ready]
    if missing:
        raise MeshError(
            Reason.VERSION_NOT_DEPLOYED,
            f"versions names {', '.join(missing)}, of which no deployment of model {model_name!r} is ready; ready are "
            f"{', '.join(ready)}; deploy it and wait until it is active",
            metadata={"model_name": model_name, "version": missing[0]},
        )


def _exists(model_name: str, name: str) -> MeshError:
    return MeshError(
        Reason.AB_TEST_EXISTS,
        f"model {model_name!r} has, or had, an A/B test {name!r}; choose another name",
        metadata={"model_name": model_name, "name": name},
    )


def _test_mismatch(model_name: str, name: str) -> MeshError:
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"the A/B test {name!r} of model {model_name!r} has moved on; read it again and repeat the call with its etag",
        metadata={"model_name": model_name, "name": name},
    )
