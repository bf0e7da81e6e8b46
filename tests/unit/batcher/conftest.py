"""An engine over two servers that fake what is told them, in virtual time."""

from collections.abc import AsyncIterator

import pytest

from services.batcher.engines.engine import Engine
from tests.support.batcher_engine_fakes import FakeServer, Fleet
from tests.unit.batcher.engine_driving import new_engine


@pytest.fixture
def fleet() -> Fleet:
    """The servers, by address."""
    return Fleet("a:1", "b:1")


@pytest.fixture
def server(fleet: Fleet) -> FakeServer:
    """The one that runs a version that names no other."""
    return fleet.servers["a:1"]


@pytest.fixture
async def engine(fleet: Fleet) -> AsyncIterator[Engine]:
    """Started; whatever happened, it holds nothing in the end."""
    made = new_engine(fleet)
    await made.start()
    yield made
    await made.stop(0)
    assert made.bytes_held == 0
