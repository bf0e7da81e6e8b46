"""Brings one model deployment about: looks at what is wished and what is there, and does what is missing.

It never asks what happened, so a crash anywhere, a missed event and another operator that takes over are all the same
to it. Nothing is written that is as it should be, and nothing of a change is applied before the API server has tried
all of it (dry run) and the namespace's quota has room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.body import Body, items, text, whole
from services.common.clock import Clock
from services.common.errors import Code, MeshError, Reason
from services.common.kubernetes.conditions import Condition, condition
from services.common.telemetry.logging import get_logger
from services.operator.domain.applying import Key, key_of, must_apply, stamped
from services.operator.domain.foresight import foresight
from services.operator.domain.manifests.desired import desired
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.names import (
    API_VERSION,
    DRAINING_SINCE,
    FINALIZER,
    label_value,
    selector,
)
from services.operator.domain.observed import Observed, Workload, observe, written_moment
from services.operator.domain.options import ClusterOptions, VersionFacts, check_stage
from services.operator.domain.plan import of_version, remove, replicas_now, retire
from services.operator.domain.pods import Trouble, belongs, trouble
from services.operator.domain.quota import quota_problem
from services.operator.domain.spec import ModelDeployment, read_spec
from services.operator.domain.status import (
    APPLIED,
    QUOTA_GRANTED,
    VALIDATED,
    Findings,
    status_manifest,
    status_of,
)
from services.operator.engines.memory import Memory
from services.operator.ports import Cluster, Name, Versions, View

log = get_logger(__name__)

_LOOK_AT_PODS_EVERY_S = 10.0
_LATE_AFTER_S = 10.0
_LOOK_AGAIN_AFTER_REFUSAL_S = 30.0
_TRANSIENT = {Code.UNAVAILABLE, Code.DEADLINE_EXCEEDED, Code.ABORTED}
_PASSED = (
    condition(VALIDATED, True, "Valid", "the registry knows the version, and the cluster can run what is asked for"),
    condition(QUOTA_GRANTED, True, "Granted", "the namespace's quota has room for it"),
    condition(APPLIED, True, "Applied", "the cluster took all that is made for it"),
)


class _Stopped(Exception):  # noqa: N818 - no failure of the operator's: the wish's
    """A step failed for good: what follows it is not tried."""

    def __init__(self, problem: Condition, passed: Sequence[Condition]) -> None:
        super().__init__(problem.message)
        self.problem = problem
        self.passed = passed


@dataclass(frozen=True)
class _Looked:
    """What a look came to, and when to look again."""

    findings: Findings
    again_s: float | None


class Reconciler:
    """`look` is what a `WorkQueue` calls."""

    def __init__(
        self, *, cluster: Cluster, view: View, versions: Versions, clock: Clock, options: ClusterOptions
    ) -> None:
        self._cluster = cluster
        self._view = view
        self._versions = versions
        self._clock = clock
        self._options = options
        self._memory = Memory(clock)
        self._late_since: dict[Name, float] = {}
        """Since when a wished version's replicas are not all there."""

    async def look(self, name: Name) -> float | None:
        """Looks at one model deployment. In how many seconds to look again; None: once something changes.

        Raises MeshError where the API server does not answer, or somebody else changed the same thing meanwhile.
        """
        told = self._view.wish(name)
        if told is None:
            self._memory.forget(name)
            self._late_since.pop(name, None)
            return None
        body = self._newest_wish(name, told)
        if text(body, "metadata", "deletionTimestamp"):
            looked = await self._remove(name, body)
        else:
            looked = await self._bring_about(name, body)
        if looked is not None:
            await self._tell(name, body, looked.findings)
            return looked.again_s
        return None

    def _newest_wish(self, name: Name, told: Body) -> Body:
        return self._memory.newest(name, {key_of(told): told})[key_of(told)]

    def _seen(self, name: Name) -> Observed:
        newest = self._memory.newest(name, self._view.children(name))
        return observe(body for (kind, _), body in newest.items() if kind != "ModelDeployment")

    async def _bring_about(self, name: Name, body: Body) -> _Looked:
        wish: ModelDeployment | None = None
        facts: VersionFacts | None = None
        try:
            wish, facts, manifests, scaled = await self._validated(name, body)
            ahead = foresight(wish, body, self._clock.now())
            await self._hold(name, body)
            await self._applied(name, wish, manifests, scaled=scaled)
        except _Stopped as stop:
            findings = Findings(wish=wish, facts=facts, problem=stop.problem, passed=stop.passed)
            return _Looked(findings, _LOOK_AGAIN_AFTER_REFUSAL_S)
        again_s = _sooner(await self._retired(name, wish, body), ahead.ends_s)
        target = self._seen(name).workloads.get(label_value(wish.version))
        found: Trouble | None = None
        if target is None or target.complete:
            self._late_since.pop(name, None)
        else:
            found = await self._trouble(name, wish, target)
            again_s = _sooner(again_s, _LOOK_AT_PODS_EVERY_S)
        passed: list[Condition] = list(_PASSED)
        if target is not None and target.refused_by_quota:
            problem = condition(
                QUOTA_GRANTED,
                False,
                "QuotaExceeded",
                f"{target.refused}; scale something down, or ask a platform admin for more",
            )
            return _Looked(Findings(wish=wish, facts=facts, problem=problem, passed=passed[:1]), again_s)
        return _Looked(Findings(wish=wish, facts=facts, trouble=found, passed=passed, floor=ahead.floor), again_s)

    async def _validated(
        self, name: Name, body: Body
    ) -> tuple[ModelDeployment, VersionFacts, Sequence[Manifest], bool]:
        """What is wished, and all that is to be there for it."""
        try:
            wish = read_spec(body)
            facts = await self._versions.facts(wish.model_name, wish.version)
            seen = self._seen(name)
            if label_value(wish.version) not in seen.workloads:
                check_stage(facts, wish.model_name, wish.version)
            replicas, scaled = replicas_now(wish, seen)
            floor = foresight(wish, body, self._clock.now()).floor
            manifests = desired(wish, facts, self._options, replicas=replicas, floor=floor)
        except MeshError as error:
            if error.code in _TRANSIENT:
                if whole(body, "status", "observedGeneration") == whole(body, "metadata", "generation"):
                    # What was said of this wish stays true meanwhile.
                    raise
                raise _Stopped(condition(VALIDATED, None, "RegistryAway", error.message), ()) from error
            raise _Stopped(condition(VALIDATED, False, _word(error.reason), error.message), ()) from error
        return wish, facts, [stamped(one, scaled=scaled and one["kind"] == "Deployment") for one in manifests], scaled

    async def _hold(self, name: Name, body: Body) -> None:
        """Keeps the object, once it is deleted, until it has drained."""
        if FINALIZER in items(body, "metadata", "finalizers"):
            return
        self._memory.wrote(name, await self._cluster.apply(_held(body, [FINALIZER])))

    async def _applied(self, name: Name, wish: ModelDeployment, manifests: Sequence[Manifest], *, scaled: bool) -> None:
        seen = self._seen(name)
        missing = [
            one
            for one in manifests
            if must_apply(
                one,
                seen.objects.get(key_of(one)),
                settled_at=self._memory.settled_at(name, key_of(one)),
                scaled=scaled and one["kind"] == "Deployment",
            )
        ]
        if missing:
            workload = next(one for one in manifests if one["kind"] == "Deployment")
            refused = quota_problem(self._view.quotas(wish.namespace), workload, seen.objects.get(key_of(workload)))
            if refused:
                raise _Stopped(condition(QUOTA_GRANTED, False, "QuotaExceeded", refused), _PASSED[:1])
            if seen.workloads:
                # Something answers, and would be left between two wishes by a refusal half-way.
                for one in missing:
                    await self._apply(name, _guarded(one, seen, scaled=scaled), dry_run=True)
            for one in missing:
                await self._apply(name, _guarded(one, seen, scaled=scaled))
        await self._come_back(name, wish, seen)
        await self._unneeded(name, wish, manifests)

    async def _apply(self, name: Name, manifest: Manifest, *, dry_run: bool = False) -> None:
        try:
            came = await self._cluster.apply(manifest, dry_run=dry_run)
        except MeshError as error:
            if error.code in _TRANSIENT:
                raise
            quota = "exceeded quota" in error.message
            kind, passed = (QUOTA_GRANTED, _PASSED[:1]) if quota else (APPLIED, _PASSED[:2])
            reason = "QuotaExceeded" if quota else "Refused"
            raise _Stopped(condition(kind, False, reason, error.message), passed) from error
        if not dry_run:
            self._memory.applied(name, came)

    async def _come_back(self, name: Name, wish: ModelDeployment, seen: Observed) -> None:
        """A version that was about to go and is wished again stays."""
        target = seen.workloads.get(label_value(wish.version))
        if target is not None and target.draining_since is not None:
            body = seen.objects[("Deployment", target.name)]
            self._memory.wrote(name, await self._cluster.annotate(body, {DRAINING_SINCE: None}))

    async def _unneeded(self, name: Name, wish: ModelDeployment, manifests: Sequence[Manifest]) -> None:
        """Deletes what was made for the version and is no longer asked for: an autoscaler, for instance."""
        wanted = {key_of(one) for one in manifests}
        seen = self._seen(name)
        target = seen.workloads.get(label_value(wish.version))
        if target is not None:
            for key in of_version(seen, target):
                if key not in wanted:
                    await self._delete(name, seen, key)

    async def _retired(self, name: Name, wish: ModelDeployment, told: Body) -> float | None:
        seen = self._seen(name)
        now = self._clock.now()
        plan = retire(wish, seen, body=self._newest_wish(name, told), now=now, drain_s=self._options.drain_s)
        for one in plan.withdraw:
            # The mark comes first: a crash in between leaves a version that drains for too long, and no other.
            body = seen.objects[("Deployment", one.name)]
            marked = await self._cluster.annotate(body, {DRAINING_SINCE: written_moment(now)})
            self._memory.wrote(name, marked)
            if ("Service", one.name) in seen.objects:
                await self._delete(name, seen, ("Service", one.name))
            await self._event(name, "Normal", "Withdrawn", f"{one.version_label} leaves the traffic and drains")
        for one in plan.remove:
            for key in of_version(seen, one):
                await self._delete(name, seen, key)
            await self._event(name, "Normal", "Unloaded", f"{one.version_label} has drained and is unloaded")
        return float(self._options.drain_s) if plan.withdraw else plan.look_again_s

    async def _remove(self, name: Name, body: Body) -> _Looked | None:
        if FINALIZER not in items(body, "metadata", "finalizers"):
            # It goes as soon as whoever else holds it lets go, and takes all that it owns with it.
            return None
        seen = self._seen(name)
        step = remove(body, seen, now=self._clock.now(), drain_s=self._options.drain_s)
        for service in step.withdraw:
            await self._delete(name, seen, ("Service", service))
        if step.done:
            self._memory.wrote(name, await self._cluster.apply(_held(body, [])))
            log.info("removed", object="/".join(name))
            return None
        return _Looked(Findings(removing=True), step.look_again_s)

    async def _trouble(self, name: Name, wish: ModelDeployment, target: Workload) -> Trouble | None:
        """What pods say, of replicas that have been late for a while: most are not, and cost no call."""
        now_s = self._clock.monotonic()
        if now_s - self._late_since.setdefault(name, now_s) < _LATE_AFTER_S or target.ready >= target.replicas:
            return None
        pods = await self._cluster.pods(wish.namespace, selector(wish.name, wish.version))
        return trouble(pod for pod in pods if belongs(pod))

    async def _delete(self, name: Name, seen: Observed, key: Key) -> None:
        await self._cluster.delete(seen.objects[key])
        self._memory.deleted(name, key)

    async def _tell(self, name: Name, body: Body, findings: Findings) -> None:
        """Stores the status where it says something new, with an Event where that is worth one."""
        before = self._newest_wish(name, body)
        status = status_of(before, findings, self._seen(name), now=written_moment(self._clock.now()))
        if _tells(before, status):
            return
        told = await self._cluster.apply_status(status_manifest(before, status))
        self._memory.wrote(name, told)
        was, phase = text(before, "status", "phase"), str(status["phase"])
        message = str(status["message"])
        if phase == "failed" and message != text(before, "status", "message"):
            reason = next(
                (text(one, "reason") for one in items(status, "conditions") if text(one, "message") == message),
                "Failed",
            )
            await self._event(name, "Warning", reason, message)
        elif phase == "active" and was != "active":
            await self._event(name, "Normal", "Answering", f"{status['servedVersion']} answers")

    async def _event(self, name: Name, kind: str, reason: str, message: str) -> None:
        about = self._view.wish(name)
        if about is None:
            return
        try:
            await self._cluster.record_event(about, kind=kind, reason=reason, message=message)
        except MeshError as error:
            # It is said in the status too.
            log.info("an Event could not be recorded", object="/".join(name), error=error.message)


