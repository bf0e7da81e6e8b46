"""Who may ask what of a batcher, in every protocol, by the headers that a gateway sets: what a caller may not see
answers as what does not exist, to the byte."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_status import rpc_status
from inference import grpc_service_pb2 as pb
from inference import grpc_service_pb2_grpc
from infermesh.prediction.v1 import prediction_service_pb2, prediction_service_pb2_grpc
from infermesh.router.v1 import serving_table_pb2

from tests.support.batcher_faces_calls import address_of, digits_request
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually

TIMEOUT_S = 10.0
pytestmark = pytest.mark.asyncio(loop_scope="module")

Headers = Mapping[str, str]


def caller(**said: str) -> Headers:
    return {f"x-infermesh-{name}": value for name, value in said.items()}


VISION = caller(team="vision", role="viewer", key="key_v")
SEARCH = caller(team="search", role="deployer", key="key_s")
ANONYMOUS = caller(role="anonymous")
OPERATOR = caller(role="platform-admin", key="key_o")
SEES = {
    "no headers": ({}, {"open-1", "mine-1", "lent-1"}),
    "vision": (VISION, {"open-1", "mine-1", "lent-1"}),
    "search": (SEARCH, {"open-1", "lent-1"}),
    "operator": (OPERATOR, {"open-1", "mine-1", "lent-1"}),
    "one model": ({**VISION, **caller(models="mine-1")}, {"mine-1"}),
    "a foreign model": ({**SEARCH, **caller(models="mine-1")}, set()),
}
MODELS = ("open-1", "mine-1", "lent-1")
ABSENT = "none-1"


@dataclass
class Faces:
    """A batcher that serves a model of nobody's, one of vision's, and one of vision's that search may call."""

    channel: grpc.aio.Channel
    rest: httpx.AsyncClient
    monitor: FakeMonitor
    router: FakeRouter

    @property
    def predictions(self) -> Any:
        return prediction_service_pb2_grpc.PredictionServiceStub(self.channel)

    @property
    def inference(self) -> Any:
        return grpc_service_pb2_grpc.GRPCInferenceServiceStub(self.channel)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def faces(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Faces]:
    models = [served_model("v1.0.0", name=name) for name in MODELS]
    models[1].team = models[2].team = "vision"
    models[2].shared_with.append("search")
    router, monitor = FakeRouter(full_table(*models)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(tmp_path_factory.mktemp("callers"), router=neighbours, monitor=neighbours)
        async with running(part):
            await eventually(lambda: len(router.heard) == 2, what="the batcher acknowledged its table")
            async with (
                grpc.aio.insecure_channel(address_of(part)) as channel,
                httpx.AsyncClient(base_url=f"http://{address_of(part)}", trust_env=False, timeout=TIMEOUT_S) as rest,
            ):
                yield Faces(channel, rest, monitor, router)


def tensors(model: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=model)
    request.inputs.add(name="X", datatype="FP32", shape=(1, 64))
    request.raw_input_contents.append(bytes(256))
    return request


ROW = '{"inputs": [{"name": "X", "datatype": "FP32", "shape": [1, 64], "data": [' + ",".join(["0"] * 64) + "]}]}"
INSTANCE = b'{"instances": [{"X": [' + b",".join([b"0"] * 64) + b"]}]}"

Ask = Callable[[Faces, str, Headers], Awaitable[Any]]


def unary(method: Callable[[Faces], Any], request: Callable[[str], Any]) -> Ask:
    async def ask(faces: Faces, model: str, headers: Headers) -> Any:
        return await method(faces)(request(model), metadata=tuple(headers.items()), timeout=TIMEOUT_S)

    return ask


def streamed(method: Callable[[Faces], Any], request: Callable[[str], Any]) -> Ask:
    async def ask(faces: Faces, model: str, headers: Headers) -> Any:
        call = method(faces)(iter([request(model)]), metadata=tuple(headers.items()), timeout=TIMEOUT_S)
        return [answer async for answer in call]

    return ask


def opened(method: Callable[[Faces], Any]) -> Ask:
    """A stream that is refused at once: grpc.aio would tell of a write that came too late in words of its own."""

    async def ask(faces: Faces, model: str, headers: Headers) -> Any:
        return await method(faces)(metadata=(*headers.items(), ("x-model-name", model)), timeout=TIMEOUT_S).read()

    return ask


def rest(verb: str, path: str, body: str | None = None) -> Ask:
    async def ask(faces: Faces, model: str, headers: Headers) -> Any:
        answer = await faces.rest.request(verb, path.format(model=model), content=body, headers=dict(headers))
        sent = {name: value for name, value in answer.headers.items() if name != "date"}
        return (answer.status_code, sent, answer.text)

    return ask


def plain_json(model: str) -> Any:
    return prediction_service_pb2.PredictJsonRequest(model_name=model, body=httpbody_pb2.HttpBody(data=INSTANCE))


PREDICTIONS: Mapping[str, Ask] = {
    "Predict": unary(lambda faces: faces.predictions.Predict, lambda model: digits_request(model_name=model)),
    "PredictJson": unary(lambda faces: faces.predictions.PredictJson, plain_json),
    "explained": unary(
        lambda faces: faces.predictions.Predict, lambda model: digits_request(model_name=model, explain=True)
    ),
    "another version": unary(
        lambda faces: faces.predictions.Predict, lambda model: digits_request(model_name=model, version="v9.0.0")
    ),
    "nonsense": unary(
        lambda faces: faces.predictions.PredictJson,
        lambda model: prediction_service_pb2.PredictJsonRequest(
            model_name=model, body=httpbody_pb2.HttpBody(data=b"{]")
        ),
    ),
    "ModelInfer": unary(lambda faces: faces.inference.ModelInfer, tensors),
    "REST infer": rest("POST", "/v2/models/{model}/infer", ROW),
    "REST infer of a version": rest("POST", "/v2/models/{model}/versions/v1.0.0/infer", ROW),
    "REST nonsense": rest("POST", "/v2/models/{model}/infer", "{]"),
}
STREAMS: Mapping[str, Ask] = {
    "StreamPredict": streamed(
        lambda faces: faces.predictions.StreamPredict, lambda model: digits_request(model_name=model, request_id="r")
    ),
    "ModelStreamInfer": streamed(lambda faces: faces.inference.ModelStreamInfer, tensors),
}
UNWRITTEN: Mapping[str, Ask] = {
    "StreamPredict": opened(lambda faces: faces.predictions.StreamPredict),
    "ModelStreamInfer": opened(lambda faces: faces.inference.ModelStreamInfer),
}
QUESTIONS: Mapping[str, Ask] = {
    "ModelReady": unary(lambda faces: faces.inference.ModelReady, lambda model: pb.ModelReadyRequest(name=model)),
    "ModelMetadata": unary(
        lambda faces: faces.inference.ModelMetadata, lambda model: pb.ModelMetadataRequest(name=model)
    ),
    "ModelConfig": unary(lambda faces: faces.inference.ModelConfig, lambda model: pb.ModelConfigRequest(name=model)),
    "ModelStatistics": unary(
        lambda faces: faces.inference.ModelStatistics, lambda model: pb.ModelStatisticsRequest(name=model)
    ),
    "REST ready": rest("GET", "/v2/models/{model}/ready"),
    "REST metadata": rest("GET", "/v2/models/{model}"),
    "REST metadata of a version": rest("GET", "/v2/models/{model}/versions/v1.0.0"),
}


async def heard(ask: Ask, faces: Faces, model: str, headers: Headers) -> str:
    """All that a caller can tell an answer by, without the model's name."""
    try:
        answer = await ask(faces, model, {**headers, "x-request-id": "r"})
    except grpc.aio.AioRpcError as error:
        answer = (error.code(), error.details(), rpc_status.from_call(error), error.initial_metadata())  # type: ignore[arg-type]
    return str(answer).replace(model, "<model>")


@pytest.mark.parametrize("kind", SEES)
async def test_what_a_caller_may_not_see_is_not_there(faces: Faces, kind: str) -> None:
    """In every protocol, and in all that can be asked."""
    headers, visible = SEES[kind]
    for name, ask in {**PREDICTIONS, **STREAMS, **QUESTIONS}.items():
        absent = await heard(ask, faces, ABSENT, headers)
        for model in MODELS:
            answer = await heard(ask, faces, model, headers)
            if name == "ModelStatistics":
                assert answer == absent, "never offered"
            else:
                assert (answer != absent) == (model in visible), (name, model, answer)


@pytest.mark.parametrize("kind", SEES)
async def test_lists_hold_what_a_caller_may_see(faces: Faces, kind: str) -> None:
    headers, visible = SEES[kind]
    index = await faces.inference.RepositoryIndex(
        pb.RepositoryIndexRequest(), metadata=tuple(headers.items()), timeout=TIMEOUT_S
    )
    assert {model.name for model in index.models} == visible
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await PREDICTIONS["Predict"](faces, ABSENT, headers)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    listed = caught.value.details() or ""
    assert {model for model in MODELS if model in listed} == visible


def reason_of(error: grpc.aio.AioRpcError) -> str:
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return str(info.reason)


@pytest.mark.parametrize("model", ["open-1", ABSENT])
@pytest.mark.parametrize("name", [*PREDICTIONS, "StreamPredict", "ModelStreamInfer"])
@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (ANONYMOUS, grpc.StatusCode.UNAUTHENTICATED),
        (caller(team="vision", role="nonsense"), grpc.StatusCode.UNAUTHENTICATED),
        (caller(role="viewer", key="key_n"), grpc.StatusCode.UNAUTHENTICATED),
        ({**ANONYMOUS, **caller(user="ann")}, grpc.StatusCode.PERMISSION_DENIED),
        ({**VISION, **caller(scopes="models.read batch")}, grpc.StatusCode.PERMISSION_DENIED),
        ({**OPERATOR, **caller(scopes="admin")}, grpc.StatusCode.PERMISSION_DENIED),
    ],
    ids=["nobody", "no role", "no team", "a user of no team", "a key for other things", "an operator's, for others"],
)
async def test_who_may_not_predict_is_told_so_before_anything_else(
    faces: Faces, headers: Headers, code: grpc.StatusCode, name: str, model: str
) -> None:
    ask = {**PREDICTIONS, **UNWRITTEN}[name]
    if name.startswith("REST"):
        answered, sent, text = await ask(faces, model, headers)
        status = 401 if code is grpc.StatusCode.UNAUTHENTICATED else 403
        assert (answered, code.name in text) == (status, True)
        assert ("www-authenticate" in sent) == (status == 401)
        return
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(faces, model, headers)
    assert (caught.value.code(), reason_of(caught.value)) == (code, code.name)


