"""The services over the real PostgreSQL."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.integration.access.mesh import Mesh, running


@pytest.fixture
async def mesh(database_url: str, tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running(database_url, tmp_path) as started:
        yield started
