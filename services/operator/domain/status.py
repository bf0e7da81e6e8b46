"""The status of a model deployment: a phase, numbers, and the conditions that belong to the operator."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.common.body import Body, items, text, whole
from services.common.kubernetes.conditions import FALSE, TRUE, Condition, condition, written
from services.operator.domain.names import API_VERSION, GRPC_PORT, label_value, selector, workload_name
from services.operator.domain.observed import Observed, Workload
from services.operator.domain.options import VersionFacts
from services.operator.domain.pods import Trouble
from services.operator.domain.spec import ModelDeployment

VALIDATED, QUOTA_GRANTED, APPLIED, ROLLED_OUT, AVAILABLE, AUTOSCALED, READY = (
    "Validated",
    "QuotaGranted",
    "Applied",
    "RolledOut",
    "Available",
    "Autoscaled",
    "Ready",
)


@dataclass(frozen=True, slots=True)
class Findings:
    """What one look came to. A problem ends it: what comes after the step that it befell was not tried."""

    wish: ModelDeployment | None = None
    """None: the object's own words make no sense."""
    facts: VersionFacts | None = None
    problem: Condition | None = None
    """The condition of the step that failed."""
    trouble: Trouble | None = None
    """Why replicas do not become ready."""
    removing: bool = False
    floor: int = 0
    """The fewest replicas that a forecast asks for; 0: none does."""
    passed: Sequence[Condition] = field(default=())
    """The conditions of the steps before."""


def status_of(body: Body, findings: Findings, seen: Observed, *, now: str) -> Mapping[str, object]:
    """The status to store, as far as it is the operator's."""
    wish = findings.wish
    target = seen.workloads.get(label_value(wish.version)) if wish is not None else None
    serving = [one for one in seen.workloads.values() if one.ready and one.draining_since is None]
    conditions = _conditions(findings, seen, target, serving)
    phase = _phase(findings, target, conditions)
    bad = next(
        (one for one in conditions if one.status == FALSE and one.type not in {READY, AVAILABLE, AUTOSCALED}), None
    )
    generation = body_generation(body)
    status: dict[str, object] = {
        "observedGeneration": generation,
        "phase": phase,
        "replicas": sum(one.replicas for one in seen.workloads.values()),
        "readyReplicas": sum(one.ready for one in seen.workloads.values()),
        "message": bad.message if bad is not None and phase != "active" else "",
        "servedVersion": _served(wish, target, serving),
        "conditions": written(conditions, body, generation=generation, now=now),
    }
    if wish is not None:
        chosen = selector(wish.name, wish.version)
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(chosen.items()))
        if target is not None and target.ready:
            place = f"{workload_name(wish.name, wish.version)}.{wish.namespace}.svc"
            status["endpoint"] = f"{place}:{GRPC_PORT}"
            if findings.facts is not None:
                status["artifactDigest"] = findings.facts.artifact_digest
    return status


def status_manifest(body: Body, status: Mapping[str, object]) -> Mapping[str, object]:
    """A status as it is applied. The uid keeps a namesake that was made meanwhile from getting it."""
    metadata = {name: text(body, "metadata", name) for name in ("name", "namespace", "uid")}
    return {"apiVersion": API_VERSION, "kind": text(body, "kind"), "metadata": metadata, "status": status}


def body_generation(body: Body) -> int:
    """The generation of an object's wish."""
    return whole(body, "metadata", "generation")


def _conditions(
    findings: Findings, seen: Observed, target: Workload | None, serving: Sequence[Workload]
) -> Sequence[Condition]:
    conditions = [*findings.passed]
    if findings.problem is not None:
        conditions.append(findings.problem)
    elif not findings.removing:
        conditions.append(_rolled_out(findings, target))
        if findings.wish is not None:
            conditions.append(_autoscaled(findings.wish, seen, findings.floor))
    ready = sum(one.ready for one in serving)
    conditions.append(
        condition(AVAILABLE, True, "Answering", f"replicas that answer: {ready}")
        if ready
        else condition(AVAILABLE, False, "NothingAnswers", "no replica answers; the other conditions say why")
    )
    return [*conditions, _ready(conditions, removing=findings.removing)]


def _rolled_out(findings: Findings, target: Workload | None) -> Condition:
    if target is None:
        return condition(ROLLED_OUT, None, "Begun", "replicas are being made")
    if findings.trouble is not None:
        return condition(ROLLED_OUT, False, findings.trouble.reason, findings.trouble.message)
    if target.refused:
        return condition(ROLLED_OUT, False, "PodsRefused", f"no pod is made: {target.refused}")
    if target.complete:
        return condition(ROLLED_OUT, True, "Complete", f"replicas of the version: {target.ready}")
    if target.stalled:
        words = (
            f"replicas that answer: {target.ready} of {target.replicas}, and no more for longer than a load may take"
        )
        return condition(ROLLED_OUT, False, "Stalled", f"{words}; `kubectl describe pods` tells more")
    return condition(ROLLED_OUT, None, "Rolling", f"replicas that answer: {target.ready} of {target.replicas}")


def _autoscaled(wish: ModelDeployment, seen: Observed, floor: int) -> Condition:
    if wish.autoscaling is None:
        return condition(AUTOSCALED, False, "Off", "the number of replicas is spec.resources.replicas")
    kind = "ScaledObject" if wish.autoscaling.to_zero else "HorizontalPodAutoscaler"
    scaler = seen.get(kind, workload_name(wish.name, wish.version))
    if scaler is None:
        return condition(AUTOSCALED, None, "Begun", f"the {kind} is being made")
    for one in items(scaler, "status", "conditions"):
        if text(one, "type") in {"ScalingActive", "Ready"} and text(one, "status") == FALSE:
            return condition(AUTOSCALED, False, text(one, "reason", default="Inactive"), text(one, "message"))
    ahead = (
        f"; the forecast asks for {floor} replicas at least" if floor > max(1, wish.autoscaling.min_replicas) else ""
    )
    return condition(AUTOSCALED, True, kind, f"a {kind} follows the load{ahead}")


def _ready(conditions: Sequence[Condition], *, removing: bool) -> Condition:
    if removing:
        return condition(READY, False, "Terminating", "it drains, and is removed then")
    for one in conditions:
        if one.type != AUTOSCALED and one.status != TRUE:
            return condition(READY, False, one.reason, one.message)
    return condition(READY, True, "Answering", "the version that is wished answers")


def _phase(findings: Findings, target: Workload | None, conditions: Sequence[Condition]) -> str:
    if findings.removing:
        return "terminating"
    if any(one.status == FALSE and one.type not in {READY, AVAILABLE, AUTOSCALED} for one in conditions):
        return "failed"
    if target is None:
        return "pending"
    return "active" if target.complete else "deploying"


def _served(wish: ModelDeployment | None, target: Workload | None, serving: Sequence[Workload]) -> str:
    """The version that answers: the one that is wished once it answers in full, or where nothing else does."""
    if wish is not None and target is not None and target.ready and (target.complete or serving == [target]):
        return wish.version
    others = [one for one in serving if one is not target]
    return others[0].version_label if others else ""
