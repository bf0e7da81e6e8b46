"""A registry, a Triton and a batcher as they are started, with models whose predictions can be explained."""

import json
import secrets
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import grpc
import numpy as np
import onnx
import orjson
import psycopg
from google.api import httpbody_pb2
from google.protobuf import json_format
from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import prediction_service_pb2, prediction_service_pb2_grpc
from onnx import TensorProto, helper, numpy_helper
from psycopg import sql
from pydantic import SecretStr

from services.common.schema import PredictionMapping
from services.common.schema_proto import schema_from_proto
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.adapters.triton import TritonServer
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.package import package_of
from services.registry.settings import RegistrySettings
from services.supervisor.parts.postgres import USER
from services.supervisor.parts.postgres import database_url as url_of
from services.supervisor.ports import free_ports
from services.supervisor.settings import ROOT
from tests.support.batcher_faces_process import FakeRouter, batcher_part, full_table, serving
from tests.support.clock import NOON
from tests.support.parts import loader_of, running, triton_in
from tests.support.registry_driving import DIGITS, OLD, Create, Registry, digits

TIMEOUT_S = 30.0
WEIGHTS = {"income": 0.002, "age": -0.5, "debt": 3.0, "visits": 0.0}
BIAS = 7.0
SAMPLE = [
    {"income": 1000.0 * place, "age": 20.0 + 3 * place, "debt": 0.25 * (place % 5), "visits": float(place % 3)}
    for place in range(20)
]
IMAGES = [sample["instance"] for sample in orjson.loads((DIGITS / "samples.json").read_bytes())]


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


@asynccontextmanager
async def explaining_mesh(folder: Path, postgres_server: tuple[int, str]) -> AsyncIterator[Mesh]:
    """Runs one with a linear model, and digits in a version with a reference sample and in one without."""
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
        server = loader_of(triton)
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
