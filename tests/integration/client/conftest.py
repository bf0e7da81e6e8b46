"""A scripted mesh, listening on a port of loopback."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2_grpc
from infermesh.client import Client
from infermesh.deployer.v1 import deployer_service_pb2_grpc
from infermesh.monitor.v1 import monitor_service_pb2_grpc
from infermesh.prediction.v1 import prediction_service_pb2_grpc
from infermesh.registry.v1 import artifact_service_pb2_grpc, registry_service_pb2_grpc
from infermesh.router.v1 import router_service_pb2_grpc

from tests.integration.client.scripted import Scripted


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    """The mesh, listening."""
    made = Scripted()
    with ThreadPoolExecutor(8) as pool:
        server = grpc.server(pool)
        registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(made.registry, server)
        artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(made.artifacts, server)
        deployer_service_pb2_grpc.add_DeployerServiceServicer_to_server(made.deployer, server)
        router_service_pb2_grpc.add_RouterServiceServicer_to_server(made.router, server)
        monitor_service_pb2_grpc.add_MonitorServiceServicer_to_server(made.monitor, server)
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(made.batcher, server)
        health_pb2_grpc.add_HealthServicer_to_server(made.health, server)
        made.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield made
        server.stop(grace=None).wait()


@pytest.fixture
def client(scripted: Scripted) -> Iterator[Client]:
    """A client of it."""
    with Client(scripted.address, timeout_s=30) as made:
        yield made


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A file to register."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"not looked into here")
    return path
