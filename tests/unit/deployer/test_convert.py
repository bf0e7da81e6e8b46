"""Deployments on the wire: the contract's JSON, defaults, partial updates."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.json_format import MessageToDict
from infermesh.common.v1 import serving_pb2
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2

from services.common.errors import MeshError
from services.common.feature_view import FeatureView
from services.common.feature_view_proto import views_from_proto
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.convert import (
    change_from_proto,
    change_to_proto,
    deployment_to_proto,
    new_from_proto,
    version_from_proto,
    wish_to_proto,
)
from services.deployer.domain.catalog import Place, Site, difference, published
from services.deployer.domain.deployment import (
    Autoscaling,
    Batching,
    Condition,
    Deployment,
    Failure,
    Health,
    NewDeployment,
    Padding,
    Progress,
    Resources,
    ServingOptions,
    Status,
    Wish,
)
from services.deployer.domain.external import ExternalBackend, Protocol
from services.deployer.domain.plan import ServerState
from tests.support.clock import NOON
from tests.support.deployer_fakes import recipe

EXAMPLE: dict[str, Any] = {
    "version": "v1.0.0",
    "deployment_name": "prod-us-west",
    "resources": {"replicas": 3, "cpu": "4", "memory": "16Gi", "gpu": 0},
    "autoscaling": {
        "enabled": True,
        "min_replicas": 2,
        "max_replicas": 10,
        "target_cpu_percent": 70,
        "target_latency_ms": 100,
    },
    "batching": {"enabled": True, "max_batch_size": 32, "batch_timeout_ms": 50},
    "traffic_split": {"v1.0.0": 100},
}
POOL = {"triton-0": Place("triton-0", "127.0.0.1:8120", "127.0.0.1:8121")}


def request(body: dict[str, object]) -> deployer_service_pb2.CreateDeploymentRequest:
    return json_format.ParseDict({"model_name": "m", **body}, deployer_service_pb2.CreateDeploymentRequest())


def current() -> Deployment:
    new = new_from_proto(request(EXAMPLE), created_by="ann")
    return Deployment("12345678-0", new, recipe(), new.wish, Progress(), 1, NOON, NOON)


def test_the_contracts_example_is_read() -> None:
    new = new_from_proto(request(EXAMPLE), created_by="ann")
    assert new == NewDeployment(
        model_name="m",
        version="v1.0.0",
        deployment_name="prod-us-west",
        wish=Wish(
            Resources(3, "4", "16Gi"),
            Autoscaling(True, 2, 10, 70, target_latency_ms=100),
            Batching(True, 32, 50),
        ),
        namespace="",
        traffic_split={"v1.0.0": 100},
        created_by="ann",
    )


def test_what_is_left_out_has_its_default_and_what_is_zero_is_zero() -> None:
    bare = new_from_proto(request({"version": "v1.0.0", "deployment_name": "d"}), created_by="")
    assert bare.wish == Wish()
    assert (bare.environment, bare.cluster, bare.namespace) == ("prod", "local", "")
    zeros = {"resources": {"replicas": 0}, "batching": {"enabled": False, "batch_timeout_ms": 0}}
    wish = new_from_proto(request({"version": "v1.0.0", "deployment_name": "d", **zeros}), created_by="").wish
    assert (wish.resources.replicas, wish.batching) == (0, Batching(False, 32, 0.0))


@pytest.mark.parametrize("field", ["version", "deployment_name"])
def test_what_is_required_is_named(field: str) -> None:
    with pytest.raises(MeshError) as refused:
        new_from_proto(request({**EXAMPLE, field: ""}), created_by="")
    assert [violation.field for violation in refused.value.violations] == [field]


def test_an_external_backend_is_read_shown_and_changed_field_by_field() -> None:
    stated = {
        "protocol": "tensorflow-grpc",
        "addresses": ["a:1", "b:1"],
        "server_model_name": "m",
        "server_model_version": "3",
        "signature_name": "s",
        "credentials": "token",
        "schema": {
            "inputs": [{"name": "x", "data_type": "DATA_TYPE_FP32", "shape": [3]}],
            "outputs": [{"name": "y", "data_type": "DATA_TYPE_INT64"}],
        },
    }
    new = new_from_proto(request({**EXAMPLE, "external_backend": stated}), created_by="")
    external = new.wish.external
    assert external is not None
    assert (external.speaks, external.addresses) == (Protocol.TENSORFLOW_GRPC, ("a:1", "b:1"))
    assert external.schema == ModelSchema((TensorSpec("x", DataType.FP32, (3,)),), (TensorSpec("y", DataType.INT64),))
    shown = MessageToDict(wish_to_proto(new.wish), preserving_proto_field_name=True)["external_backend"]
    assert {**shown, "schema": None} == {**stated, "schema": None}
    update = deployer_service_pb2.UpdateDeploymentRequest()
    update.deployment.external_backend.addresses.append("c:1")
    update.update_mask.paths.append("external_backend.addresses")
    deployment = Deployment("id", new, recipe(), new.wish, Progress(), 1, NOON, NOON)
    assert change_from_proto(update)(deployment).external == replace(external, addresses=("c:1",))


def test_a_deployment_is_shown_with_all_that_the_contract_promises() -> None:
    progress = Progress(
        status=Status.FAILED,
        health=Health.DEGRADED,
        observed_generation=1,
        loaded={"triton-0": "f"},
        ready_replicas=3,
        failure=Failure("LOAD_FAILED", "broken; mend it"),
        conditions=(Condition("Loaded", False, "LOAD_FAILED", "broken", NOON),),
        deployed_at=NOON,
    )
    shown = json_format.MessageToDict(
        deployment_to_proto(replace(current(), progress=progress), POOL),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    for field in ("version", "deployment_name", "autoscaling", "traffic_split"):
        wanted = EXAMPLE[field]
        assert shown[field] == wanted or wanted.items() <= shown[field].items()
    assert (shown["status"], shown["health_status"], shown["replicas"]) == ("failed", "degraded", 3)
    assert shown["endpoint_url"] == "http://127.0.0.1:8120/v2/models/m--v1.0.0"
    assert (shown["error_reason"], shown["error_message"]) == ("LOAD_FAILED", "broken; mend it")
    assert shown["conditions"][0]["status"] == "False"
    assert shown["etag"] == "12345678-1"
    assert shown["created_at"] == "2026-01-15T12:00:00Z"


def update(mask: list[str] | None = None, **fields: object) -> deployer_service_pb2.UpdateDeploymentRequest:
    return deployer_service_pb2.UpdateDeploymentRequest(
        deployment=deployment_pb2.Deployment(model_name="m", deployment_name="d", **fields),  # type: ignore[arg-type]
        update_mask=FieldMask(paths=mask or []),
    )


def test_an_update_without_a_mask_takes_what_it_holds() -> None:
    wish = change_from_proto(update(batching=deployment_pb2.Batching(max_batch_size=8)))(current())
    assert wish == replace(current().wish, batching=Batching(True, 8, 50))


def test_a_mask_reaches_into_a_field_and_leaves_its_neighbours() -> None:
    sent = update(
        ["resources.cpu", "batching.batch_timeout_ms", "serving.threads"],
        resources=deployment_pb2.Resources(cpu="8", memory="ignored"),
        serving=deployment_pb2.ServingOptions(threads=2),
    )
    wish = change_from_proto(sent)(current())
    assert wish.resources == Resources(3, "8", "16Gi")
    # Named in the mask and not sent: back to the default.
    assert wish.batching == Batching(True, 32, 50.0)
    assert wish.serving == ServingOptions(threads=2)


PADDED = Padding(1.0, {"mask": 0.0}, "lengths", ("logits",), 0.25)
PADDING = {
    "value": 1,
    "input_values": {"mask": 0},
    "lengths_input": "lengths",
    "trim_outputs": ["logits"],
    "waste_max": 0.25,
}


def test_padding_is_read_shown_and_published() -> None:
    body: dict[str, object] = {"version": "v1.0.0", "deployment_name": "d", "batching": {"padding": PADDING}}
    new = new_from_proto(request(body), created_by="ann")
    assert new.wish.batching == Batching(padding=PADDED)
    told = wish_to_proto(new.wish).batching
    assert json_format.MessageToDict(told, preserving_proto_field_name=True)["padding"] == PADDING
    served = replace(current(), new=new, wish=new.wish, progress=Progress(loaded={"triton-0": "model"}))
    change = difference({}, published([Site(served, {}, POOL)]))
    (model,) = change_to_proto(1, full=True, change=change).models
    assert model.versions[0].batching.padding == told.padding


def test_padding_that_is_empty_is_padding_with_its_defaults() -> None:
    body: dict[str, object] = {"version": "v1.0.0", "deployment_name": "d", "batching": {"padding": {}}}
    assert new_from_proto(request(body), created_by="ann").wish.batching.padding == Padding(0.0, {}, "", (), 0.5)


def test_a_mask_reaches_padding_and_takes_it_away() -> None:
    message = json_format.ParseDict(PADDING, serving_pb2.Padding())
    sent = update(["batching.padding"], batching=deployment_pb2.Batching(padding=message, max_batch_size=8))
    padded = change_from_proto(sent)(current())
    assert padded.batching == Batching(True, 32, 50.0, padding=PADDED)
    with_padding = replace(current(), wish=padded)
    assert change_from_proto(update(["batching.padding"]))(with_padding).batching.padding is None
    assert change_from_proto(update(["batching.max_batch_size"]))(with_padding).batching.padding == PADDED


def test_a_mask_takes_autoscaling_away() -> None:
    assert change_from_proto(update(["autoscaling"]))(current()).autoscaling is None


@pytest.mark.parametrize("mask", [["status"], ["resources.disk"]])
def test_what_cannot_be_changed_is_named(mask: list[str]) -> None:
    with pytest.raises(MeshError, match=mask[0]):
        change_from_proto(update(mask, resources=deployment_pb2.Resources(cpu="1")))(current())


def test_another_version_is_asked_for_with_the_fields_that_are_sent_or_by_the_mask() -> None:
    assert version_from_proto(update(version="v2.0.0")) == "v2.0.0"
    assert version_from_proto(update(["version", "resources.cpu"], version="v2.0.0")) == "v2.0.0"
    assert version_from_proto(update(["resources.cpu"], version="v2.0.0")) == ""
    assert change_from_proto(update(version="v2.0.0"))(current()) == current().wish
    with pytest.raises(MeshError, match=r"deployment\.version"):
        version_from_proto(update(["version"]))


def test_while_it_goes_over_to_another_version_the_one_before_is_shown_to_answer() -> None:
    rolling = replace(current(), previous_version="v0.9.0", progress=Progress(status=Status.DEPLOYING))
    shown = deployment_to_proto(rolling, POOL, previous_answers=True)
    assert (shown.version, shown.served_version, shown.health_status) == ("v1.0.0", "v0.9.0", "degraded")
    alone = deployment_to_proto(rolling, POOL)
    assert (alone.served_version, alone.health_status) == ("", "unhealthy")


def test_feature_views_are_published_as_registered() -> None:
    views = (FeatureView("stats", "user_id", {"X": "array<float>"}, max_age_s=300),)
    served = replace(
        current(), recipe=replace(recipe(), feature_views=views), progress=Progress(loaded={"triton-0": "model"})
    )
    change = difference({}, published([Site(served, {}, POOL)]))
    (model,) = change_to_proto(1, full=True, change=change).models
    assert views_from_proto(model.versions[0].feature_views) == views


@pytest.mark.parametrize(
    ("protocol", "rest", "over_grpc", "endpoint"),
    [
        ("oip-rest", "a:1", "", "http://a:1/v2/models/m%20x"),
        ("tensorflow-rest", "a:1", "", "http://a:1/v1/models/m%20x"),
        ("torchserve", "a:1", "", "http://a:1/predictions/m%20x"),
        ("oip-rest", "https://a:1", "", "https://a:1/v2/models/m%20x"),
        ("oip-grpc", "", "a:1", "a:1"),
        ("oip-grpc", "", "grpcs://a:1", "grpcs://a:1"),
        ("tensorflow-grpc", "", "a:1", "a:1"),
    ],
)
def test_an_external_backend_is_published_as_it_is_spoken_to(
    protocol: str, rest: str, over_grpc: str, endpoint: str
) -> None:
    external = ExternalBackend(protocol, ("a:1", "b:1"), "m x", "3", "s" if protocol.startswith("tensor") else "")
    wish = Wish(external=external)
    progress = Progress(status=Status.ACTIVE, health=Health.HEALTHY, loaded={"a:1": "f"}, ready_replicas=1)
    deployment = Deployment(
        "id", NewDeployment("digits", "v1.0.0", "main", wish), recipe(digest=""), wish, progress, 1, NOON, NOON
    )
    places = {"a:1": Place("a:1", rest, over_grpc)}
    (model,) = published([Site(deployment, {"a:1": ServerState(up=True)}, places)]).values()
    step = change_to_proto(1, full=True, change=difference({}, {"digits": model}))
    (backend,) = step.models[0].versions[0].backends
    assert backend == serving_pb2.Backend(
        backend_id="a:1",
        http_address=rest,
        grpc_address=over_grpc,
        server_model_name="m x",
        capacity=1.0,
        protocol=protocol,
        server_model_version="3",
        signature_name=external.signature_name,
    )
    shown = deployment_to_proto(deployment, places)
    assert (shown.endpoint_url, shown.replicas, shown.ready_replicas, shown.artifact_digest) == (endpoint, 2, 1, "")
