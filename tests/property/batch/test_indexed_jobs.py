"""Whatever is asked makes Jobs that the API server takes, and pods that may do little."""

import re
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.indexed_job import Manifest, PodOptions, indexed_job, name_of_job
from services.batch.domain.job import Job
from services.batch.domain.launched import Step, changes, next_step, read_launched
from services.common.body import Body, at, items, table, text, whole
from tests.support.batch_job_cases import OPTIONS, job

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")

ids = st.one_of(st.from_regex(r"\Abatch_job_[0-9a-f]{1,24}\Z"), st.from_regex(r"\A[a-z][A-Za-z0-9_.-]{0,79}\Z"))
names = st.from_regex(r"\A[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z")
attempts = st.integers(1, 10**6)


@st.composite
def jobs(draw: st.DrawFn) -> Job:
    asked = job(job_id=draw(ids), attempt=draw(attempts), team=draw(st.one_of(st.just(""), names)))
    version = replace(asked.spec.version, model=draw(names), version=draw(st.sampled_from(["v1.0.0", "v1.0.0-a--"])))
    spec = replace(
        asked.spec,
        version=version,
        max_parallelism=draw(st.integers(1, 256)),
        timeout_minutes=draw(st.integers(1, 43_200)),
    )
    return replace(asked, spec=spec)


options = st.builds(
    lambda most, retries, owner, labels: replace(
        OPTIONS, pods_max=most, retries=retries, owner=owner, node_labels=labels
    ),
    st.integers(1, 1000),
    st.integers(0, 100),
    st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z"),
    st.dictionaries(names, names, max_size=3),
)
made = st.builds(
    lambda asked, told, chunks: indexed_job(asked, told, namespace="vision", chunks=chunks),
    jobs(),
    options,
    st.integers(0, 10**6),
)


@given(made)
def test_names_and_labels_are_such_as_the_api_server_takes(manifest: Manifest) -> None:
    name = text(manifest, "metadata", "name")
    # A pod's host name is the Job's with its index, and must be a label too.
    assert _DNS_LABEL.fullmatch(f"{name}-{whole(manifest, 'spec', 'completions') - 1}")
    for labels in (table(manifest, "metadata", "labels"), table(manifest, "spec", "template", "metadata", "labels")):
        for value in labels.values():
            assert isinstance(value, str)
            assert _LABEL_VALUE.fullmatch(value), value


@given(jobs(), jobs())
def test_each_attempt_of_each_job_has_a_name_of_its_own(one: Job, other: Job) -> None:
    same = (one.job_id, one.attempt) == (other.job_id, other.attempt)
    assert (name_of_job(one.job_id, one.attempt) == name_of_job(other.job_id, other.attempt)) is same


@given(jobs(), options, st.integers(0, 10**6))
def test_workers_are_never_more_than_there_is_work_or_than_allowed(asked: Job, told: PodOptions, chunks: int) -> None:
    spec = table(indexed_job(asked, told, namespace="vision", chunks=chunks), "spec")
    completions, parallelism = whole(spec, "completions"), whole(spec, "parallelism")
    assert 1 <= parallelism <= completions <= max(1, min(chunks, told.pods_max))
    assert parallelism == min(asked.spec.max_parallelism, completions)
    assert 0 <= whole(spec, "maxFailedIndexes") < completions
    assert whole(spec, "activeDeadlineSeconds") == 60 * asked.spec.timeout_minutes


@given(made)
def test_pods_are_no_root_write_no_root_reach_no_api_server_and_are_not_failed_by_preemption(
    manifest: Manifest,
) -> None:
    pod = table(manifest, "spec", "template", "spec")
    assert at(pod, "automountServiceAccountToken") is False
    assert at(pod, "securityContext", "runAsNonRoot") is True
    assert text(pod, "securityContext", "seccompProfile", "type") == "RuntimeDefault"
    assert text(pod, "restartPolicy") == "Never", "a pod failure policy takes no other"
    (container,) = items(pod, "containers")
    assert at(container, "securityContext", "readOnlyRootFilesystem") is True
    assert at(container, "securityContext", "allowPrivilegeEscalation") is False
    assert at(container, "securityContext", "capabilities", "drop") == ["ALL"]
    assert table(container, "resources", "requests") == table(container, "resources", "limits")
    first = items(manifest, "spec", "podFailurePolicy", "rules")[0]
    assert (text(first, "action"), text(first, "onPodConditions", 0, "type")) == ("Ignore", "DisruptionTarget")


@given(jobs(), jobs(), options, st.integers(1, 1000), st.booleans())
def test_what_was_made_is_found_as_wanted_and_a_change_makes_it_so(
    asked: Job, other: Job, told: PodOptions, chunks: int, suspended: bool
) -> None:
    wanted = indexed_job(asked, told, namespace="vision", chunks=chunks)
    assert next_step(wanted, read_launched(wanted)) is Step.NOTHING
    spec = replace(asked.spec, max_parallelism=other.spec.max_parallelism, timeout_minutes=other.spec.timeout_minutes)
    before = indexed_job(replace(asked, spec=spec, paused=suspended), told, namespace="vision", chunks=chunks)
    changed: Body = {**before, "spec": {**table(before, "spec"), **table(changes(wanted), "spec")}}
    assert next_step(wanted, read_launched(before)) in (Step.NOTHING, Step.CHANGE)
    assert changed == wanted
