"""Whatever the API server lets through makes objects that it takes, and replicas that are safe."""

import re
from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.body import at, items, table, text, whole
from services.common.names import SemanticVersion
from services.operator.domain.applying import holds, key_of, must_apply, stamped
from services.operator.domain.manifests.desired import desired
from services.operator.domain.manifests.parts import Manifest
from services.operator.domain.names import label_value, workload_name
from services.operator.domain.spec import ModelDeployment, read_spec
from tests.support.operator_cases import FACTS, OPTIONS, body, plain

_DNS_LABEL = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_LABEL_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_IDENTIFIER = st.from_regex(r"\A[0-9A-Za-z-]{1,30}\Z")

names = st.from_regex(r"\A[a-z]([-a-z0-9]{0,38}[a-z0-9])?\Z")
models = st.from_regex(r"\A[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z").filter(lambda name: "--" not in name)


def _is_version(text: str) -> bool:
    try:
        return str(SemanticVersion.parse(text)) == text
    except Exception:
        return False


versions = st.builds(
    lambda numbers, tail: f"v{'.'.join(map(str, numbers))}" + (f"-{'.'.join(tail)}" if tail else ""),
    st.tuples(*[st.integers(0, 999_999_999)] * 3),
    st.lists(_IDENTIFIER, max_size=2),
).filter(_is_version)
resources = st.fixed_dictionaries(
    {"replicas": st.integers(0, 1000)},
    optional={
        "cpu": st.one_of(st.integers(1, 64), st.integers(1, 64_000).map(lambda n: f"{n}m")),
        "memory": st.integers(1, 512).map(lambda n: f"{n}Gi"),
        "gpu": st.integers(0, 16),
    },
)
autoscaling = st.builds(
    lambda low, more, targets: {"minReplicas": low, "maxReplicas": max(1, low + more), **targets},
    st.integers(0, 500),
    st.integers(0, 500),
    st.fixed_dictionaries(
        {"targetQueueDepth": st.floats(0.001, 1e4)},
        optional={
            "targetCpuPercent": st.floats(0, 100),
            "targetLatencyMs": st.floats(0, 600_000),
            "targetRequestsPerSec": st.floats(0, 1e5),
            "vertical": st.sampled_from(["", "recommend", "apply"]),
        },
    ),
)
wishes = st.builds(
    lambda name, spec: read_spec(body(spec, name=name)),
    names,
    st.fixed_dictionaries(
        {"modelName": models, "version": versions, "resources": resources}, optional={"autoscaling": autoscaling}
    ),
)


def made(wish: ModelDeployment) -> list[Manifest]:
    """All that is made."""
    return list(desired(wish, FACTS, OPTIONS, replicas=wish.replicas_first))


@given(wishes)
def test_names_and_labels_are_such_as_the_api_server_takes(wish: ModelDeployment) -> None:
    found = made(wish)
    assert len({key_of(one) for one in found}) == len(found)
    for one in found:
        assert _DNS_LABEL.fullmatch(text(one, "metadata", "name"))
        assert text(one, "metadata", "ownerReferences", 0, "uid") == wish.uid
        for value in table(one, "metadata", "labels").values():
            assert isinstance(value, str)
            assert _LABEL_VALUE.fullmatch(value), value


@given(wishes)
def test_selectors_find_the_replicas_and_no_other_version_s(wish: ModelDeployment) -> None:
    found = {text(one, "kind"): one for one in made(wish)}
    labels = table(found["Deployment"], "spec", "template", "metadata", "labels")
    for selector in (
        table(found["Deployment"], "spec", "selector", "matchLabels"),
        table(found["Service"], "spec", "selector"),
        table(found["PodDisruptionBudget"], "spec", "selector", "matchLabels"),
        table(found["NetworkPolicy"], "spec", "podSelector", "matchLabels"),
    ):
        assert selector.items() <= labels.items()
    assert table(found["Service"], "spec", "selector")["infermesh.dev/version"] == label_value(wish.version)


