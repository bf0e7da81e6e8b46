"""Deployments on the wire: the contract's JSON, defaults, partial updates."""

from dataclasses import replace
from typing import Any

import pytest
from google.protobuf import json_format
from google.protobuf.field_mask_pb2 import FieldMask
from infermesh.common.v1 import serving_pb2
from infermesh.deployer.v1 import deployer_service_pb2, deployment_pb2

from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView
from services.common.feature_view_proto import views_from_proto
from services.deployer.convert import (
    change_from_proto,
    change_to_proto,
    deployment_to_proto,
    new_from_proto,
    wish_to_proto,
)
from services.deployer.domain.catalog import Place, difference, published
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
        traffic_split={"v1.0.0": 100},
        created_by="ann",
    )


def test_what_is_left_out_has_its_default_and_what_is_zero_is_zero() -> None:
    bare = new_from_proto(request({"version": "v1.0.0", "deployment_name": "d"}), created_by="")
    assert bare.wish == Wish()
    assert (bare.environment, bare.cluster, bare.namespace) == ("prod", "local", "default")
    zeros = {"resources": {"replicas": 0}, "batching": {"enabled": False, "batch_timeout_ms": 0}}
    wish = new_from_proto(request({"version": "v1.0.0", "deployment_name": "d", **zeros}), created_by="").wish
    assert (wish.resources.replicas, wish.batching) == (0, Batching(False, 32, 0.0))


@pytest.mark.parametrize("field", ["version", "deployment_name"])
def test_what_is_required_is_named(field: str) -> None:
    with pytest.raises(MeshError) as refused:
        new_from_proto(request({**EXAMPLE, field: ""}), created_by="")
    assert [violation.field for violation in refused.value.violations] == [field]


def test_an_external_backend_is_refused_instead_of_ignored() -> None:
    with pytest.raises(MeshError) as refused:
        new_from_proto(request({**EXAMPLE, "external_backend": {"protocol": "oip-grpc"}}), created_by="")
    assert refused.value.reason is Reason.NOT_IMPLEMENTED


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
    change = difference({}, published([served], {}, POOL))
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


def test_another_version_is_refused_with_what_to_do_instead() -> None:
    with pytest.raises(MeshError, match="deploy the other version under another name") as refused:
        change_from_proto(update(version="v2.0.0"))
    assert refused.value.reason is Reason.NOT_IMPLEMENTED


def test_feature_views_are_published_as_registered() -> None:
    views = (FeatureView("stats", "user_id", {"X": "array<float>"}, max_age_s=300),)
    served = replace(
        current(), recipe=replace(recipe(), feature_views=views), progress=Progress(loaded={"triton-0": "model"})
    )
    change = difference({}, published([served], {}, POOL))
    (model,) = change_to_proto(1, full=True, change=change).models
    assert views_from_proto(model.versions[0].feature_views) == views
