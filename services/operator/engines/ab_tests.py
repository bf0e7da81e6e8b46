"""Brings A/B tests about at the router, which runs them: starts, tells how they stand, stops what is deleted."""

from collections.abc import Callable

from services.common.body import Body, items, text
from services.common.clock import Clock
from services.common.errors import Code, MeshError
from services.common.kubernetes.conditions import Condition, condition
from services.operator.domain.ab_test import RUNNING, AbTestStanding, ab_test_status, read_ab_test
from services.operator.domain.names import API_VERSION, FINALIZER
from services.operator.domain.observed import written_moment
from services.operator.domain.status import status_manifest
from services.operator.ports import AbTests, Cluster, Name

_TRANSIENT = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED}
_LOOK_WHILE_RUNNING_S = 10.0
_LOOK_AFTER_REFUSAL_S = 30.0


class AbTestReconciler:
    """`look` is what a `WorkQueue` calls."""

    def __init__(self, *, cluster: Cluster, find: Callable[[Name], Body | None], tests: AbTests, clock: Clock) -> None:
        self._cluster = cluster
        self._find = find
        self._tests = tests
        self._clock = clock

    async def look(self, name: Name) -> float | None:
        """Looks at one test. In how many seconds to look again; None: once it changes. Raises MeshError."""
        body = self._find(name)
        if body is None:
            return None
        wish = read_ab_test(body)
        held = FINALIZER in items(body, "metadata", "finalizers")
        if text(body, "metadata", "deletionTimestamp"):
            if held:
                await self._tests.stop(wish, reason=f"its ABTest {wish.namespace}/{wish.name} was deleted")
                await self._cluster.apply(_held(body, []))
            return None
        if not held:
            await self._cluster.apply(_held(body, [FINALIZER]))
        standing, problem = await self._stand(body)
        status = ab_test_status(body, standing, problem, now=written_moment(self._clock.now()))
        if not _tells(body, status):
            await self._cluster.apply_status(status_manifest(body, status))
            if problem is not None:
                await self._cluster.record_event(body, kind="Warning", reason=problem.reason, message=problem.message)
        if problem is not None:
            return _LOOK_AFTER_REFUSAL_S
        return _LOOK_WHILE_RUNNING_S if standing is not None and standing.phase == RUNNING else None

    async def _stand(self, body: Body) -> tuple[AbTestStanding | None, Condition | None]:
        wish = read_ab_test(body)
        try:
            found = await self._tests.find(wish)
            if wish.stopped:
                if found is None:
                    return AbTestStanding("stopped", "it was stopped before it began"), None
                if found.phase == RUNNING:
                    found = await self._tests.stop(wish, reason="spec.stopped is true")
                return found, None
            return found or await self._tests.create(wish), None
        except MeshError as error:
            away = error.code in _TRANSIENT
            reason = "RouterAway" if away else "".join(part.capitalize() for part in error.reason.value.split("_"))
            return None, condition("Accepted", None if away else False, reason, error.message)


def _held(body: Body, finalizers: list[str]) -> Body:
    metadata = {name: text(body, "metadata", name) for name in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": "ABTest", "metadata": {**metadata, "finalizers": finalizers}}


def _tells(body: Body, status: Body) -> bool:
    stored = body.get("status")
    return isinstance(stored, dict) and all(stored.get(name) == value for name, value in status.items())
