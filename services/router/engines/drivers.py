"""One task for each rollout of a kind that runs, on the router that leads and on no other."""

import asyncio
from collections.abc import Awaitable, Callable

from services.common.clock import Clock
from services.common.signals import wait_at_most
from services.common.telemetry.logging import get_logger
from services.router.domain.rollouts import Rollout, RolloutKind
from services.router.engines.leadership import Leadership
from services.router.engines.rollouts import Rollouts

log = get_logger(__name__)

_LOOK_S = 1.0
_AGAIN_S = 1.0


class Drivers:
    """Starts and ends them."""

    def __init__(
        self,
        *,
        rollouts: Rollouts,
        leadership: Leadership,
        kind: RolloutKind,
        drive: Callable[[Rollout], Awaitable[None]],
        clock: Clock,
    ) -> None:
        """`drive` is given a rollout that runs and returns once it has ended. It is cancelled when another router leads
        or the rollout was ended elsewhere, and started anew, with the rollout as it is then, when it fails."""
        self._rollouts = rollouts
        self._leadership = leadership
        self._kind = kind
        self._drive = drive
        self._clock = clock

    async def run(self) -> None:
        """Never ends by itself."""
        tasks: dict[str, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                changed = self._rollouts.changed.current
                wanted = self._wanted()
                for rollout_id, task in list(tasks.items()):
                    if task.done():
                        del tasks[rollout_id]
                    elif rollout_id not in wanted:
                        task.cancel()
                for rollout_id, rollout in wanted.items():
                    if rollout_id not in tasks:
                        name = f"router:{self._kind}:{rollout.model_name}"
                        tasks[rollout_id] = group.create_task(self._driven(rollout_id, rollout.model_name), name=name)
                await wait_at_most(changed, _LOOK_S)

    def _wanted(self) -> dict[str, Rollout]:
        if not self._leadership.leader:
            return {}
        return {one.rollout_id: one for one in self._rollouts.running.values() if one.kind is self._kind}

    async def _driven(self, rollout_id: str, model_name: str) -> None:
        while (rollout := self._rollouts.running.get(model_name)) is not None and rollout.rollout_id == rollout_id:
            changed = self._rollouts.changed.current
            try:
                await self._drive(rollout)
                # It has ended, or another router leads: this task ends with the next look.
                await wait_at_most(changed, _LOOK_S)
            except Exception:
                log.exception("a rollout's driver crashed; it starts again", model=model_name, rollout=rollout.name)
                await self._clock.sleep(_AGAIN_S)
