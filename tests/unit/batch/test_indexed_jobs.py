"""The Jobs that are made for batch jobs, and what is read from them and decided."""

from dataclasses import replace

import kubernetes_validate
import pytest
import yaml

from services.batch.domain.indexed_job import indexed_job, name_of_job
from services.batch.domain.job import Status
from services.batch.domain.launched import (
    Fate,
    Launched,
    Standing,
    Step,
    changes,
    failure,
    fate,
    next_step,
    obstacle,
    read_launched,
    unscheduled,
)
from services.common.body import Body, at, text
from services.common.errors import Reason
from tests.support.batch_job_cases import CASES, FOLDER, JOB_ID, OPTIONS, job, manifest, text_of
from tests.support.operator_cases import plain


@pytest.mark.parametrize("case", CASES)
def test_what_is_made_is_what_the_file_says(case: str) -> None:
    assert plain(manifest(case)) == yaml.safe_load((FOLDER / f"{case}.yaml").read_text())
    assert text_of(case) == (FOLDER / f"{case}.yaml").read_text(), "python -m tests.support.batch_job_cases"


@pytest.mark.parametrize("version", ["1.30", "1.37"])
@pytest.mark.parametrize("case", CASES)
def test_what_is_made_is_what_kubernetes_knows(case: str, version: str) -> None:
    kubernetes_validate.validate(plain(manifest(case)), version, strict=True)


def test_there_is_a_file_for_each_case_and_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.yaml")} == set(CASES)


def found(**status: object) -> Launched:
    """The plain Job as the cluster has it."""
    made = manifest("plain")
    return read_launched({**made, "metadata": {**made["metadata"], "uid": "u1"}, "status": status})  # type: ignore[dict-item]


def ended(kind: str, reason: str = "", message: str = "") -> Launched:
    return found(conditions=[{"type": kind, "status": "True", "reason": reason, "message": message}])


def test_what_is_read_is_what_was_made() -> None:
    read = found(ready=2)
    assert (read.job_id, read.attempt, read.namespace, read.name) == (JOB_ID, 1, "vision", name_of_job(JOB_ID, 1))
    assert (read.parallelism, read.deadline_s, read.suspended, read.ready) == (4, 5400, False, 2)
    assert next_step(manifest("plain"), read) is Step.NOTHING


@pytest.mark.parametrize(
    ("wanted", "there", "step"),
    [
        (job(), None, Step.CREATE),
        (job(spec=replace(job().spec, max_parallelism=2)), found(), Step.CHANGE),
        (job(spec=replace(job().spec, timeout_minutes=1)), found(), Step.CHANGE),
        (job(), replace(found(), suspended=True), Step.CHANGE),
        (job(), ended("Complete"), Step.REMOVE),
        (job(), replace(found(), applied="other"), Step.REMOVE),
        (job(), replace(found(), applied="other", ending=True), Step.NOTHING),
        (job(), ended("Failed"), Step.NOTHING),
        (job(), replace(ended("Failed"), parallelism=1), Step.NOTHING),
        (job(paused=True), found(), Step.CHANGE),
        (job(paused=True), replace(found(), suspended=True), Step.NOTHING),
    ],
)
def test_the_next_step(wanted: object, there: Launched | None, step: Step) -> None:
    assert next_step(indexed_job(wanted, OPTIONS, namespace="vision", chunks=1000), there) is step  # type: ignore[arg-type]


def test_only_what_kubernetes_lets_be_changed_is_changed() -> None:
    asked = replace(job().spec, max_parallelism=2)
    wanted = indexed_job(job(spec=asked), OPTIONS, namespace="vision", chunks=1000)
    assert changes(wanted) == {"spec": {"suspend": False, "parallelism": 2, "activeDeadlineSeconds": 5400}}
    for options in (
        replace(OPTIONS, image="other"),
        replace(OPTIONS, retries=1),
        replace(OPTIONS, pods_max=7),
        replace(OPTIONS, memory="9Gi"),
    ):
        other = indexed_job(job(), options, namespace="vision", chunks=1000)
        assert next_step(other, found()) is Step.REMOVE


@pytest.mark.parametrize(
    ("standing", "end"),
    [
        (None, Fate.REMOVE),
        (Standing(Status.RUNNING, paused=False, attempt=1, total_chunks=9, completed_chunks=1), Fate.KEEP),
        (Standing(Status.PENDING, paused=False, attempt=1, total_chunks=9, completed_chunks=1), Fate.KEEP),
        (Standing(Status.PENDING, paused=True, attempt=1, total_chunks=9, completed_chunks=1), Fate.SUSPEND),
        (Standing(Status.RUNNING, paused=False, attempt=2, total_chunks=9, completed_chunks=1), Fate.REMOVE),
        *(
            (Standing(status, paused=False, attempt=1, total_chunks=9, completed_chunks=9), Fate.REMOVE)
            for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
        ),
    ],
)
def test_what_becomes_of_a_job_nobody_carries(standing: Standing | None, end: Fate) -> None:
    assert fate(found(), standing) is end


