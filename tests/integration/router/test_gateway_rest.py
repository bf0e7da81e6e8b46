"""The REST form of the control plane: transcoding, errors with their status, what is hidden, what the gateway says."""

import json
import re
from collections.abc import Iterator
from typing import Any

import grpc
import httpx
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_status import rpc_status
from infermesh.registry.v1 import (
    artifact_service_pb2,
    artifact_service_pb2_grpc,
    registry_service_pb2,
    registry_service_pb2_grpc,
)

from services.common.errors import CATALOGUE, Reason
from services.common.grpc.status import http_status
from tests.support.envoy_gateway import TIMEOUT_S, Gateway, running_gateway, split


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with running_gateway(tmp_path_factory.mktemp("gateway"), publish=[split("digits", {"v1.0.0": 100})]) as running:
        yield running


@pytest.mark.parametrize("reason", [reason for reason in Reason if reason is not Reason.INTERNAL])
def test_every_error_of_the_catalogue_has_its_status_and_its_details(gateway: Gateway, reason: Reason) -> None:
    name = reason.value.lower().replace("_", "-")
    answer = gateway.rest("GET", f"/v1/models/{name}")
    assert answer.status_code == http_status(CATALOGUE[reason]), answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body["code"] == int(CATALOGUE[reason])
    assert body["message"] == f"{name}: no"
    details = {item["@type"].rpartition(".")[2]: item for item in body["details"]}
    assert details["ErrorInfo"]["reason"] == reason.value
    assert details["ErrorInfo"]["domain"] == "infermesh"
    assert details["ErrorInfo"]["metadata"] == {"model": name}
    assert details["BadRequest"]["field_violations"][0]["field"] == "model_name"


@pytest.mark.parametrize(
    ("method", "path", "content", "said"),
    [
        ("PATCH", "/v1/models/m/deployments/d", '{"resources": {"replica": 1}}', "field resources.replica; "),
        ("PATCH", "/v1/models/m/deployments/d", ' \n{ "versions" :"v1"}', "field versions; Deployment has"),
        ("POST", "/v1/models/m/deployments/d:scale", '{"replicas": 1, "replicaCount": 2}', "field replicaCount; "),
        ("POST", "/v1/outcomes:batch", '{"outcomes": [{"request_id": "a"}, {"id": 1}]}', "field outcomes.id; "),
    ],
)
def test_fields_that_nobody_knows_are_refused_wherever_they_are(
    gateway: Gateway, method: str, path: str, content: str, said: str
) -> None:
    answer = gateway.rest(method, path, content=content)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["message"]
    assert answer.json()["code"] == 3


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"modelName": "digits", "deploymentName": "other"},
        {"version": "v1.0.0", "resources": {"replicas": 1, "cpu": "1"}},
        {"resources": None, "conditions": []},
        {"created_by": 'a "quoted\\" {brace} \u00e4', "version": "\\"},
        {"created_by": "x" * 2_000_000},
    ],
)
def test_what_the_contract_knows_is_taken_however_it_is_written(gateway: Gateway, fields: dict[str, Any]) -> None:
    for content in (json.dumps(fields), json.dumps(fields, indent=2, ensure_ascii=False)):
        answer = gateway.rest("PATCH", "/v1/models/digits/deployments/prod", content=content)
        assert answer.status_code == 200, answer.text
        assert answer.json()["created_by"] == fields.get("created_by", "")


def test_what_may_hold_anything_may_hold_anything(gateway: Gateway) -> None:
    body = {"name": "digits", "metadata": {"colour": {"red": [1, {"deep": None}]}}, "input_schema": {"x": "int"}}
    answer = gateway.rest("POST", "/v1/models", json=body)
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("method", "path", "takes"),
    [
        ("GET", "/v1/models/digits/predict", "POST"),
        ("PUT", "/v1/models", "GET, POST"),
        ("DELETE", "/v1/models/digits/deployments", "GET, POST"),
        ("GET", "/v1/batch/predict?x=1", "POST"),
    ],
)
def test_a_path_that_takes_another_method_says_which(gateway: Gateway, method: str, path: str, takes: str) -> None:
    answer = gateway.rest(method, path)
    assert answer.status_code == 404
    body = answer.json()
    assert body["code"] == 5
    assert f"{method} {path}: nothing answers this method at this path, which takes {takes};" in body["message"]


def test_a_path_that_is_none_says_where_paths_begin(gateway: Gateway) -> None:
    answer = gateway.rest("POST", "/v1/models/digits/predictt")
    assert answer.status_code == 404
    assert "the REST API begins with /v1" in answer.json()["message"]
    assert "takes" not in answer.json()["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/v1/models?nosuch=1", "nosuch"),
        ("/v1/models?page_size=3&pagesize=4", "pagesize"),
        ("/v1/models/digits?etag.x", "etag"),
    ],
)
def test_a_query_that_names_no_field_says_which_there_are(gateway: Gateway, path: str, field: str) -> None:
    answer = gateway.rest("GET", path)
    assert answer.status_code == 400, answer.text
    assert answer.json()["details"][0]["reason"] == "MALFORMED_BODY"
    assert f"unknown field {field}; " in answer.json()["message"]
    assert re.search(r"Request has \w+", answer.json()["message"])


