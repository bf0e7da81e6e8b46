"""The batcher as it is started, in front of a real Triton and beside a real registry: predictions are explained."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import httpx
import numpy as np
import onnx
import orjson
import psycopg
import pytest
import pytest_asyncio
from google.api import httpbody_pb2
from google.protobuf import json_format
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2, prediction_service_pb2_grpc
from onnx import TensorProto, helper, numpy_helper
from prometheus_client.parser import text_string_to_metric_families
from psycopg import sql
from pydantic import SecretStr

from services.common.schema import PredictionMapping
from services.common.schema_proto import schema_from_proto
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.catalog import Place
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.package import package_of
from services.registry.settings import RegistrySettings
from services.supervisor.parts.postgres import USER
from services.supervisor.parts.postgres import database_url as url_of
from services.supervisor.ports import free_ports
from services.supervisor.settings import ROOT
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, serving
from tests.support.clock import NOON
from tests.support.parts import running, triton_in
from tests.support.registry_driving import DIGITS, OLD, Create, Registry, digits
from tests.support.waiting import eventually

TIMEOUT_S = 30.0
TOLERANCE = 1e-4
"""What is promised, relative to the largest of 1, the output and the baseline."""
WEIGHTS = {"income": 0.002, "age": -0.5, "debt": 3.0, "visits": 0.0}
BIAS = 7.0
SAMPLE = [
    {"income": 1000.0 * place, "age": 20.0 + 3 * place, "debt": 0.25 * (place % 5), "visits": float(place % 3)}
    for place in range(20)
]
IMAGES = [sample["instance"] for sample in orjson.loads((DIGITS / "samples.json").read_bytes())]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def linear(folder: Path) -> Path:
    """score = weights · features + bias, each feature a tensor of its own."""
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1]) for name in WEIGHTS]
    score = helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n", 1])
    weights = np.array([[weight] for weight in WEIGHTS.values()], np.float32)
    constants = [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(np.array([BIAS], np.float32), "b")]
    nodes = [
        helper.make_node("Concat", list(WEIGHTS), ["row"], axis=1),
        helper.make_node("MatMul", ["row", "w"], ["weighted"]),
        helper.make_node("Add", ["weighted", "b"], ["score"]),
    ]
    graph = helper.make_graph(nodes, "credit", inputs, [score], initializer=constants)
    path = folder / "credit.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


@dataclass
class Mesh:
    """What runs."""

    stub: Any
    registry: Registry
    address: str

    async def predicted(self, model: str, instances: Sequence[Mapping[str, object]], **fields: Any) -> Any:
        """The answer in JSON, as REST gives it."""
        document = orjson.dumps({"instances": instances, "explain": True, **fields})
        request = prediction_service_pb2.PredictJsonRequest(model_name=model, body=httpbody_pb2.HttpBody(data=document))
        return json.loads((await self.stub.PredictJson(request, timeout=TIMEOUT_S)).data)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory, postgres_server: tuple[int, str]) -> AsyncIterator[Mesh]:
    folder = tmp_path_factory.mktemp("mesh")
    registry = Registry(
        RegistrySettings(
            port=free_ports(1)[0],
            metrics_port=0,
            database_url=SecretStr(new_database(postgres_server)),
            data_dir=folder / "registry",
        )
    )
    await registry.start()
    credit = Create(name="credit", version=OLD, artifact_uri=linear(folder).as_uri())
    json_format.ParseDict({"instances": SAMPLE}, credit.reference_sample)
    made = [
        await registry.calls.CreateModel(credit),
        await registry.calls.CreateModel(digits(OLD, reference_sample={"instances": IMAGES})),
        await registry.calls.CreateModel(digits("v1.1.0")),
    ]
    triton = triton_in(folder)
    async with running(triton):
        server = TritonServer(Place("triton-0", f"127.0.0.1:{triton.ports['triton_http']}", ""), load_timeout_s=60)
        served = [await loaded(folder, server, version, f"127.0.0.1:{triton.ports['triton_http']}") for version in made]
        await server.close()
        models = {model: [one for name, one in served if name == model] for model, _ in served}
        table = full_table(
            *(
                serving_pb2.ServedModel(model_name=name, default_version=OLD, versions=versions)
                for name, versions in models.items()
            )
        )
        async with serving(router=FakeRouter(table)) as router:
            part = batcher_part(
                folder / "batcher", router=router, registry=registry.address, application="services.batcher.app:app"
            )
            address = f"127.0.0.1:{part.ports['batcher']}"
            async with running(part), grpc.aio.insecure_channel(address) as channel:
                stub: Any = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                yield Mesh(stub, registry, address)
    await registry.stop()


def new_database(server: tuple[int, str]) -> str:
    """A database for the module."""
    port, password = server
    name = f"test_{secrets.token_hex(6)}"
    with psycopg.connect(
        host="127.0.0.1", port=port, user=USER, password=password, dbname="postgres", autocommit=True
    ) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return url_of(port=port, password=password, database=name)


async def loaded(folder: Path, server: TritonServer, version: Any, address: str) -> tuple[str, Any]:
    """The version in Triton, as the router tells batchers of it."""
    schema = schema_from_proto(version.schema)
    # Where it was registered from: the registry may keep it compressed.
    path = unquote(urlsplit(version.artifact_uri).path)
    recipe = Recipe("onnx", path, version.artifact_digest, schema, PredictionMapping())
    new = NewDeployment(version.model_name, version.version, "main", Wish())
    deployment = Deployment("id", new, recipe, Wish(), Progress(), 1, NOON, NOON)
    packages = FolderPackageStore(folder / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))
    await server.load(deployment.server_model_name)
    backend = serving_pb2.Backend(
        backend_id="triton-0", http_address=address, server_model_name=deployment.server_model_name
    )
    return version.model_name, serving_pb2.ServedVersion(
        version=version.version,
        deployment_name="main",
        schema=version.schema,
        mapping=version.mapping,
        batching=serving_pb2.BatchingPolicy(enabled=True, max_batch_size=64, batch_timeout_ms=5),
        backends=[backend],
        reference_digest=version.reference_digest,
    )


async def explained(mesh: Mesh, model: str, *instances: Mapping[str, object], **fields: Any) -> list[Any]:
    """The predictions, once the batcher has the reference sample."""

    async def ready() -> Any:
        try:
            return await mesh.predicted(model, instances, **fields)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return None

    answer = await eventually(ready, what="the reference sample arrived")
    predictions: list[Any] = answer["predictions"]
    return predictions


def row_of(instance: Mapping[str, float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([instance[name] for name in WEIGHTS])


async def test_a_linear_model_is_explained_by_what_is_known_of_it(mesh: Mesh) -> None:
    asked: list[dict[str, float]] = [
        {"income": 52_000.0, "age": 33.0, "debt": 2.0, "visits": 9.0},
        {"income": 0.0, "age": 80.0, "debt": 0.0, "visits": 1.0},
    ]
    predictions = await explained(mesh, "credit", *asked)
    weights, mean = np.array(list(WEIGHTS.values())), np.mean([row_of(one) for one in SAMPLE], axis=0)
    for instance, one in zip(asked, predictions, strict=True):
        bound = TOLERANCE * max(1, abs(one["output"]), abs(one["explanation_baseline"]))
        assert list(one["explanation"]) == list(WEIGHTS)
        truth = weights * (row_of(instance) - mean)
        assert list(one["explanation"].values()) == pytest.approx(truth.tolist(), abs=bound)
        assert one["explanation_baseline"] == pytest.approx(float(weights @ mean + BIAS), abs=bound)
        assert sum(one["explanation"].values()) + one["explanation_baseline"] == pytest.approx(one["output"], abs=bound)
        assert one["explanation"]["visits"] == 0.0


async def test_digits_are_explained_pixel_by_pixel_and_add_up_to_the_confidence(mesh: Mesh) -> None:
    predictions = await explained(mesh, "digits", *IMAGES[:3])
    for one in predictions:
        values = one["explanation"]
        assert list(values) == [f"X[{pixel}]" for pixel in range(64)]
        assert sum(values.values()) + one["explanation_baseline"] == pytest.approx(one["confidence"], abs=TOLERANCE)
        # No digit has ink in its upper left corner: what is always the same explains nothing.
        assert values["X[0]"] == 0.0
        assert max(values.values()) > 0.01
    again = await explained(mesh, "digits", IMAGES[1])
    assert again[0]["explanation"] == pytest.approx(predictions[1]["explanation"], abs=1e-5)


async def test_typed_and_streamed_predictions_are_explained_alike(mesh: Mesh) -> None:
    (shown,) = await explained(mesh, "credit", SAMPLE[3])
    request = prediction_pb2.PredictRequest(model_name="credit", explain=True)
    instance = request.instances.add()
    for name, value in SAMPLE[3].items():
        instance.features[name].double_value = value
    alone = (await mesh.stub.Predict(request, timeout=TIMEOUT_S)).predictions[0]
    assert dict(alone.explanation) == pytest.approx(shown["explanation"], abs=1e-9)
    assert alone.explanation_baseline == pytest.approx(shown["explanation_baseline"], abs=1e-9)
    stream = mesh.stub.StreamPredict([request] * 8, timeout=TIMEOUT_S)
    streamed = [answer.response.predictions[0].explanation async for answer in stream]
    assert [dict(one) for one in streamed] == [pytest.approx(shown["explanation"], abs=1e-9)] * 8


async def test_nothing_is_explained_unasked(mesh: Mesh) -> None:
    (one,) = (await mesh.predicted("credit", [SAMPLE[0]], explain=False))["predictions"]
    assert "explanation" not in one
    assert "explanation_baseline" not in one


async def test_refusals_name_the_bound_and_the_remedy(mesh: Mesh) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="33 instances; at most 32"):
        await mesh.predicted("credit", [SAMPLE[0]] * 33)
    with pytest.raises(grpc.aio.AioRpcError, match="registered without a reference sample") as caught:
        await mesh.predicted("digits", [IMAGES[0]], version="v1.1.0")
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    with pytest.raises(grpc.aio.AioRpcError, match=r"explain: the deadline passed after \d+ of \d+ rows") as caught:
        await mesh.predicted("digits", IMAGES[:10], timeout_ms=60)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_explanations_are_counted_and_their_time_is_not_the_predictions(mesh: Mesh) -> None:
    await explained(mesh, "digits", *IMAGES[:2])
    async with httpx.AsyncClient(trust_env=False) as client:
        text = (await client.get(f"http://{mesh.address}/metrics", timeout=5)).text
    found = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("model") == "digits" and sample.labels.get("version") == OLD
    }
    assert found["model_explanations_total"] >= 2
    assert found["model_explanation_rows_total"] >= 2 * 8192
    assert found["model_latency_ms_sum"] < 1000 * found["model_explanation_seconds_sum"]


async def test_explanations_go_on_without_the_registry(mesh: Mesh) -> None:
    """Last in this file: the registry of the tests above is stopped."""
    (before,) = await explained(mesh, "credit", SAMPLE[5])
    await mesh.registry.stop()
    (after,) = (await mesh.predicted("credit", [SAMPLE[5]]))["predictions"]
    assert after["explanation"] == pytest.approx(before["explanation"], abs=1e-9)
