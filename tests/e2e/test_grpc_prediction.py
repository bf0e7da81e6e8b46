"""Typed predictions over gRPC: by plain stubs, as any language has them, and by the Python client."""

import threading
from collections.abc import Iterator
from typing import cast

import grpc
import numpy as np
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from infermesh.client import Client, InfermeshError
from infermesh.client.credentials import Credentials
from infermesh.client.predictions import Answer
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2_grpc

from tests.e2e.driving import MODEL, NEW, OLD, TIMEOUT_S
from tests.support.mesh import Mesh


@pytest.fixture
def stub(mesh: Mesh) -> Iterator[prediction_service_pb2_grpc.PredictionServiceStub]:
    with Credentials(mesh.key).open_channel(mesh.gateway, tls=False, options=()) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def client(mesh: Mesh) -> Iterator[Client]:
    with Client(mesh.gateway, timeout_s=TIMEOUT_S, credentials=Credentials(mesh.key)) as made:
        yield made


def instance(pixels: list[float]) -> instance_pb2.Instance:
    feature = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=pixels))
    return instance_pb2.Instance(features={"X": feature})


def request(mesh: Mesh, version: str = "", request_id: str = "") -> prediction_pb2.PredictRequest:
    return prediction_pb2.PredictRequest(
        model_name=MODEL,
        version=version,
        request_id=request_id,
        instances=[instance(sample["instance"]["X"]) for sample in mesh.samples],
    )


@pytest.mark.parametrize("version", ["", OLD, NEW])
def test_typed_predictions_are_right(
    mesh: Mesh, stub: prediction_service_pb2_grpc.PredictionServiceStub, version: str
) -> None:
    answer = stub.Predict(request(mesh, version, request_id="mine"), timeout=TIMEOUT_S)
    expected = [sample["expected"][version or OLD] for sample in mesh.samples]
    assert (answer.model_name, answer.model_version, answer.request_id) == (MODEL, version or OLD, "mine")
    assert [item.output.int64_value for item in answer.predictions] == expected
    assert [item.class_name for item in answer.predictions] == [str(digit) for digit in expected]
    for item in answer.predictions:
        assert sum(item.probabilities.values()) == pytest.approx(1.0, abs=1e-4)
        assert item.confidence == pytest.approx(item.probabilities[item.class_name], abs=1e-6)


def test_bad_features_carry_rich_details(mesh: Mesh, stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    bad = request(mesh)
    bad.instances[2].CopyFrom(instance([1.0, 2.0]))
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(bad, timeout=TIMEOUT_S)
    status = rpc_status.from_call(cast("grpc.Call", caught.value))
    assert status is not None
    assert status.code == 3
    info, request_fault = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert any(detail.Unpack(info) for detail in status.details)
    assert (info.reason, info.domain) == ("SCHEMA_VIOLATION", "infermesh")
    assert any(detail.Unpack(request_fault) for detail in status.details)
    assert any("instances[2]" in item.field and "X" in item.field for item in request_fault.field_violations)


@pytest.mark.parametrize(("model", "version"), [("no-such-model", ""), (MODEL, "v9.9.9")])
def test_what_is_not_there_is_not_found(
    mesh: Mesh, stub: prediction_service_pb2_grpc.PredictionServiceStub, model: str, version: str
) -> None:
    wanted = request(mesh, version)
    wanted.model_name = model
    with pytest.raises(grpc.RpcError) as caught:
        stub.Predict(wanted, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert (version or model) in str(caught.value.details())


def test_a_stream_answers_in_order_and_goes_on_after_an_error(
    mesh: Mesh, stub: prediction_service_pb2_grpc.PredictionServiceStub
) -> None:
    asked = [
        prediction_pb2.PredictRequest(
            model_name=MODEL if place != 3 else "no-such-model",
            version=NEW if place % 2 else OLD,
            request_id=f"request-{place}",
            instances=[instance(mesh.samples[place % len(mesh.samples)]["instance"]["X"])],
        )
        for place in range(100)
    ]
    answers = list(stub.StreamPredict(iter(asked), timeout=TIMEOUT_S))
    assert [answer.request_id for answer in answers] == [item.request_id for item in asked]
    for place, answer in enumerate(answers):
        if place == 3:
            assert answer.error.code == 5
            continue
        version = NEW if place % 2 else OLD
        assert answer.response.model_version == version
        given = answer.response.predictions[0].output.int64_value
        assert given == mesh.samples[place % len(mesh.samples)]["expected"][version]


def test_a_stream_answers_while_it_is_open(mesh: Mesh, stub: prediction_service_pb2_grpc.PredictionServiceStub) -> None:
    """Each answer comes before the next request is sent: nothing waits for the end of the stream."""
    answered: list[str] = []
    arrived = threading.Event()

    def one_by_one() -> Iterator[prediction_pb2.PredictRequest]:
        for place in range(3):
            assert len(answered) == place
            yield prediction_pb2.PredictRequest(
                model_name=MODEL, request_id=f"{place}", instances=[instance(mesh.samples[0]["instance"]["X"])]
            )
            while len(answered) == place:
                if not arrived.wait(TIMEOUT_S):
                    return
                arrived.clear()

    for answer in stub.StreamPredict(one_by_one(), timeout=TIMEOUT_S):
        answered.append(answer.request_id)
        arrived.set()
    assert answered == ["0", "1", "2"]


def test_the_python_client_takes_lists_arrays_and_tensors(mesh: Mesh, client: Client) -> None:
    expected = [sample["expected"][NEW] for sample in mesh.samples]
    lists = [sample["instance"] for sample in mesh.samples]
    batch = np.array([item["X"] for item in lists], dtype=np.float32)
    for instances in (lists, [{"X": row} for row in batch], [{"X": row.astype(np.float64)} for row in batch]):
        answer = client.predict(MODEL, instances, version=NEW)
        assert answer.model_version == NEW
        assert [item.output for item in answer.predictions] == expected
        assert [item.label for item in answer.predictions] == [str(digit) for digit in expected]
    arrays = client.predict.tensors(MODEL, {"X": batch}, version=NEW)
    assert arrays["label"].tolist() == expected
    assert arrays["probabilities"].shape == (len(expected), 10)


def test_the_python_client_streams(mesh: Mesh, client: Client) -> None:
    rows = [sample["instance"] for sample in mesh.samples]
    answers = list(client.predict.stream(MODEL, [*rows, {"X": [1.0]}, rows[0]]))
    good = [answer for answer in answers if isinstance(answer, Answer)]
    assert len(answers) == len(rows) + 2
    expected = [sample["expected"][OLD] for sample in mesh.samples]
    assert [answer.predictions[0].output for answer in good] == [*expected, expected[0]]
    fault = answers[len(rows)]
    assert isinstance(fault, InfermeshError)
    assert fault.reason == "SCHEMA_VIOLATION"


def test_the_python_client_raises_one_kind_of_error(client: Client) -> None:
    with pytest.raises(InfermeshError) as caught:
        client.predict(MODEL, [{"X": [1.0]}])
    assert caught.value.reason == "SCHEMA_VIOLATION"
    assert "X" in str(caught.value)
    assert caught.value.advice
