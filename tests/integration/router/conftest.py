"""A played deployer and a real database."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.router.driving import PlayedDeployer, Surroundings


@pytest.fixture
async def around(database_url: str) -> AsyncIterator[Surroundings]:
    """What a router needs; its deployer answers."""
    deployer = PlayedDeployer()
    await deployer.start()
    yield Surroundings(database_url, deployer)
    await deployer.stop()
