"""What callers may ask of canaries that there are; `canary_starts` begins them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.names import check_model_name
from services.common.page import check_page_size, decode_number_token, encode_page_token
from services.router.domain.canary import Canary
from services.router.domain.canary_document import canary_of, results_of
from services.router.domain.canary_steps import (
    Step,
    aborted,
    paused,
    promoted,
    resumed,
)
from services.router.domain.criteria import CriterionResult
from services.router.domain.rollouts import Rollout, RolloutKind, Saved
from services.router.engines.canary_saving import CanarySaving
from services.router.engines.canary_starts import CanaryStarts
from services.router.engines.changing import Call, check_call
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook

_TRIES = 5


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
        self, *, starts: CanaryStarts, rollouts: Rollouts, rules: RuleBook, saving: CanarySaving, clock: Clock
    ) -> None:
        self.starts = starts
        """What begins them."""
        self._rollouts = rollouts
        self._rules = rules
        self._saving = saving
        self._clock = clock

    async def get(self, model_name: str) -> CanaryView:
        """The canary of a model that runs, or its last one. Raises TRAFFIC_RULE_NOT_FOUND."""
        check_model_name(model_name)
        return self._view(await self._newest(model_name))

    async def page(self, model_name: str, *, page_size: int, page_token: str) -> tuple[Sequence[CanaryView], str]:
        """A page of a model's canaries, newest first, and the token of the next one."""
        check_model_name(model_name)
        size = check_page_size(page_size)
        query = f"canaries\0{model_name}"
        before = decode_number_token(page_token, query=query)
        found = await self._rollouts.store.page(model_name, RolloutKind.CANARY, before=before, limit=size + 1)
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

        def wish(view: CanaryView) -> Step:
            now = self._clock.now()
            return resumed(view.canary, now=now, actor=call.actor, reason=call.reason, results=view.results)

        return await self._by_hand(call, wish)

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

    async def _by_hand(self, call: Call, wish: Callable[[CanaryView], Step]) -> CanaryView:
        check_call(call)
        for _ in range(_TRIES):
            rollout = await self._newest(call.model_name)
            if call.etag and call.etag != rollout.etag:
                raise _canary_mismatch(call.model_name)
            view = self._view(rollout)
            await self._rules.fresh(call.model_name)
            ended = await self._saving.overtaken(view.canary, view.results) if view.canary.running else None
            step = ended or wish(view)
            if step.canary == view.canary:
                return view
            saved = await self._saving.carry_out(rollout, step, actor=call.actor)
            if isinstance(saved, Saved) and ended is None:
                await self._saving.published(call.model_name)
                return self._view(saved.rollout)
        raise _canary_mismatch(call.model_name)

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
        results, error = self._saving.live.get(rollout.rollout_id, kept) if rollout.running else kept
        return CanaryView(canary_of(rollout), rollout, results, error if rollout.running else "")


def _canary_mismatch(model_name: str) -> MeshError:
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"the canary of model {model_name!r} has moved on; read it again and repeat the call with its new etag",
        metadata={"model_name": model_name},
    )
