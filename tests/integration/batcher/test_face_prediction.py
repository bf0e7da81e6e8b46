"""Typed and JSON predictions over real gRPC against a real batcher process."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from infermesh.prediction.v1 import instance_pb2, prediction_pb2, prediction_service_pb2, prediction_service_pb2_grpc

from tests.integration.batcher.conftest import Running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def channel(batcher: Running) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(batcher.address, options=(("grpc.max_receive_message_length", -1),)) as opened:
        yield opened


@pytest.fixture
def stub(channel: grpc.aio.Channel) -> Any:
    return prediction_service_pb2_grpc.PredictionServiceStub(channel)


def instance(first: float, count: int = 64) -> instance_pb2.Instance:
    values = [first, *([0.0] * (count - 1))]
    return instance_pb2.Instance(features={"X": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=values))})


def request(*firsts: float, **fields: Any) -> prediction_pb2.PredictRequest:
    return prediction_pb2.PredictRequest(
        **{"model_name": "digits", "instances": [instance(first) for first in firsts], **fields}
    )


def details_of(error: grpc.aio.AioRpcError) -> tuple[Any, Any, Any]:
    """ErrorInfo, BadRequest and RetryInfo of a failed call."""
    [raw] = [value for key, value in error.trailing_metadata() or () if key == "grpc-status-details-bin"]
    assert isinstance(raw, bytes)
    found = (error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo())
    for detail in status_pb2.Status.FromString(raw).details:
        for message in found:
            detail.Unpack(message)
    return found


async def failure(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def test_typed_predictions_name_their_version_and_come_in_order(stub: Any) -> None:
    answer = await stub.Predict(request(3, 7, 1, request_id="mine"), timeout=TIMEOUT_S)
    assert (answer.model_name, answer.model_version, answer.request_id) == ("digits", "v1.0.0", "mine")
    assert [item.output.int64_value for item in answer.predictions] == [3, 7, 1]
    assert [item.class_name for item in answer.predictions] == ["3", "7", "1"]
    first = answer.predictions[0]
    assert first.confidence == pytest.approx(0.91)
    assert dict(first.probabilities) == pytest.approx({str(at): 0.91 if at == 3 else 0.01 for at in range(10)})
    assert 0 < answer.latency_ms < 5000


@pytest.mark.parametrize(
    ("version", "headers", "expected"),
    [
        ("", {}, "v1.0.0"),
        ("1.1.0", {}, "v1.1.0"),
        ("", {"x-route-version": "v1.1.0"}, "v1.1.0"),
        ("", {"x-model-version": "v1.1.0", "x-route-version": "v1.0.0"}, "v1.1.0"),
        ("v1.0.0", {"x-model-version": "v1.1.0"}, "v1.0.0"),
    ],
)
async def test_the_strongest_statement_of_a_version_wins(
    stub: Any, version: str, headers: dict[str, str], expected: str
) -> None:
    answer = await stub.Predict(request(1, version=version), metadata=tuple(headers.items()), timeout=TIMEOUT_S)
    assert answer.model_version == expected


async def test_what_is_not_served_is_named_with_what_is(stub: Any) -> None:
    model = await failure(stub.Predict(request(1, model_name="absent"), timeout=TIMEOUT_S))
    assert model.code() is grpc.StatusCode.NOT_FOUND
    assert "absent" in str(model.details())
    assert "digits" in str(model.details())
    assert details_of(model)[0].reason == "MODEL_NOT_SERVED"
    version = await failure(stub.Predict(request(1, version="9.9.9"), timeout=TIMEOUT_S))
    assert details_of(version)[0].reason == "VERSION_NOT_SERVED"
    assert "v1.0.0, v1.1.0" in str(version.details())


async def test_bad_features_are_named_with_their_instance(stub: Any) -> None:
    bad = request(1, 2)
    bad.instances.append(instance(3, count=2))
    bad.instances[0].features["colour"].string_value = "red"
    error = await failure(stub.Predict(bad, timeout=TIMEOUT_S))
    info, fault, _ = details_of(error)
    assert (error.code(), info.reason, info.domain) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "SCHEMA_VIOLATION",
        "infermesh",
    )
    said = {item.field: item.description for item in fault.field_violations}
    assert said["instances[2].X"] == "expected 64 values of FP32, got 2"
    assert "is no feature" in said["instances[0].colour"]


async def test_an_engine_that_is_full_says_when_to_come_back(stub: Any) -> None:
    error = await failure(stub.Predict(request(1, parameters={"do": "fail"}), timeout=TIMEOUT_S))
    info, _, retry = details_of(error)
    assert (error.code(), info.reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "QUEUE_FULL")
    assert retry.retry_delay.seconds == 2
    assert dict(error.trailing_metadata() or ())["retry-after"] == "2"


async def test_of_the_unforeseen_only_an_id_leaves(stub: Any) -> None:
    error = await failure(stub.Predict(request(1, parameters={"do": "crash"}), timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "secret" not in str(error.details())
    assert details_of(error)[0].metadata["error_id"] in str(error.details())


async def test_a_version_without_reference_sample_says_how_to_have_it_explained(stub: Any) -> None:
    error = await failure(stub.Predict(request(1, explain=True), timeout=TIMEOUT_S))
    found = (error.code(), details_of(error)[0].reason)
    assert found == (grpc.StatusCode.FAILED_PRECONDITION, "EXPLANATION_UNAVAILABLE")
    assert "register a new one with reference_sample" in str(error.details())


async def test_compressed_messages_are_refused_clearly(stub: Any) -> None:
    error = await failure(stub.Predict(request(*range(9)), timeout=TIMEOUT_S, compression=grpc.Compression.Gzip))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "identity" in str(error.details())


async def test_messages_beyond_the_limit_are_refused_with_the_limit(batcher: Running) -> None:
    big = request(1)
    big.instances.extend([instance(1)] * 50_000)
    options = (("grpc.max_send_message_length", -1),)
    async with grpc.aio.insecure_channel(batcher.address, options=options) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        error = await failure(stub.Predict(big, timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert details_of(error)[0].reason == "MESSAGE_TOO_LARGE"


async def test_ten_megabytes_are_answered(stub: Any) -> None:
    answer = await stub.Predict(request(*([4.0] * 38_000)), timeout=30)
    assert len(answer.predictions) == 38_000
    assert answer.predictions[-1].class_name == "4"


async def test_json_is_answered_exactly_as_documented(stub: Any) -> None:
    document = {"instances": [{"X": [5.0, *([0.0] * 63)]}], "request_id": "mine", "version": "1.1.0"}
    message = prediction_service_pb2.PredictJsonRequest(
        model_name="digits",
        body=httpbody_pb2.HttpBody(content_type="application/json", data=json.dumps(document).encode()),
    )
    answer = await stub.PredictJson(message, timeout=TIMEOUT_S)
    assert answer.content_type == "application/json"
    shown = json.loads(answer.data)
    assert shown.pop("latency_ms") > 0
    probabilities = {str(at): 0.91 if at == 5 else 0.01 for at in range(10)}
    assert shown == {
        "predictions": [{"output": 5, "confidence": 0.91, "class": "5", "probabilities": probabilities}],
        "model_name": "digits",
        "model_version": "v1.1.0",
        "request_id": "mine",
    }


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"x"', b"{}", b'{"instances": []}', b'{"instances": [1]}', b"\xff"]
)
async def test_json_that_is_no_request_is_refused(stub: Any, body: bytes) -> None:
    message = prediction_service_pb2.PredictJsonRequest(model_name="digits", body=httpbody_pb2.HttpBody(data=body))
    error = await failure(stub.PredictJson(message, timeout=TIMEOUT_S))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stream_answers_in_order_and_goes_on_after_an_error(stub: Any) -> None:
    asked = [
        request(place % 10, request_id=f"r{place}", model_name="absent" if place == 3 else "digits")
        for place in range(200)
    ]
    answers = [answer async for answer in stub.StreamPredict(iter(asked), timeout=TIMEOUT_S)]
    assert [answer.request_id for answer in answers] == [item.request_id for item in asked]
    for place, answer in enumerate(answers):
        if place == 3:
            assert answer.error.code == grpc.StatusCode.NOT_FOUND.value[0]
        else:
            assert answer.response.predictions[0].output.int64_value == place % 10


async def test_a_stream_answers_before_the_next_request_is_sent(stub: Any) -> None:
    call = stub.StreamPredict(timeout=TIMEOUT_S)
    for place in range(3):
        await call.write(request(place, request_id=str(place)))
        assert (await call.read()).request_id == str(place)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_slow_answers_of_a_stream_overlap(stub: Any) -> None:
    asked = [request(1, parameters={"do": "slow"}) for _ in range(20)]
    began = asyncio.get_running_loop().time()
    answers = [answer async for answer in stub.StreamPredict(iter(asked), timeout=TIMEOUT_S)]
    assert len(answers) == 20
    assert asyncio.get_running_loop().time() - began < 20 * 0.3 / 2


async def active(batcher: Running) -> float:
    return (await metrics(batcher))("model_active_requests")


async def metrics(batcher: Running) -> Callable[[str], float]:
    reader, writer = await asyncio.open_connection(*batcher.address.split(":"))
    writer.write(b"GET /metrics HTTP/1.1\r\nhost: m\r\nconnection: close\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()

    def value(name: str) -> float:
        found = [line for line in text.splitlines() if line.startswith(name) and not line.startswith("#")]
        assert found, f"{name} is not shown"
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)

    return value


@pytest.mark.parametrize("kind", ["unary", "open stream", "half-closed stream"])
async def test_work_of_a_caller_who_hangs_up_is_cancelled(batcher: Running, stub: Any, kind: str) -> None:
    waiting = request(1, parameters={"do": "wait"})
    if kind == "unary":
        call = stub.Predict(waiting, timeout=30)
    else:
        call = stub.StreamPredict(timeout=30)
        await call.write(waiting)
        if kind == "half-closed stream":
            await call.done_writing()

    async def works() -> bool:
        return await active(batcher) >= 1

    async def rests() -> bool:
        return await active(batcher) == 0

    task = asyncio.ensure_future(call.code())
    await eventually(works, what="the request is in work")
    call.cancel()
    await task
    await eventually(rests, what="the request is given up")


async def test_a_time_limit_that_is_over_is_refused(stub: Any) -> None:
    error = await failure(stub.Predict(request(1, timeout_ms=1, parameters={"do": "slow"}), timeout=0.000001))
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_health_says_serving(channel: grpc.aio.Channel) -> None:
    stub: Any = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_requests_are_counted_and_logged(fresh_batcher: Running) -> None:
    async with grpc.aio.insecure_channel(fresh_batcher.address) as channel:
        await check_counts(fresh_batcher, prediction_service_pb2_grpc.PredictionServiceStub(channel))


async def check_counts(batcher: Running, stub: Any) -> None:
    await stub.Predict(request(1, 2, 1, request_id="first"), metadata=(("x-infermesh-user", "ann"),), timeout=TIMEOUT_S)
    await stub.Predict(request(2, version="1.1.0"), metadata=(("x-priority", "background"),), timeout=TIMEOUT_S)
    await failure(stub.Predict(request(1, parameters={"do": "fail"}), timeout=TIMEOUT_S))
    value = await metrics(batcher)
    assert value('model_requests_total{model="digits",status="OK",version="v1.0.0"}') == 1
    assert value('model_errors_total{error_type="QUEUE_FULL",model="digits",version="v1.0.0"}') == 1
    assert value('model_predictions_by_class{class="1",model="digits",version="v1.0.0"}') == 2
    assert value('model_latency_ms_count{model="digits",version="v1.0.0"}') == 2
    await eventually(lambda: sum(len(group.request_ids) for group in batcher.monitor.groups()) == 3)
    by_version: dict[str, list[Any]] = {}
    for group in batcher.monitor.groups():
        by_version.setdefault(group.version, []).append(group)
    old = by_version["v1.0.0"]
    assert [code for group in old for code in group.request_codes] == [0, 8]
    assert [rows for group in old for rows in group.request_rows] == [3, 1]
    assert old[0].request_ids[0] == "first"
    assert old[0].request_users[0] == "ann"
    assert sum(group.predictions_by_class["1"] for group in old) == 2
    assert sum(group.predictions_by_confidence["high"] for group in old) == 3
    assert [list(group.request_kinds) for group in by_version["v1.1.0"]] == [[4]]
    assert old[0].deployment_name == "main"
