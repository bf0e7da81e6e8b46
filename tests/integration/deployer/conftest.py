"""A real Triton over an empty model repository."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.common.clock import SystemClock
from services.supervisor.parts.part import Part
from services.supervisor.process import Process
from tests.integration.deployer.driving import Triton
from tests.support.parts import triton_in


@pytest.fixture
def part(tmp_path: Path) -> Part:
    """Triton with its repository in `tmp_path / "repository"`, not started."""
    return triton_in(tmp_path)


@pytest.fixture
async def triton(part: Part) -> AsyncIterator[Triton]:
    """That Triton, started; stopped at the end."""
    server = Triton(part, await Process.start(part, clock=SystemClock()))
    await server.process.wait_ready()
    yield server
    await server.process.stop()
