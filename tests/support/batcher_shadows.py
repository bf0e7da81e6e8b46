"""The rehearsal's two versions in a real Triton, as a batcher is told to serve them: the new one gets copies of what
the old one answers, and misbehaves where a request says so."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from infermesh.common.v1 import serving_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from examples.rehearsal.models import CLASSES, MODEL, NEW, OLD, Fault, write
from services.common.clock import SystemClock
from services.common.names import backend_model_name
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from services.deployer.adapters.repository import FolderPackageStore
from services.deployer.domain.deployment import Deployment, NewDeployment, Progress, Recipe, Wish
from services.deployer.domain.package import package_of
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from services.supervisor.settings import ROOT
from tests.support.batcher_faces_process import served_version
from tests.support.clock import NOON
from tests.support.parts import loader_of, triton_in

SCHEMA = ModelSchema(
    (TensorSpec("value", DataType.FP32, (1,)), TensorSpec("fault", DataType.INT64, (1,))),
    (TensorSpec("label", DataType.INT64), TensorSpec("probabilities", DataType.FP32, (2,))),
)
MAPPING = PredictionMapping("label", "probabilities", CLASSES)


def triton_address(part: Part) -> str:
    """host:port of its HTTP endpoint."""
    return f"127.0.0.1:{part.ports['triton_http']}"


async def install(folder: Path) -> None:
    """Puts both versions into the repository of the Triton in `folder`."""
    packages = FolderPackageStore(folder / "repository", runner=ROOT / "deploy" / "triton" / "runner")
    await packages.start()
    for version, path in write(folder / "models").items():
        recipe = Recipe("onnx", str(path), hashlib.sha256(path.read_bytes()).hexdigest(), SCHEMA, MAPPING)
        wanted = NewDeployment(MODEL, version, "d", Wish())
        deployment = Deployment("id", wanted, recipe, Wish(), Progress(), 1, NOON, NOON)
        await packages.ensure(package_of(deployment, runner_digest=packages.runner_digest(), threads_default=1))


@asynccontextmanager
async def rehearsing_triton(folder: Path) -> AsyncIterator[Part]:
    """A Triton with both versions loaded."""
    part = triton_in(folder)
    await install(folder)
    process = await Process.start(part, clock=SystemClock())
    loader = loader_of(part)
    try:
        await process.wait_ready()
        for version in (OLD, NEW):
            await loader.load(backend_model_name(MODEL, version))
        yield part
    finally:
        await loader.close()
        await process.stop()


def rehearsal(address: str, *, percent: int = 0, shadow_address: str = "", **model: Any) -> serving_pb2.ServedModel:
    """The model as the router hands it over: the old version answers, the new one gets copies. `shadow_address`: where
    the new one runs, if elsewhere."""
    versions = []
    for version, at in ((OLD, address), (NEW, shadow_address or address)):
        served = served_version(version, schema=SCHEMA, mapping=MAPPING, http_address=at)
        served.backends[0].server_model_name = backend_model_name(MODEL, version)
        served.backends[0].backend_id = at
        versions.append(served)
    shadows = [serving_pb2.ShadowTarget(version=NEW, percent=percent)] if percent else []
    return serving_pb2.ServedModel(model_name=MODEL, default_version=OLD, versions=versions, shadows=shadows, **model)


def question(draw: Random, fault: Fault = Fault.NONE) -> tuple[prediction_pb2.PredictRequest, str]:
    """A request of one row, and what the old version answers to it."""
    value = draw.choice([draw.uniform(0.0, 0.45), draw.uniform(0.55, 1.0)])
    features = {
        "value": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=[value])),
        "fault": instance_pb2.Feature(int64_value=int(fault)),
    }
    request = prediction_pb2.PredictRequest(model_name=MODEL, instances=[instance_pb2.Instance(features=features)])
    return request, CLASSES[value > 0.5]
