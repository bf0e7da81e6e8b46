"""Whatever is there: a version that answers leaves only once the wished one answers in full."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.common.body import Body
from services.operator.domain.manifests.network import service
from services.operator.domain.manifests.workload import deployment
from services.operator.domain.observed import Observed, observe, written_moment
from services.operator.domain.plan import of_version, remove, replicas_now, retire
from services.operator.domain.quota import quota_problem
from services.operator.domain.spec import ModelDeployment, read_spec
from tests.support.operator_cases import FACTS, OPTIONS, body, plain

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DRAIN_S = 15.0
VERSIONS = ("v1.0.0", "v2.0.0", "v3.0.0")


@st.composite
def live_workloads(draw: st.DrawFn, version: str) -> list[Body]:
    """What there may be of a version: its Deployment at any point of its life, with its Service or without."""
    wish = read_spec(body({"version": version}))
    wanted = draw(st.integers(0, 5))
    made = plain(deployment(wish, FACTS, OPTIONS, replicas=wanted))
    assert isinstance(made, dict)
    generation = draw(st.integers(1, 3))
    made["metadata"] |= {"generation": generation, "resourceVersion": "7"}
    since = NOW - timedelta(seconds=draw(st.integers(0, 600)))
    draining = draw(st.booleans())
    if draining:
        made["metadata"]["annotations"] = {
            "infermesh.dev/draining-since": written_moment(NOW - timedelta(seconds=draw(st.integers(0, 60))))
        }
    ready = draw(st.integers(0, wanted))
    made["status"] = {
        "observedGeneration": draw(st.integers(max(1, generation - 1), generation)),
        "replicas": draw(st.integers(ready, wanted + 1)),
        "updatedReplicas": draw(st.integers(0, wanted)),
        "readyReplicas": ready,
        "availableReplicas": ready,
        "conditions": [
            {
                "type": "Available",
                "status": draw(st.sampled_from(["True", "False"])),
                "lastTransitionTime": written_moment(since),
            }
        ],
    }
    found: list[Body] = [made]
    if draw(st.booleans()):
        served = plain(service(wish))
        assert isinstance(served, dict)
        found.append(served)
    return found


@st.composite
def clusters(draw: st.DrawFn) -> Observed:
    """Any of the versions, each at any point."""
    there = draw(st.sets(st.sampled_from(VERSIONS)))
    return observe(one for version in sorted(there) for one in draw(live_workloads(version)))


wishes = st.builds(
    lambda version, bake, replicas: read_spec(
        body({"version": version, "serving": {"bakeTimeSeconds": bake}, "resources": {"replicas": replicas}})
    ),
    st.sampled_from(VERSIONS),
    st.sampled_from([0, 30, 3600]),
    st.integers(0, 5),
)


@given(wishes, clusters())
def test_nothing_leaves_before_the_wished_version_answers_in_full(wish: ModelDeployment, seen: Observed) -> None:
    plan = retire(wish, seen, body={}, now=NOW, drain_s=DRAIN_S)
    target = seen.workloads.get(wish.version)
    for one in plan.withdraw:
        assert one.version_label != wish.version
        assert one.draining_since is None
        assert target is not None
        assert target.complete
        assert target.ready >= 1 or wish.resources.replicas == 0
        if target.answered_since is not None:
            assert target.answered_since + timedelta(seconds=wish.serving.bake_time_s) <= NOW


@given(wishes, clusters(), st.sampled_from(["True", "False"]), st.integers(1, 3))
def test_nothing_leaves_before_its_traffic_is_the_wished_versions(
    wish: ModelDeployment, seen: Observed, status: str, generation: int
) -> None:
    routed = {"type": "Routed", "status": status, "observedGeneration": generation}
    body: Body = {"metadata": {"generation": 2}, "status": {"conditions": [routed]}}
    plan, alone = (retire(wish, seen, body=one, now=NOW, drain_s=DRAIN_S) for one in (body, {}))
    has_it = status == "True" and generation >= 2
    assert plan.withdraw == (alone.withdraw if has_it or wish.resources.replicas == 0 else [])
    assert plan.remove == alone.remove


@given(wishes, clusters())
def test_pods_go_only_after_the_drain_and_the_wished_ones_never(wish: ModelDeployment, seen: Observed) -> None:
    plan = retire(wish, seen, body={}, now=NOW, drain_s=DRAIN_S)
    for one in plan.remove:
        assert one.version_label != wish.version
        assert one.draining_since is not None
        assert one.draining_since + timedelta(seconds=DRAIN_S) <= NOW
        keys = of_version(seen, one)
        assert keys[-1][0] == "Deployment"
        assert all(name == one.name for _, name in keys)


@given(wishes, clusters())
def test_whatever_waits_for_time_alone_is_looked_at_again(wish: ModelDeployment, seen: Observed) -> None:
    plan = retire(wish, seen, body={}, now=NOW, drain_s=DRAIN_S)
    others = [one for one in seen.workloads.values() if one.version_label != wish.version]
    waits = [one for one in others if one.draining_since is not None and one not in plan.remove]
    if waits:
        assert plan.look_again_s is not None
        assert 0 < plan.look_again_s <= max(DRAIN_S, 3600)
        later = NOW + timedelta(seconds=plan.look_again_s)
        after = retire(wish, seen, body={}, now=later, drain_s=DRAIN_S)
        assert len(after.remove) > len(plan.remove) or len(after.withdraw) > len(plan.withdraw)


@given(clusters(), st.integers(0, 200), st.booleans())
def test_a_removal_waits_for_whoever_routes_but_not_forever(seen: Observed, ago_s: int, routed: bool) -> None:
    deleted = {
        "metadata": {"deletionTimestamp": written_moment(NOW - timedelta(seconds=ago_s))},
        "status": {"conditions": [{"type": "Routed", "status": str(routed)}]},
    }
    step = remove(deleted, seen, now=NOW, drain_s=DRAIN_S)
    answers = any(one.ready for one in seen.workloads.values())
    assert set(step.withdraw) == {name for kind, name in seen.objects if kind == "Service"}
    if step.done and answers:
        assert ago_s >= DRAIN_S
        assert not routed or ago_s >= DRAIN_S + 60
    if ago_s > DRAIN_S + 60:
        assert step.done
    assert step.done == (step.look_again_s is None)


@given(wishes, clusters())
def test_an_autoscaler_s_number_is_never_changed(wish: ModelDeployment, seen: Observed) -> None:
    scaled = read_spec(body({"version": wish.version, "autoscaling": {"maxReplicas": 9, "targetQueueDepth": 4}}))
    replicas, by_another = replicas_now(scaled, seen)
    there = seen.workloads.get(wish.version)
    assert by_another
    assert replicas == (there.replicas if there is not None else scaled.replicas_first)
    assert replicas_now(wish, seen) == (wish.resources.replicas, False)


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 20), st.integers(1, 4))
def test_a_quota_is_asked_for_what_comes_on_top(hard: int, used: int, wanted: int, cpu: int) -> None:
    wish = read_spec(body({"resources": {"replicas": wanted, "cpu": cpu}}))
    made = deployment(wish, FACTS, OPTIONS, replicas=wanted)
    quota: Body = {
        "metadata": {"name": "team"},
        "status": {"hard": {"limits.cpu": str(hard)}, "used": {"limits.cpu": str(used)}},
    }
    refused = quota_problem([quota], made, None)
    assert bool(refused) == (wanted > 0 and used + wanted * cpu > hard)
    # What runs already is counted already: to stay as one is needs no room.
    held = {**made, "status": {"replicas": wanted}}
    assert quota_problem([quota], made, held) == ""
