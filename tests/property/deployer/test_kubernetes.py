"""Deployments as objects of a cluster and back: nothing is lost, and no two share a name."""

import re
from dataclasses import replace
from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from services.common.body import Body
from services.deployer.domain.cluster.endpoints import place_of, pods_of
from services.deployer.domain.cluster.objects import manifest_of, object_name, read_object
from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    NewDeployment,
    ObjectWish,
    Padding,
    Resources,
    ServingOptions,
    Wish,
)

names = st.from_regex(r"\A[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?\Z").filter(lambda name: "--" not in name)
numbers = st.floats(0, 1000, allow_nan=False)
wishes = st.builds(
    Wish,
    resources=st.builds(
        Resources,
        replicas=st.integers(0, 1000),
        cpu=st.sampled_from(["", "4", "500m"]),
        memory=st.sampled_from(["", "16Gi"]),
        gpu=st.integers(0, 16),
        gpu_sharing=st.sampled_from(["", "mps", "time-slicing"]),
    ),
    autoscaling=st.none()
    | st.builds(
        Autoscaling,
        enabled=st.booleans(),
        min_replicas=st.integers(0, 10),
        max_replicas=st.integers(10, 100),
        target_cpu_percent=numbers,
        target_latency_ms=numbers,
        target_queue_depth=numbers,
        scale_down_stabilization_s=st.integers(0, 3600),
        idle_timeout_s=st.integers(0, 604_800),
        predictive=st.booleans(),
    ),
    batching=st.builds(
        Batching,
        enabled=st.booleans(),
        max_batch_size=st.integers(1, 65_536),
        batch_timeout_ms=numbers,
        target_latency_ms=st.none() | numbers,
        padding=st.none()
        | st.builds(
            Padding,
            value=numbers,
            input_values=st.dictionaries(st.text(min_size=1), numbers, max_size=3),
            lengths_input=st.text(max_size=5),
            trim_outputs=st.lists(st.text(max_size=5), max_size=3).map(tuple),
            waste_max=st.floats(0, 0.99),
        ),
    ),
    serving=st.builds(
        ServingOptions,
        precision=st.sampled_from(["", "fp32", "fp16", "int8"]),
        accuracy_drop_max=st.floats(0, 1),
        instances=st.integers(1, 64),
        threads=st.integers(0, 256),
        pinned=st.booleans(),
        deterministic=st.booleans(),
        bake_time_s=st.integers(0, 604_800),
    ),
    of_object=st.builds(
        ObjectWish,
        restarted_at=st.sampled_from(["", "2026-01-15T12:00:00.000001Z", "2026-01-15T13:00:00+01:00"]),
        traffic_split=st.sampled_from([{}, {"v1.0.0": 60, "v1.2.3": 40}]),
    ),
)
deployments = st.builds(
    NewDeployment,
    model_name=names,
    version=st.just("v1.2.3"),
    deployment_name=names,
    wish=wishes,
    environment=st.sampled_from(["prod", "staging", "dev"]),
    cluster=st.just("eu-1"),
    namespace=st.just("vision"),
)


@given(deployments)
def test_what_is_applied_reads_as_what_was_wished(new: NewDeployment) -> None:
    made = manifest_of(new, name=object_name(new.model_name, new.deployment_name))
    # What it is made with is what its object states.
    assert read_object(made, cluster="eu-1").new == replace(new, traffic_split=new.wish.of_object.traffic_split)


@given(names, names, names, names)
def test_other_deployments_have_other_names(model: str, one: str, other_model: str, other: str) -> None:
    first, second = object_name(model, one), object_name(other_model, other)
    assert re.fullmatch(r"[a-z]([-a-z0-9]{0,38}[a-z0-9])?", first)
    assert (first == second) == ((model, one) == (other_model, other))


def endpoint(name: str, address: str, *, ready: bool | None = True, terminating: bool | None = None) -> Body:
    said = {"ready": ready, "terminating": terminating}
    conditions = {key: value for key, value in said.items() if value is not None}
    return {"addresses": [address], "conditions": conditions, "targetRef": {"kind": "Pod", "name": name}}


