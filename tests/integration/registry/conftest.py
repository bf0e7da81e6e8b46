"""A registry over the real PostgreSQL and a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from services.registry.settings import RegistrySettings
from tests.support.registry_driving import Registry


@pytest.fixture
def settings(database_url: str, tmp_path: Path) -> RegistrySettings:
    return RegistrySettings(
        port=0, metrics_port=0, database_url=SecretStr(database_url), data_dir=tmp_path / "data", database_period_s=0.1
    )


@pytest.fixture
async def registry(settings: RegistrySettings) -> AsyncIterator[Registry]:
    running = Registry(settings)
    await running.start()
    yield running
    await running.stop()
