"""An ABTest as a value, and its status."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.body import Body, flag, items, name_of, namespace_of, number, table, text, whole
from services.common.kubernetes.conditions import Condition, condition, written

RUNNING = "running"


@dataclass(frozen=True, slots=True)
class AbTestWish:
    """What is wished of a test."""

    name: str
    namespace: str
    uid: str
    model_name: str
    versions: Mapping[str, int]
    duration_days: float
    metrics: tuple[str, ...]
    rollback_on_error_rate: float
    auto_promote: bool
    sticky_key_header: str
    stopped: bool


@dataclass(frozen=True, slots=True)
class AbTestArm:
    """What one version did."""

    version: str
    request_count: int
    error_rate: float
    latency_avg_ms: float
    latency_p95_ms: float


@dataclass(frozen=True, slots=True)
class AbTestStanding:
    """How a test stands, as the router says. Moments as Kubernetes writes them; empty: not known."""

    phase: str
    message: str
    start_time: str = ""
    end_time: str = ""
    control: str = ""
    winner: str = ""
    outcome: str = ""
    conclusion: str = ""
    arms: Sequence[AbTestArm] = ()


def read_ab_test(body: Body) -> AbTestWish:
    """What an object says. The API server has checked it."""
    spec = table(body, "spec")
    return AbTestWish(
        name=name_of(body),
        namespace=namespace_of(body),
        uid=text(body, "metadata", "uid"),
        model_name=text(spec, "modelName"),
        versions={version: whole(spec, "versions", version) for version in table(spec, "versions")},
        duration_days=number(spec, "durationDays", default=7.0),
        metrics=tuple(one for one in items(spec, "metrics") if isinstance(one, str)),
        rollback_on_error_rate=number(spec, "rollbackOnErrorRate"),
        auto_promote=flag(spec, "autoPromote"),
        sticky_key_header=text(spec, "stickyKeyHeader"),
        stopped=flag(spec, "stopped"),
    )


def ab_test_status(
    body: Body, standing: AbTestStanding | None, problem: Condition | None, *, now: str
) -> Mapping[str, object]:
    """The status to store."""
    accepted = problem or condition("Accepted", True, "Accepted", "the router knows the test")
    generation = whole(body, "metadata", "generation")
    status: dict[str, object] = {
        "observedGeneration": generation,
        "conditions": written([accepted], body, generation=generation, now=now),
    }
    if standing is None:
        # What was known of it stays true while the router cannot be asked.
        before = text(body, "status", "phase")
        status["phase"] = before or ("failed" if accepted.status == "False" else "pending")
        status["message"] = accepted.message
        return status
    told = {
        "phase": standing.phase,
        "message": standing.message,
        "startTime": standing.start_time,
        "endTime": standing.end_time,
        "control": standing.control,
        "winner": standing.winner,
        "outcome": standing.outcome,
        "conclusion": standing.conclusion,
    }
    arms = [
        {
            "version": arm.version,
            "requestCount": arm.request_count,
            "errorRate": arm.error_rate,
            "latencyAvgMs": arm.latency_avg_ms,
            "latencyP95Ms": arm.latency_p95_ms,
        }
        for arm in standing.arms
    ]
    return status | {name: value for name, value in told.items() if value} | ({"arms": arms} if arms else {})
