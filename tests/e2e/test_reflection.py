"""What the gateway says about itself: reflection lists and describes all public services; health checking answers."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from infermesh.client.credentials import Credentials

from tests.e2e.driving import ROOT, TIMEOUT_S
from tests.support.mesh import Mesh

PUBLIC = {
    "infermesh.prediction.v1.PredictionService",
    "infermesh.registry.v1.RegistryService",
    "infermesh.deployer.v1.DeployerService",
    "infermesh.router.v1.RouterService",
    "infermesh.batch.v1.BatchService",
    "infermesh.monitor.v1.MonitorService",
    "inference.GRPCInferenceService",
    "grpc.health.v1.Health",
}


@pytest.fixture
def channel(mesh: Mesh) -> Iterator[grpc.Channel]:
    with Credentials(mesh.key).open_channel(mesh.gateway, tls=False, options=()) as opened:
        yield opened


def test_reflection_lists_every_public_service(channel: grpc.Channel) -> None:
    listed = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    assert listed >= PUBLIC, PUBLIC - listed


def test_reflection_describes_every_public_service(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(database)
    for name in PUBLIC:
        service = pool.FindServiceByName(name)
        assert service.methods, name
        for method in service.methods:
            assert method.input_type.full_name
            assert method.output_type.full_name


def test_buf_curl_lists_and_calls(mesh: Mesh, tmp_path: Path) -> None:
    buf = Path(sys.executable).with_name("buf")
    key = f"authorization: Bearer {mesh.key}"
    curl = (buf, "curl", "--protocol", "grpc", "--http2-prior-knowledge", "--reflect-header", key)
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "BUF_CACHE_DIR": str(tmp_path)}
    listed = subprocess.run(
        [*curl, "--list-services", f"http://{mesh.gateway}"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert listed.returncode == 0, listed.stderr
    assert set(listed.stdout.split()) >= PUBLIC - {"grpc.health.v1.Health"}
    called = subprocess.run(
        [
            *(*curl, "-H", key, "-d", '{"model_name": "digits"}'),
            f"http://{mesh.gateway}/infermesh.registry.v1.RegistryService/GetModel",
        ],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    assert '"digits"' in called.stdout


def test_every_public_service_says_that_it_is_healthy(channel: grpc.Channel) -> None:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
        response_deserializer=health_pb2.HealthCheckResponse.FromString,
    )
    states = {
        name: check(health_pb2.HealthCheckRequest(service=name), timeout=TIMEOUT_S).status
        for name in PUBLIC - {"grpc.health.v1.Health"}
    }
    assert set(states.values()) == {health_pb2.HealthCheckResponse.SERVING}, states