async def test_models_may_be_read_by_keys_that_may_read_or_predict(faces: Faces) -> None:
    for scopes, allowed in (("models.read", True), ("predict", True), ("telepathy", False)):
        headers = {**VISION, **caller(scopes=scopes)}
        for name, ask in QUESTIONS.items():
            if name == "ModelStatistics":
                continue
            if name.startswith("REST"):
                assert ((await ask(faces, "mine-1", headers))[0] == 200) == allowed
            elif allowed:
                await ask(faces, "mine-1", headers)
            else:
                with pytest.raises(grpc.aio.AioRpcError) as caught:
                    await ask(faces, "mine-1", headers)
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_whether_the_server_lives_is_told_to_everybody(faces: Faces) -> None:
    said = tuple(ANONYMOUS.items())
    assert (await faces.inference.ServerLive(pb.ServerLiveRequest(), metadata=said, timeout=TIMEOUT_S)).live
    assert (await faces.inference.ServerReady(pb.ServerReadyRequest(), metadata=said, timeout=TIMEOUT_S)).ready
    health: Any = health_pb2_grpc.HealthStub(faces.channel)
    assert (await health.Check(health_pb2.HealthCheckRequest(), metadata=said, timeout=TIMEOUT_S)).status == 1
    for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
        assert (await faces.rest.get(path, headers=dict(ANONYMOUS))).status_code == 200
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await faces.inference.ServerMetadata(pb.ServerMetadataRequest(), metadata=said, timeout=TIMEOUT_S)
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert (await faces.rest.get("/v2", headers=dict(ANONYMOUS))).status_code == 401
    assert (await faces.rest.get("/v2", headers=dict(VISION))).status_code == 200