@pytest.mark.parametrize(
    ("standing", "over"),
    [
        (Standing(Status.RUNNING, paused=False, attempt=1, total_chunks=9, completed_chunks=8), False),
        (Standing(Status.RUNNING, paused=False, attempt=1, total_chunks=9, completed_chunks=9), True),
        (Standing(Status.PENDING, paused=True, attempt=1, total_chunks=9, completed_chunks=8), False),
        (Standing(Status.RUNNING, paused=False, attempt=1, total_chunks=0, completed_chunks=0), False),
        (Standing(Status.CANCELLED, paused=False, attempt=1, total_chunks=9, completed_chunks=8), True),
        (Standing(Status.RUNNING, paused=False, attempt=2, total_chunks=9, completed_chunks=8), True),
    ],
)
def test_workers_end_when_nothing_will_be_left_and_not_before(standing: Standing, *, over: bool) -> None:
    assert standing.over(1) is over


def pod(name: str, **status: object) -> Body:
    return {"metadata": {"name": name}, "status": status}


def container(**state: object) -> Body:
    return {"containerStatuses": [{"name": "worker", "state": state}]}


def test_a_failed_job_says_what_its_workers_said_last() -> None:
    there = ended("Failed", "FailedIndexes", "Job has failed indexes")
    words = "Traceback\nINFERMESH_BATCH_WORKER_TLS_DIR is '/no'"
    died = pod("b", **container(terminated={"exitCode": 78, "reason": "Error", "message": words}))
    told = failure(there, [pod("a"), died], timeout_minutes=90)
    assert told.reason is Reason.WORKERS_FAILED
    assert "INFERMESH_BATCH_WORKER_TLS_DIR is '/no'; see the pods' logs" in told.message
    assert told.metadata == {"namespace": "vision", "kubernetes_job": there.name, "cause": "FailedIndexes"}
    killed = pod("b", **container(terminated={"exitCode": 137, "reason": "OOMKilled"}))
    assert "raise INFERMESH_BATCH_POD_MEMORY" in failure(there, [killed], timeout_minutes=90).message
    assert "Job has failed indexes" in failure(there, [], timeout_minutes=90).message
    late = failure(ended("Failed", "DeadlineExceeded"), [died], timeout_minutes=90)
    assert (late.reason, "timeout_minutes 90" in late.message) == (Reason.DEADLINE_TOO_SHORT, True)


def test_what_keeps_workers_from_starting_is_named_unless_it_passes() -> None:
    waits = {"reason": "ImagePullBackOff", "message": 'Back-off pulling image "x"'}
    told = obstacle(found(), [pod("a", **container(waiting={"reason": "ContainerCreating"})), pod("b")], ())
    assert told is None
    told = obstacle(found(), [pod("a"), pod("b", **container(waiting=waits))], ())
    assert told is not None
    assert 'Back-off pulling image "x"; see that INFERMESH_BATCH_POD_IMAGE exists' in told.message
    assert (told.reason, told.metadata["cause"]) == (Reason.WORKERS_FAILED, "ImagePullBackOff")
    quota = obstacle(found(), [], ["other", 'pods "x" is forbidden: exceeded quota: infermesh-team'])
    assert quota is not None
    assert (quota.reason, "see the team's quota" in quota.message) == (Reason.QUOTA_EXCEEDED, True)
    other = obstacle(found(), [], ['pods "x" is forbidden: violates PodSecurity'])
    assert other is not None
    assert other.reason is Reason.WORKERS_FAILED
    assert obstacle(found(), [], []) is None
    scheduled = {"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}
    assert obstacle(found(), [pod("a", conditions=[scheduled])], ()) is None
    assert unscheduled([pod("a", conditions=[scheduled])]) == "0/3 nodes are available"


def test_the_worker_of_an_index_keeps_its_name_and_its_secrets_are_named_only() -> None:
    made = manifest("secured")
    env = {text(one, "name"): one for one in at(made, "spec", "template", "spec", "containers", 0, "env")}  # type: ignore[attr-defined]
    assert env["INFERMESH_BATCH_WORKER_INSTANCE"]["value"] == f"{name_of_job(JOB_ID, 1)}-$(JOB_COMPLETION_INDEX)"
    assert next(iter(env)) == "JOB_COMPLETION_INDEX", "variables refer to those before them"
    assert env["INFERMESH_BATCH_WORKER_TLS_DIR"]["value"] == "/etc/infermesh/tls"
