"""How long from the call to deploy until a version answers: `python -m benchmarks.load_time [--megabytes 500]`.

A mesh of its own registers and deploys digits, small, and a model of the size asked for, large, which is
built here: products of matrices of random numbers. Deployed once while everything is new, and then again after the
deployment was removed, when its artifact is at hand.
"""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import grpc
import numpy as np
import onnx
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc
from infermesh.registry.v1 import registry_service_pb2, registry_service_pb2_grpc
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from benchmarks.mesh import bench_mesh
from benchmarks.report import new_table
from services.common.clock import SystemClock
from services.common.grpc.channel import open_channel
from services.supervisor.settings import ROOT

CLOCK = SystemClock()
VERSION, DEPLOYMENT = "v1.0.0", "main"
DIGITS = ROOT / ".build" / "digits" / "digits-v1.0.0.onnx"
WIDTH = 4096
_WAIT_S = 280.0
_REGISTER_S = 120.0
_LOOK_EVERY_S = 0.02
_BARS_S = {"small": 3.0, "large": 30.0}


@dataclass(frozen=True, slots=True)
class Deployed:
    """One deployment."""

    name: str
    megabytes: float
    register_s: float
    """Until the registry has it; 0: it had it."""
    ready_s: float
    """From the call until it is active."""
    load_s: float
    """Of it, packaging, the load itself and the trial prediction."""


def build(path: Path, megabytes: int) -> None:
    """An ONNX file of that size: square matrices between 64 inputs and 10 outputs."""
    chance = np.random.default_rng(7)
    count = max(1, ceil(megabytes * 1e6 / (WIDTH * WIDTH * 4)))
    sizes = [(64, WIDTH), *[(WIDTH, WIDTH)] * count, (WIDTH, 10)]
    weights = [
        numpy_helper.from_array((chance.standard_normal(size) / size[0] ** 0.5).astype(np.float32), f"w{number}")
        for number, size in enumerate(sizes)
    ]
    names = ["X", *(f"h{number}" for number in range(1, len(sizes))), "scores"]
    nodes = [
        helper.make_node("MatMul", [names[number], f"w{number}"], [names[number + 1]]) for number in range(len(sizes))
    ]
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", 64])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 10])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


async def deploy(name: str, path: Path, channels: Sequence[grpc.aio.Channel], *, register: bool) -> Deployed:
    """Registers, where asked to, and deploys; returns once it is active. Raises RuntimeError where it fails."""
    registry = registry_service_pb2_grpc.RegistryServiceStub(channels[0])
    deployer = deployer_service_pb2_grpc.DeployerServiceStub(channels[1])
    began_s = CLOCK.monotonic()
    if register:
        await registry.CreateModel(
            registry_service_pb2.CreateModelRequest(name=name, version=VERSION, artifact_uri=path.as_uri()),
            timeout=_REGISTER_S,
        )
    called_s = CLOCK.monotonic()
    await deployer.CreateDeployment(
        deployer_service_pb2.CreateDeploymentRequest(model_name=name, version=VERSION, deployment_name=DEPLOYMENT)
    )
    found = await deployer.WaitDeployment(
        deployer_service_pb2.WaitDeploymentRequest(model_name=name, deployment_name=DEPLOYMENT, timeout_s=_WAIT_S)
    )
    ready_s = CLOCK.monotonic() - called_s
    if found.status != "active":
        raise RuntimeError(f"{name} is {found.status}: {found.error_message}")
    registered_s = called_s - began_s if register else 0.0
    size_mb = (await asyncio.to_thread(path.stat)).st_size / 1e6
    return Deployed(name, size_mb, registered_s, ready_s, found.load_time_ms / 1000)


async def remove(name: str, channel: grpc.aio.Channel) -> None:
    """Removes the deployment and waits until it is gone."""
    deployer = deployer_service_pb2_grpc.DeployerServiceStub(channel)
    await deployer.DeleteDeployment(
        deployer_service_pb2.DeleteDeploymentRequest(model_name=name, deployment_name=DEPLOYMENT)
    )
    request = deployer_service_pb2.ListDeploymentsRequest(model_name=name)
    while (await deployer.ListDeployments(request)).deployments:  # noqa: ASYNC110 - the state of another process
        await asyncio.sleep(_LOOK_EVERY_S)


def report(made: Sequence[tuple[str, Deployed]]) -> int:
    """Prints the table; 1 where a bar is missed by the first deployment of a model."""
    table = new_table(
        "From the call until it answers",
        "model",
        "MB",
        "when",
        "register s",
        "ready s",
        "bar s",
        "load s",
        text=("model", "when"),
    )
    missed = False
    for when, one in made:
        bar_s = _BARS_S[one.name]
        missed = missed or one.ready_s > bar_s
        registered = f"{one.register_s:.2f}" if one.register_s else "-"
        table.add_row(
            one.name, f"{one.megabytes:,.1f}", when, registered, f"{one.ready_s:.2f}", f"{bar_s:g}", f"{one.load_s:.2f}"
        )
    Console().print(table)
    return 1 if missed else 0


async def main() -> int:
    """The exit status: 1 where it took longer than it may."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--megabytes", type=int, default=500, help="of the large model")
    options = parser.parse_args()
    made = []
    with tempfile.TemporaryDirectory(prefix="infermesh-bench-") as folder:
        large = Path(folder) / "large.onnx"
        print(f"Building a model of {options.megabytes} MB")
        await asyncio.to_thread(build, large, options.megabytes)
        print("Starting a mesh of its own")
        async with (
            bench_mesh(Path(folder), clock=CLOCK) as mesh,
            open_channel(f"127.0.0.1:{mesh.ports['registry']}") as registry,
            open_channel(f"127.0.0.1:{mesh.ports['deployer']}") as deployer,
        ):
            for name, path in (("small", DIGITS), ("large", large)):
                first = await deploy(name, path, (registry, deployer), register=True)
                await remove(name, deployer)
                again = await deploy(name, path, (registry, deployer), register=False)
                made += [("first", first), ("again", again)]
    return report(made)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
