"""Routers as processes of their own, which tests may kill, stop for a while and let go on."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from infermesh.router.v1 import router_service_pb2_grpc

from services.common.errors import MeshError
from services.common.grpc.channel import open_channel
from tests.integration.router.driving import Surroundings
from tests.support.parts import free_port
from tests.support.standing_still import stand_still
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[3]


@dataclass
class RouterProcess:
    """One, and how it is spoken to."""

    process: "subprocess.Popen[bytes]"
    channel: grpc.aio.Channel
    api: Any

    def kill(self) -> None:
        """At once."""
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        """In order."""
        self.process.terminate()
        self.process.wait(timeout=20.0)

    def stop(self) -> None:
        """It stands still, and does not know."""
        stand_still(self.process.pid)

    def go_on(self) -> None:
        """As if nothing had been."""
        self.process.send_signal(signal.SIGCONT)


@asynccontextmanager
async def router_process(around: Surroundings, folder: Path, *, lease_s: float) -> AsyncIterator[RouterProcess]:
    """A router, ready."""
    port = free_port()
    settings = {
        "PORT": port,
        "METRICS_PORT": free_port(),
        "DATABASE_URL": around.database_url,
        "DEPLOYER_ADDRESS": f"127.0.0.1:{around.deployer.port}",
        "REGISTRY_ADDRESS": f"127.0.0.1:{around.others_port}",
        "BATCH_ADDRESS": f"127.0.0.1:{around.others_port}",
        "MONITOR_ADDRESS": f"127.0.0.1:{around.others_port}",
        "BATCHER_ADDRESS": f"127.0.0.1:{around.batcher_port}",
        "FIRST_BATCHER_S": 0.05,
        "LEASE_S": lease_s,
        "AUTHENTICATION": "false",
    }
    environment = os.environ | {f"INFERMESH_ROUTER_{name}": str(value) for name, value in settings.items()}
    with (folder / f"router-{port}.log").open("wb") as log:
        process = _run(environment, log)
        try:
            async with open_channel(f"127.0.0.1:{port}") as channel:
                await eventually(lambda: _serves(channel, process), what="the router serves", timeout_s=40.0)
                yield RouterProcess(process, channel, router_service_pb2_grpc.RouterServiceStub(channel))
        finally:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()


def _run(environment: Mapping[str, str], log: BinaryIO) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "services.router"], cwd=ROOT, env=environment, stdout=log, stderr=log
    )


async def _serves(channel: grpc.aio.Channel, process: "subprocess.Popen[bytes]") -> bool:
    assert process.poll() is None, "the router has died"
    health: Any = health_pb2_grpc.HealthStub(channel)
    request = health_pb2.HealthCheckRequest(service="infermesh.router.v1.RouterService")
    try:
        answer = await health.Check(request, timeout=2.0)
    except MeshError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)
