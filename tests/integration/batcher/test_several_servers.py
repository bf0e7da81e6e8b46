"""The engine in front of two real Tritons, under load while one is removed, added, killed and stopped: no prediction
fails, and whoever is back takes its share again."""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from services.batcher.adapters.backend_clients import open_client
from services.batcher.domain.batch_run import BatchRun
from services.batcher.domain.serving import Backend, Batching, ServedModel, ServedVersion, ServingTable
from services.batcher.engines.engine import Engine
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.placement import PlaceView
from services.deployer.adapters.triton import TritonServer
from services.supervisor.process import Process
from tests.integration.batcher.test_triton import CLOCK, DIGITS_SCHEMA, LABELS, ROWS, ask, integers
from tests.integration.deployer.driving import DIGITS, Triton
from tests.integration.deployer.test_runner import NAME, put
from tests.support.parts import loader_of, triton_in
from tests.support.standing_still import standing_still
from tests.support.waiting import eventually

CALLERS = 12
SLOW_START_S = 1.0
pytestmark = pytest.mark.timeout(120)


class Member:
    """One Triton with the digits loaded."""

    def __init__(self, name: str, triton: Triton, loader: TritonServer) -> None:
        self.name = name
        self.triton = triton
        self.loader = loader

    @property
    def backend(self) -> Backend:
        return Backend(self.name, f"127.0.0.1:{self.triton.part.ports['triton_http']}", "", NAME)


@asynccontextmanager
async def member(name: str, folder: Path) -> AsyncIterator[Member]:
    part = triton_in(folder)
    await put(folder, (DIGITS / "digits-v1.0.0.onnx", DIGITS_SCHEMA))
    triton = Triton(part, await Process.start(part, clock=CLOCK))
    loader = loader_of(part, name)
    try:
        await triton.process.wait_ready()
        await loader.load(NAME)
        yield Member(name, triton, loader)
    finally:
        await loader.close()
        await triton.process.stop()


class Answered:
    """Batches answered, by backend."""

    def __init__(self) -> None:
        self.by_backend: Counter[str] = Counter()

    def batch_answered(self, model_name: str, version: str, run: BatchRun) -> None:
        self.by_backend[run.backend_id] += 1

    def batch_failed(self, model_name: str, version: str, run: BatchRun, *, kind: str) -> None:
        """It is tried again; what callers see is what counts here."""


class Load:
    """Callers that ask one after another, and check what they get."""

    def __init__(self, engine: Engine, answered: Answered) -> None:
        self.engine = engine
        self.by_backend = answered.by_backend
        self.right = 0
        self.stop = False

    def serve(self, *members: Member) -> None:
        """What is served from now on."""
        self.version = ServedVersion(
            "tried",
            "v1.0.0",
            "d",
            DIGITS_SCHEMA,
            batching=Batching(max_batch_size=4),
            backends=tuple(one.backend for one in members),
        )
        self.engine.serve(ServingTable(1, {"tried": ServedModel("tried", "v1.0.0", {"v1.0.0": self.version})}))

    def views(self) -> list[PlaceView]:
        """How the backends are doing."""
        return self.engine.placements()["tried", "v1.0.0"].views(CLOCK.monotonic())

    async def call(self, at: int) -> None:
        while not self.stop:
            result = await self.engine.infer(ask(self.version, 1, ROWS[at], within_s=30))
            assert integers(result.outputs[0].data) == [LABELS[at]]
            self.right += 1

    async def more(self, requests: int) -> Counter[str]:
        """Waits for that many more answers; the batches that they came in, by backend."""
        before, target = Counter(self.by_backend), self.right + requests
        await eventually(lambda: self.right >= target, timeout_s=40, what="callers are answered")
        return self.by_backend - before

    async def shared(self) -> None:
        """Waits until each backend has an equal share, give or take."""

        async def fair() -> bool:
            counts = await self.more(300)
            assert min(counts[one.backend_id] for one in self.version.backends) > 0.35 * counts.total(), counts
            return True

        await eventually(fair, timeout_s=40, what="both have their share")


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[tuple[Member, Member]]:
    async with AsyncExitStack() as stack:
        folders = [tmp_path / "0", tmp_path / "1"]
        for folder in folders:
            folder.mkdir()
        first = await stack.enter_async_context(member("triton-0", folders[0]))
        second = await stack.enter_async_context(member("triton-1", folders[1]))
        yield first, second


@asynccontextmanager
async def under_load(*members: Member) -> AsyncIterator[Load]:
    """Callers at work; at the end nobody was told of a failure."""
    answered = Answered()
    engine = Engine(
        clock=CLOCK, open_client=open_client, options=EngineOptions(slow_start_s=SLOW_START_S), observer=answered
    )
    await engine.start()
    load = Load(engine, answered)
    load.serve(*members)
    try:
        async with asyncio.TaskGroup() as group:
            for at in range(CALLERS):
                group.create_task(load.call(at % len(ROWS)))
            yield load
            load.stop = True
        assert (engine.counters.failed, engine.counters.expired, engine.counters.refused) == (0, 0, 0)
    finally:
        await engine.stop(1)


async def test_a_server_is_removed_and_added_and_nobody_notices(pair: tuple[Member, Member]) -> None:
    first, second = pair
    async with under_load(first, second) as load:
        await load.shared()
        load.serve(first)
        await eventually(lambda: len(load.views()) == 1)
        await load.more(50)  # What was on its way there has come back by then.
        assert set(await load.more(300)) == {"triton-0"}
        await second.triton.process.stop()
        await load.more(100)
        await second.triton.start()
        await second.loader.load(NAME)
        load.serve(first, second)
        await load.shared()


async def test_a_server_is_killed_and_started_again_and_nobody_notices(pair: tuple[Member, Member]) -> None:
    first, second = pair
    async with under_load(first, second) as load:
        await load.shared()
        await second.triton.kill()
        await load.more(50)
        assert set(await load.more(300)) == {"triton-0"}
        down = {view.backend_id: view.why_not for view in load.views()}
        assert re.fullmatch(r"its server, 127\.0\.0\.1:\d+, does not answer, for \d+\.\d s now", down["triton-1"])
        await second.triton.start()
        await second.loader.load(NAME)
        await load.shared()


async def test_a_server_stands_still_and_goes_on_and_nobody_notices(pair: tuple[Member, Member]) -> None:
    first, second = pair
    async with under_load(first, second) as load:
        await load.shared()
        with standing_still(second.triton.process.pid):

            def noticed() -> bool:
                states = {view.backend_id: view.state for view in load.views()}
                return states["triton-1"] == "down"

            await eventually(noticed, timeout_s=20, what="the silence is noticed")
            await load.more(200)
        await load.shared()