def endpoint_slice(version: str, *endpoints: Body, ports: bool = True) -> Body:
    labels = {"infermesh.dev/deployment": "digits", "infermesh.dev/version": version}
    told = [{"name": "http", "port": 8000}, {"name": "grpc", "port": 8001}, {"name": "metrics", "port": 8002}]
    return {
        "addressType": "IPv6" if any(":" in str(one["addresses"]) for one in endpoints[1:]) else "IPv4",
        "metadata": {"name": "x", "namespace": "vision", "labels": labels},
        "endpoints": list(endpoints),
        "ports": told if ports else None,
    }


def test_replicas_that_are_ready_and_stay_are_places_by_what_they_answer() -> None:
    found = pods_of(
        [
            endpoint_slice(
                "v1.0.0",
                endpoint("b", "10.0.0.2"),
                endpoint("going", "10.0.0.3", ready=False, terminating=True),
                endpoint("late", "10.0.0.4", ready=False),
            ),
            # The same replica in another slice, while the slices are rewritten.
            endpoint_slice("v1.0.0", endpoint("b", "10.0.0.2"), endpoint("a", "fd00::1", ready=None)),
            endpoint_slice("v2.0.0", ports=False),
            {"metadata": {"name": "somebody-else", "namespace": "vision"}, "endpoints": [endpoint("z", "10.9.9.9")]},
        ]
    )
    places = found["vision", "digits", "v1.0.0"]
    assert [(one.http_address, one.grpc_address) for one in places.values()] == [
        ("10.0.0.2:8000", "10.0.0.2:8001"),
        ("[fd00::1]:8000", "[fd00::1]:8001"),
    ]
    assert found.get(("vision", "digits", "v2.0.0"), {}) == {}
    # What a pod is called says where it is, so that a row alone does.
    assert all(place_of(name) == place for name, place in places.items())


def test_a_status_reads_as_how_far_the_cluster_is() -> None:
    condition = {
        "type": "Ready",
        "status": "True",
        "reason": "Answering",
        "message": "it answers",
        "lastTransitionTime": "2026-11-26T12:00:00Z",
    }
    own = {**condition, "type": "Routed", "observedGeneration": 4}
    said: Body = {
        "metadata": {"generation": 4},
        "status": {"phase": "active", "replicas": 3, "observedGeneration": 4, "conditions": [condition, own]},
    }
    found = read_object(said, cluster="eu-1")
    assert (found.told.phase, found.told.current, found.told.replicas) == ("active", True, 3)
    assert [one.type for one in found.told.conditions] == ["Ready"]
    assert found.told.conditions[0].last_transition_time == datetime(2026, 11, 26, 12, tzinfo=UTC)
    assert ([one.type for one in found.said], found.said_of_now) == (["Routed"], True)
    assert not read_object({**said, "metadata": {"generation": 5}}, cluster="eu-1").told.current


def test_who_wrote_an_object_last_is_who_changed_the_deployment() -> None:
    def fields(manager: str, time: str, **more: str) -> dict[str, str]:
        return {"manager": manager, "time": f"2026-11-26T12:00:{time}Z", **more}

    annotations = {"infermesh.dev/created-by": "key:ann", "infermesh.dev/changed-by": "key:bob"}
    mine = fields("infermesh-deployer", "01")
    status = fields("infermesh-deployer", "09", subresource="status")
    operators = fields("infermesh-operator", "08")
    metadata = {"annotations": annotations, "managedFields": [mine, status, operators]}
    found = read_object({"metadata": metadata}, cluster="eu-1")
    assert (found.new.created_by, found.actor) == ("key:ann", "key:bob")
    metadata = {"annotations": annotations, "managedFields": [mine, status, fields("kubectl", "05")]}
    assert read_object({"metadata": metadata}, cluster="eu-1").actor == "kubectl"
    metadata = {"annotations": annotations, "managedFields": [fields("argocd", "00"), mine]}
    found = read_object({"metadata": metadata}, cluster="eu-1")
    assert (found.new.created_by, found.new.request_id) == ("argocd", ""), "annotations alone are nobody's word"
