"""A real Triton over an empty model repository."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.parts.triton import triton_part
from services.supervisor.ports import free_ports
from services.supervisor.process import Process
from services.supervisor.settings import ROOT
from tests.integration.deployer.driving import Triton


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """Triton with its repository in `tmp_path / "repository"`, not started."""
    http_port, grpc_port, metrics_port = free_ports(3)
    return triton_part(
        http_port=http_port,
        grpc_port=grpc_port,
        metrics_port=metrics_port,
        repository=tmp_path / "repository",
        serving_python=ROOT / ".venv-serving" / "bin" / "python",
        work_dir=tmp_path,
        log_path=tmp_path / "triton.log",
    )


@pytest.fixture
async def triton(part: Part) -> AsyncIterator[Triton]:
    """That Triton, started; stopped at the end."""
    server = Triton(part, await Process.start(part, clock=SystemClock()))
    await server.process.wait_ready()
    yield server
    await server.process.stop()