async def test_each_request_of_a_stream_is_looked_at(faces: Faces) -> None:
    call = faces.predictions.StreamPredict(metadata=tuple(SEARCH.items()), timeout=TIMEOUT_S)
    for model in ("lent-1", "mine-1", ABSENT, "open-1"):
        await call.write(digits_request(model_name=model, request_id=model))
    await call.done_writing()
    answers = [answer async for answer in call]
    assert [answer.WhichOneof("result") for answer in answers] == ["response", "error", "error", "response"]
    assert str(answers[1]).replace("mine-1", ABSENT) == str(answers[2])


async def test_what_was_refused_is_charged_to_nobody_and_what_was_answered_to_the_callers_team(faces: Faces) -> None:
    """The owner of a shared model does not pay for those who call it."""
    ask = PREDICTIONS["Predict"]
    for model, headers in (("mine-1", SEARCH), ("open-1", ANONYMOUS), ("lent-1", {**SEARCH, **caller(user="ann")})):
        try:
            await ask(faces, model, {**headers, "x-request-id": f"charged-{model}"})
        except grpc.aio.AioRpcError as error:
            assert model != "lent-1", error  # noqa: PT017 - one of the three is answered

    def charged() -> list[tuple[str, str, str]]:
        return [
            (group.model_name, request_id, team)
            for group in faces.monitor.groups()
            for request_id, team in zip(group.request_ids, group.request_teams, strict=False)
            if request_id.startswith("charged-")
        ]

    await eventually(lambda: bool(charged()), what="the log of what was answered")
    assert charged() == [("lent-1", "charged-lent-1", "search")]