def _sooner(one_s: float | None, other_s: float | None) -> float | None:
    """The earlier of two times; None: never by itself."""
    return min((found for found in (one_s, other_s) if found is not None), default=None)


def _held(body: Body, finalizers: list[str]) -> Manifest:
    """The operator's part of the object itself. Its uid keeps a namesake from being made by it."""
    metadata = {name: text(body, "metadata", name) for name in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": "ModelDeployment", "metadata": {**metadata, "finalizers": finalizers}}


def _guarded(manifest: Manifest, seen: Observed, *, scaled: bool) -> Manifest:
    """Where an autoscaler's number is told again, it must be the current one: with the resource version that it was
    read at, the API server refuses it where it is not."""
    live = seen.objects.get(key_of(manifest))
    if not scaled or live is None or manifest["kind"] != "Deployment":
        return manifest
    metadata = manifest["metadata"]
    assert isinstance(metadata, Mapping), "manifests have metadata"
    return {**manifest, "metadata": {**metadata, "resourceVersion": text(live, "metadata", "resourceVersion")}}


def _tells(body: Body, status: Mapping[str, object]) -> bool:
    """Whether the status says so already."""
    there = {text(one, "type"): one for one in items(body, "status", "conditions")}
    same = all(there.get(text(one, "type")) == one for one in items(status, "conditions"))
    stored = body.get("status")
    rest = {name: value for name, value in status.items() if name != "conditions"}
    return same and isinstance(stored, Mapping) and all(stored.get(name) == value for name, value in rest.items())


def _word(reason: Reason) -> str:
    return "".join(part.capitalize() for part in reason.value.split("_"))