@pytest.mark.parametrize("query", ["", "?", "?page_size=3", "?pageSize=3&", "?page%5Fsize=3", "?tags=a&tags=b"])
def test_a_query_of_fields_is_taken_however_it_is_written(gateway: Gateway, query: str) -> None:
    assert gateway.rest("GET", f"/v1/models{query}").status_code == 200


def test_who_is_refused_for_a_while_is_told_how_long(gateway: Gateway) -> None:
    answer = gateway.rest("GET", "/v1/models/quota-exceeded")
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"


def test_the_batchers_refusal_keeps_its_delay_too(gateway: Gateway) -> None:
    answer = gateway.rest("POST", "/v1/models/digits/predict", json={}, headers={"x-test-status": "8"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "3")
    assert answer.json() == {"code": 8, "message": "as asked for", "details": []}


def test_fields_have_the_names_of_the_contract_and_defaults_are_printed(gateway: Gateway) -> None:
    body = gateway.rest("GET", "/v1/models/digits").json()
    assert body["name"] == "digits"
    assert body["version_count"] == 0
    assert body["tags"] == []
    assert body["aliases"] == {}


def test_bodies_queries_and_paths_become_fields(gateway: Gateway) -> None:
    made = gateway.rest("POST", "/v1/models", json={"name": "digits", "version": "v1.0.0"}).json()
    assert (made["model_name"], made["version"]) == ("digits", "v1.0.0")
    assert gateway.rest("GET", "/v1/models?page_size=7").json()["models"][0]["name"] == "page-7"
    patched = gateway.rest("PATCH", "/v1/models/digits/deployments/prod", json={"version": "v2.0.0"}).json()
    assert (patched["model_name"], patched["deployment_name"], patched["version"]) == ("digits", "prod", "v2.0.0")
    gone = gateway.rest("DELETE", "/v1/models/digits/deployments/prod").json()
    assert (gone["model_name"], gone["deployment_name"]) == ("digits", "prod")


@pytest.mark.parametrize(
    ("method", "path", "content", "word"),
    [
        ("POST", "/v1/models", '{"name": "digits", "colour": "red"}', "unknown field colour; CreateModelRequest has"),
        ("POST", "/v1/models", '{"name": "a", "name": "b"}', "name stands twice in the body; allowed: once"),
        ("POST", "/v1/models", '{"artifactUri": "", "artifact_uri": ""}', "artifact_uri stands twice"),
        (
            "PATCH",
            "/v1/models/digits/traffic",
            '{"traffic_split": {"v1": 1, "v1": 99}}',
            "traffic_split.v1 stands twice",
        ),
        ("POST", "/v1/models", '{"metadata": {"a": {"b": 1, "b": 2}}}', "'b' is already set"),
        ("POST", "/v1/models", '{"name": ', "end of string"),
        ("POST", "/v1/models", "[]", ""),
        ("POST", "/v1/models", '{"name": {"a": 1}}', "name"),
        ("GET", "/v1/models?colour=red", "", "colour"),
        ("GET", "/v1/models?page_size=many", "", "many"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_word_that_is_wrong(
    gateway: Gateway, method: str, path: str, content: str, word: str
) -> None:
    answer = gateway.rest(method, path, content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 400, answer.text
    body = answer.json()
    assert body["code"] == 3
    assert word in body["message"]
    assert isinstance(body["details"], list)


@pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing/here", "/v3/models", "/healthy", "/metrics/more", "/admin"])
def test_what_is_not_there_is_not_found_in_the_same_shape(gateway: Gateway, path: str) -> None:
    answer = gateway.rest("GET", path)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["code"], body["details"]) == (5, [])
    assert path in body["message"]


def test_the_wrong_method_is_not_found(gateway: Gateway) -> None:
    for method, path in (("GET", "/v1/models/digits/predict"), ("POST", "/metrics"), ("PUT", "/v1/models")):
        assert gateway.rest(method, path).status_code == 404


@pytest.mark.parametrize(
    "method",
    [
        "infermesh.deployer.v1.BackendService/WatchBackends",
        "infermesh.deployer.v1.ActivationService/Activate",
        "infermesh.batch.v1.WorkerService/LeaseChunks",
        "infermesh.router.v1.ServingTableService/WatchServingTable",
        "infermesh.monitor.v1.PredictionLogService/Record",
        "infermesh.monitor.v1.EvidenceService/Watch",
        "envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        "nothing.of.the.Kind/Call",
        "infermesh.registry.v1.RegistryServiceButLonger/GetModel",
    ],
)
def test_internal_services_do_not_exist_for_callers(gateway: Gateway, method: str) -> None:
    for metadata in ((), (("x-model-name", "digits"),)):
        with gateway.channel() as channel:
            call: Any = channel.unary_unary(f"/{method}", request_serializer=bytes)
            with pytest.raises(grpc.RpcError) as caught:
                call(b"", metadata=metadata, timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert gateway.rest("POST", f"/{method}", json={}).status_code == 404


def test_grpc_calls_pass_with_their_details_and_without_what_only_the_gateway_says(gateway: Gateway) -> None:
    with gateway.channel() as channel:
        stub = registry_service_pb2_grpc.RegistryServiceStub(channel)
        forged = (("x-infermesh-team", "theirs"), ("x-request-id", "mine"), ("x-model-name", "digits"))
        answer = stub.GetModel(
            registry_service_pb2.GetModelRequest(model_name="digits"), metadata=forged, timeout=TIMEOUT_S
        )
        headers = json.loads(answer.description)
        assert headers["x-request-id"] == "mine"
        assert "x-infermesh-team" not in headers
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetModel(registry_service_pb2.GetModelRequest(model_name="etag-mismatch"), timeout=TIMEOUT_S)
        assert caught.value.code() is grpc.StatusCode.ABORTED
        call: Any = caught.value
        status = rpc_status.from_call(call)
        assert status is not None
        assert status.details


def test_an_upload_larger_than_any_message_streams_through(gateway: Gateway) -> None:
    size = 40_000_000

    def pieces() -> Iterator[artifact_service_pb2.UploadArtifactRequest]:
        piece = artifact_service_pb2.UploadArtifactRequest(filename="big.onnx")
        piece.body.data = b"x" * 1_000_000
        for _ in range(size // 1_000_000):
            yield piece

    with gateway.channel() as channel:
        stub = artifact_service_pb2_grpc.ArtifactServiceStub(channel)
        assert stub.UploadArtifact(pieces(), timeout=TIMEOUT_S).size_bytes == size
    body = gateway.rest("POST", "/v1/artifacts?filename=big.onnx", content=b"x" * size).json()
    assert (body["digest"], body["size_bytes"]) == ("big.onnx", size)


def test_a_stream_is_read_line_by_line_while_it_runs(gateway: Gateway) -> None:
    url = f"http://{gateway.address}/v1/changes:watch"
    with httpx.stream("GET", url, timeout=TIMEOUT_S, trust_env=False) as answer:
        assert answer.status_code == 200
        lines = answer.iter_lines()
        assert [json.loads(next(lines))["change"]["cursor"] for _ in range(2)] == ["1", "2"]


@pytest.mark.parametrize("path", ["/v1/models", "/v1/artifacts/uploads"])
def test_a_call_of_the_control_plane_has_a_limit_of_size_too(gateway: Gateway, path: str) -> None:
    answer = gateway.rest("POST", path, content=b'{"name": "' + b"x" * 16_000_000 + b'"}')
    assert answer.status_code == 413
    assert "12 MB" in answer.json()["message"]


def test_health_and_reflection_are_the_routers(gateway: Gateway) -> None:
    with gateway.channel() as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        answer = check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        database = ProtoReflectionDescriptorDatabase(channel)
        assert "grpc.health.v1.Health" in database.get_services()
        assert DescriptorPool(database).FindServiceByName("grpc.health.v1.Health").methods


def test_the_gateway_says_that_it_lives_and_is_ready_and_what_it_counts(gateway: Gateway) -> None:
    health = gateway.rest("GET", "/health")
    assert (health.status_code, health.json()) == (200, {"status": "healthy"})
    assert gateway.rest("GET", "/ready").status_code == 200
    metrics = gateway.rest("GET", "/metrics")
    assert metrics.status_code == 200
    assert "envoy_http_downstream_rq_total" in metrics.text
    assert "stats?format" not in gateway.rest("GET", "/metrics?format=json").text


def test_every_answer_names_its_request(gateway: Gateway) -> None:
    for path in ("/v1/models/digits", "/v1/nothing", "/health"):
        assert gateway.rest("GET", path, headers={"x-request-id": "mine"}).headers["x-request-id"] == "mine"
        assert len(gateway.rest("GET", path).headers["x-request-id"]) == 36


def test_answers_do_not_tell_what_is_behind_the_gateway(gateway: Gateway) -> None:
    headers = gateway.rest("GET", "/v1/models/digits").headers
    assert headers["server"] == "infermesh"
    assert [name for name in headers if name.startswith("x-envoy-")] == []


@pytest.mark.parametrize(
    "header",
    [("dn'jv*&b", "x"), ("|!", "x"), ("x-text", b"caf\xc3\xa9"), ("x-thing-bin", "no base64!"), ("x-ok", "fine")],
)
def test_a_header_that_grpc_does_not_allow_does_no_harm(gateway: Gateway, header: tuple[str, str | bytes]) -> None:
    answer = gateway.rest("GET", "/v1/models/digits", headers=[header])
    assert answer.status_code == 200, answer.text