async def test_a_batcher_that_starts_without_a_router_still_knows_whose_models_are(tmp_path: Path) -> None:
    model = served_model("v1.0.0", name="mine-1")
    model.team = "vision"
    model.shared_with.append("search")
    router = FakeRouter(full_table(model))
    async with serving(router=router) as neighbours, running(batcher_part(tmp_path, router=neighbours)):
        await eventually((tmp_path / "data" / "serving_table.bin").exists, what="the table is on disk")
    part = batcher_part(tmp_path)
    async with running(part), grpc.aio.insecure_channel(address_of(part)) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        for team, seen in (("vision", True), ("search", True), ("risk", False)):
            said = tuple(caller(team=team, role="viewer").items())
            try:
                await stub.Predict(digits_request(model_name="mine-1"), metadata=said, timeout=TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                assert (error.code(), seen) == (grpc.StatusCode.NOT_FOUND, False)  # noqa: PT017 - others are answered
            else:
                assert seen


async def test_streams_end_with_the_key_that_opened_them_and_no_others(faces: Faces) -> None:
    opened = [
        faces.inference.ModelStreamInfer(metadata=tuple(headers.items()), timeout=TIMEOUT_S)
        for headers in (VISION, SEARCH)
    ]
    for stream in opened:
        await stream.write(tensors("open-1"))
        assert await stream.read() is not grpc.aio.EOF
    gone, stays = opened
    told = serving_table_pb2.RevokedKeys(key_ids=["key_v"])
    revision = faces.router.heard[-1].acknowledged_revision
    step = serving_table_pb2.WatchServingTableResponse
    faces.router.steps.put_nowait(step(revision=revision, revoked_keys=told))
    # It is idle, and ends all the same.
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gone.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    late = faces.inference.ModelStreamInfer(metadata=tuple(VISION.items()), timeout=TIMEOUT_S)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await late.read()
    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
    await stays.write(tensors("open-1"))
    assert await stays.read() is not grpc.aio.EOF
    stays.cancel()
    faces.router.steps.put_nowait(step(revision=revision, revoked_keys=serving_table_pb2.RevokedKeys()))
