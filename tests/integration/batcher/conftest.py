"""A batcher over an engine that echoes, in a real Envoy, with a router and a monitor in the test's process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from services.supervisor.process import Process
from tests.support.batcher_faces_process import FakeMonitor, FakeRouter, batcher_part, full_table, served_model, serving
from tests.support.parts import running
from tests.support.waiting import eventually


@dataclass(frozen=True)
class Running:
    """A batcher that is ready."""

    address: str
    monitor: FakeMonitor
    router: FakeRouter
    process: Process


@asynccontextmanager
async def echoing(folder: Path) -> AsyncIterator[Running]:
    """A batcher that serves digits in two versions and has acknowledged that."""
    router, monitor = FakeRouter(full_table(served_model("v1.0.0", "v1.1.0"), revision=7)), FakeMonitor()
    async with serving(router=router, monitor=monitor) as neighbours:
        part = batcher_part(folder, router=neighbours, monitor=neighbours)
        async with running(part) as process:
            await eventually(lambda: len(router.heard) == 2, what="the batcher acknowledged its table")
            yield Running(f"127.0.0.1:{part.ports['batcher']}", monitor, router, process)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def batcher(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    """One for all tests of a module; they run on the module's loop."""
    async with echoing(tmp_path_factory.mktemp("batcher")) as running_batcher:
        yield running_batcher


@pytest_asyncio.fixture(loop_scope="module")
async def fresh_batcher(tmp_path: Path) -> AsyncIterator[Running]:
    """One of the test's own, whose counts begin at nothing."""
    async with echoing(tmp_path) as running_batcher:
        yield running_batcher