@given(wishes)
def test_replicas_are_no_root_write_no_root_and_reach_no_api_server(wish: ModelDeployment) -> None:
    [deployment] = [one for one in made(wish) if one["kind"] == "Deployment"]
    pod = table(deployment, "spec", "template", "spec")
    assert at(pod, "automountServiceAccountToken") is False
    assert at(pod, "securityContext", "runAsNonRoot") is True
    for container in (*items(pod, "initContainers"), *items(pod, "containers")):
        assert at(container, "securityContext", "readOnlyRootFilesystem") is True
        assert at(container, "securityContext", "allowPrivilegeEscalation") is False
        assert at(container, "securityContext", "capabilities", "drop") == ["ALL"]
    # Make before break, and a drain that fits into the time that a pod is given to end.
    assert at(deployment, "spec", "strategy", "rollingUpdate") == {"maxUnavailable": 0, "maxSurge": 1}
    drain_s = whole(pod, "containers", 0, "lifecycle", "preStop", "sleep", "seconds")
    assert drain_s < whole(pod, "terminationGracePeriodSeconds")


@given(wishes)
def test_replicas_stay_between_the_fewest_and_the_most(wish: ModelDeployment) -> None:
    scaling = wish.autoscaling
    for one in made(wish):
        if one["kind"] == "HorizontalPodAutoscaler":
            assert 1 <= whole(one, "spec", "minReplicas") <= whole(one, "spec", "maxReplicas")
            assert items(one, "spec", "metrics")
        if one["kind"] == "Deployment" and scaling is not None:
            assert max(1, scaling.min_replicas) <= whole(one, "spec", "replicas") <= scaling.max_replicas


@given(names, versions, versions)
def test_versions_have_workloads_of_their_own(name: str, one: str, other: str) -> None:
    assert (workload_name(name, one) == workload_name(name, other)) == (one == other)


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=3), inner, max_size=3)),
    max_leaves=10,
)


@settings(max_examples=30)
@given(wishes, st.data())
def test_what_was_applied_is_found_again_whatever_the_server_adds(wish: ModelDeployment, data: st.DataObject) -> None:
    for one in map(stamped, made(wish)):
        live = _with_more(plain(one), data)
        assert isinstance(live, dict)
        assert not must_apply(one, live, settled_at=None)


def _with_more(value: object, data: st.DataObject) -> object:
    """What an API server makes of it: more fields, at any place, and quantities in other words."""
    if isinstance(value, dict):
        more = {name: _with_more(inner, data) for name, inner in value.items()}
        return more | {f"x{len(more)}": data.draw(json_values)} if data.draw(st.booleans()) else more
    if isinstance(value, list):
        return [_with_more(one, data) for one in value]
    if isinstance(value, str) and re.fullmatch(r"\d+000m", value):
        return str(int(value[:-1]) // 1000)
    return value


@given(wishes, st.data())
def test_whatever_is_changed_of_it_is_noticed(wish: ModelDeployment, data: st.DataObject) -> None:
    one = stamped(data.draw(st.sampled_from(made(wish))))
    places = list(_leaves(plain(one), ()))
    path = data.draw(st.sampled_from(places))
    live = plain(one)
    _set(live, path, "changed by somebody")
    assert not holds(live, one)
    assert isinstance(live, Mapping)
    assert must_apply(one, live, settled_at=None)


def _leaves(value: object, path: tuple[str | int, ...]) -> list[tuple[str | int, ...]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in _leaves(inner, (*path, name))]
    if isinstance(value, list):
        return [leaf for number, inner in enumerate(value) for leaf in _leaves(inner, (*path, number))]
    return [path]


def _set(value: object, path: tuple[str | int, ...], to: str) -> None:
    for step in path[:-1]:
        value = value[step]  # type: ignore[index]
    value[path[-1]] = to  # type: ignore[index]
