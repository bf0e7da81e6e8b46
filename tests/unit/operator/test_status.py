"""What is told of a model deployment, and why pods do not start, in whose words."""

import pytest

from services.common.body import Body, items, text
from services.common.kubernetes.conditions import condition
from services.operator.domain.manifests.workload import deployment
from services.operator.domain.observed import Observed, observe
from services.operator.domain.pods import Trouble, trouble
from services.operator.domain.spec import read_spec
from services.operator.domain.status import Findings, status_of
from tests.support.operator_cases import FACTS, OPTIONS, body, plain

NOW, BEFORE = "2026-06-01T12:00:00Z", "2026-06-01T11:00:00Z"


def workload(version: str, *, wanted: int, ready: int, **more: object) -> Body:
    made = plain(deployment(read_spec(body({"version": version})), FACTS, OPTIONS, replicas=wanted))
    assert isinstance(made, dict)
    made["metadata"]["generation"] = 1
    status = {"observedGeneration": 1, "replicas": wanted, "updatedReplicas": wanted, "readyReplicas": ready}
    made["status"] = {**status, "availableReplicas": ready, **more}
    return made


def told(findings: Findings, seen: Observed, spec: Body | None = None, before: Body | None = None) -> Body:
    return status_of({**body(spec or {}), "status": before or {}}, findings, seen, now=NOW)


def conditions(status: Body) -> dict[str, tuple[str, str]]:
    return {text(one, "type"): (text(one, "status"), text(one, "reason")) for one in items(status, "conditions")}


@pytest.mark.parametrize(
    ("wanted", "ready", "phase", "served"),
    [(2, 2, "active", "v1.0.0"), (2, 1, "deploying", "v1.0.0"), (2, 0, "deploying", ""), (0, 0, "active", "")],
)
def test_the_phase_follows_the_replicas(wanted: int, ready: int, phase: str, served: str) -> None:
    status = told(
        Findings(wish=read_spec(body({})), facts=FACTS), observe([workload("v1.0.0", wanted=wanted, ready=ready)])
    )
    assert (status["phase"], status["servedVersion"], status["readyReplicas"]) == (phase, served, ready)
    assert ("endpoint" in status) == (ready > 0)


def test_while_a_version_comes_up_the_old_one_is_what_answers() -> None:
    wish = read_spec(body({"version": "v2.0.0"}))
    both = observe([workload("v1.0.0", wanted=1, ready=1), workload("v2.0.0", wanted=2, ready=1)])
    status = told(Findings(wish=wish, facts=FACTS), both)
    assert (status["phase"], status["servedVersion"], status["replicas"]) == ("deploying", "v1.0.0", 3)
    assert conditions(status)["Available"] == ("True", "Answering")
    assert conditions(status)["Ready"] == ("False", "Rolling")


def test_a_problem_is_the_message_and_ends_what_is_known() -> None:
    problem = condition("QuotaGranted", False, "QuotaExceeded", "no room; ask for more")
    passed = [condition("Validated", True, "Valid", "fine")]
    findings = Findings(wish=read_spec(body({})), facts=FACTS, problem=problem, passed=passed)
    status = told(findings, observe([workload("v1.0.0", wanted=1, ready=1)]))
    assert (status["phase"], status["message"]) == ("failed", "no room; ask for more")
    assert list(conditions(status)) == ["Validated", "QuotaGranted", "Available", "Ready"]


def test_a_transition_is_when_the_status_changed_and_not_the_words() -> None:
    before = {
        "conditions": [
            {"type": "Available", "status": "True", "lastTransitionTime": BEFORE, "message": "other words"},
            {"type": "Ready", "status": "True", "lastTransitionTime": BEFORE},
        ]
    }
    findings = Findings(wish=read_spec(body({})), facts=FACTS)
    status = told(findings, observe([workload("v1.0.0", wanted=2, ready=1)]), before=before)
    since = {text(one, "type"): text(one, "lastTransitionTime") for one in items(status, "conditions")}
    assert since["Available"] == BEFORE
    assert since["Ready"] == NOW


def test_numbers_of_an_older_wish_count_for_nothing() -> None:
    stale = observe([workload("v1.0.0", wanted=1, ready=1, observedGeneration=0)])
    assert told(Findings(wish=read_spec(body({})), facts=FACTS), stale)["phase"] == "deploying"


def test_a_roll_that_stands_still_has_failed() -> None:
    late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    seen = observe([workload("v1.0.0", wanted=2, ready=1, conditions=[late])])
    status = told(Findings(wish=read_spec(body({})), facts=FACTS), seen)
    assert status["phase"] == "failed"
    assert conditions(status)["RolledOut"] == ("False", "Stalled")


def container(name: str, **state: object) -> Body:
    return {"name": name, "state": state}


@pytest.mark.parametrize(
    ("pod", "found"),
    [
        ({"containerStatuses": [container("triton", running={})]}, None),
        ({"initContainerStatuses": [container("fetch", waiting={"reason": "PodInitializing"})]}, None),
        (
            {"initContainerStatuses": [container("fetch", terminated={"exitCode": 1, "message": "a\nGONE: b\n"})]},
            Trouble("FetchFailed", "container fetch: GONE: b"),
        ),
        (
            {"containerStatuses": [container("triton", terminated={"exitCode": 137, "reason": "OOMKilled"})]},
            Trouble("OOMKilled", "container triton: ended with exit code 137; raise spec.resources.memory"),
        ),
        (
            {"containerStatuses": [container("triton", waiting={"reason": "ImagePullBackOff", "message": "no such"})]},
            Trouble(
                "ImagePullBackOff",
                "container triton: no such; see that the image exists and that the namespace may pull it",
            ),
        ),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3"}]},
            Trouble("Unschedulable", "no node takes the pod: 0/3; ask for less in spec.resources, or add nodes"),
        ),
    ],
)
def test_why_a_pod_does_not_start_is_said_by_who_knows(pod: Body, found: Trouble | None) -> None:
    assert trouble([{"metadata": {"name": "a"}, "status": pod}]) == found
