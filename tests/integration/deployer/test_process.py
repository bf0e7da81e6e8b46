"""`python -m services.deployer` over a real PostgreSQL, with no neighbour up: it serves, and says who is missing."""

import asyncio
import os
import signal
from pathlib import Path

import httpx
import pytest
from infermesh.deployer.v1 import deployer_service_pb2, deployer_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.supervisor.parts.service import service_part
from services.supervisor.ports import free_ports
from tests.support.parts import running


async def test_it_starts_answers_and_stops_without_its_neighbours(database_url: str, tmp_path: Path) -> None:
    port, metrics_port, absent = free_ports(3)
    nobody = f"127.0.0.1:{absent}"
    part = service_part(
        "deployer",
        ports={"deployer": port, "deployer_metrics": metrics_port},
        settings={
            "port": port,
            "metrics_port": metrics_port,
            "database_url": database_url,
            "data_dir": tmp_path / "deployer",
            "model_repository": tmp_path / "repository",
            "triton_http_address": nobody,
            "triton_grpc_address": nobody,
            "registry_address": nobody,
            "router_address": nobody,
        },
        work_dir=tmp_path,
        log_path=tmp_path / "deployer.log",
    )
    async with running(part) as process:
        async with open_channel(f"127.0.0.1:{port}") as channel:
            calls = deployer_service_pb2_grpc.DeployerServiceStub(channel)
            servers = await calls.ListModelServers(deployer_service_pb2.ListModelServersRequest())
            assert [(one.server_id, one.ready) for one in servers.model_servers] == [("triton-0", False)]
            with pytest.raises(MeshError, match=nobody) as refused:
                await calls.CreateDeployment(
                    deployer_service_pb2.CreateDeploymentRequest(
                        model_name="digits", version="v1.0.0", deployment_name="main"
                    )
                )
            assert refused.value.reason is Reason.DEPENDENCY_UNAVAILABLE
        async with httpx.AsyncClient() as client:
            shown = (await client.get(f"http://127.0.0.1:{metrics_port}/metrics")).text
        assert (
            'grpc_server_handled_total{code="OK",method="/infermesh.deployer.v1.DeployerService/ListModelServers"}'
            in shown
        )
        os.kill(process.pid, signal.SIGTERM)
        async with asyncio.timeout(6):
            assert await process.wait() == 0
