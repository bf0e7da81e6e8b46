"""Aliases of the registry, as the router follows them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.engines.aliases import AliasFollower
from services.router.engines.batchers import Batchers
from services.router.engines.follower import Follower
from services.router.engines.publisher import Publisher, PublisherOptions
from services.router.engines.rules import RuleBook
from tests.support.router_fakes import (
    FakeDeployer,
    FakeGateways,
    MemoryRuleStore,
    MemoryTableStore,
    SilentBoard,
    ready,
    without,
)
from tests.support.waiting import eventually

OLD, NEW = "v1.0.0", "v1.1.0"
BOTH = ready("m", OLD, NEW)


class FakeRegistry:
    """An `AliasSource`. `away`: it answers nothing; `deaf`: it answers, but tells no changes."""

    def __init__(self) -> None:
        self.aliases: dict[str, dict[str, str]] = {}
        self.away = False
        self.deaf = False
        self.asked = 0
        self.streams: list[asyncio.Queue[str | None]] = []

    async def every(self) -> Mapping[str, Mapping[str, str]]:
        """As told."""
        self.asked += 1
        self._answer()
        return {name: dict(aliases) for name, aliases in self.aliases.items()}

    async def of(self, model_name: str) -> Mapping[str, str]:
        """As told, of one model."""
        self._answer()
        return dict(self.aliases.get(model_name, {}))

    async def changes(self) -> AsyncIterator[str]:
        """What `move` and `cut` say."""
        self._answer()
        if self.deaf:
            raise MeshError(Reason.QUOTA_EXCEEDED, "too many follow")
        stream: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams.append(stream)
        yield ""
        while (model := await stream.get()) is not None:
            yield model

    def move(self, model: str, aliases: dict[str, str]) -> None:
        """Changes a model's aliases, and tells who follows."""
        self.aliases[model] = aliases
        for stream in self.streams:
            stream.put_nowait(model)

    def cut(self) -> None:
        """Ends all streams."""
        for stream in self.streams:
            stream.put_nowait(None)
        self.streams = []

    def _answer(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the registry does not answer")


class Setting:
    """A router's publisher with what it follows."""

    def __init__(self, tables: MemoryTableStore, deployer: FakeDeployer, registry: FakeRegistry) -> None:
        clock, board = LoopClock(datetime(2026, 1, 15, tzinfo=UTC)), SilentBoard()
        self.batchers = Batchers(clock=clock)
        self.publisher = Publisher(
            rules=RuleBook(store=MemoryRuleStore(clock), period_s=10.0),
            batchers=self.batchers,
            gateways=FakeGateways(),
            store=tables,
            board=board,
            clock=clock,
            options=PublisherOptions(first_word_s=0.0, first_batcher_s=0.0),
        )
        self.works = (
            self.publisher.run(),
            self.publisher.save(),
            Follower(source=deployer, publisher=self.publisher, board=board, clock=clock).run(),
            AliasFollower(source=registry, publisher=self.publisher, clock=clock, period_s=0.01).run(),
        )

    @property
    def told(self) -> Mapping[str, str] | None:
        """What batchers know of the model's aliases."""
        model = self.batchers.table.models.get("m")
        return model.aliases if model is not None else None


@asynccontextmanager
async def router(tables: MemoryTableStore, deployer: FakeDeployer, registry: FakeRegistry) -> AsyncIterator[Setting]:
    """A router that runs."""
    setting = Setting(tables, deployer, registry)
    await setting.publisher.restore()
    tasks = [asyncio.get_running_loop().create_task(work) for work in setting.works]
    try:
        yield setting
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def told(running: Setting, aliases: Mapping[str, str]) -> None:
    """Waits until batchers know these."""
    await eventually(lambda: running.told == aliases)


async def test_batchers_are_told_aliases_whose_version_is_ready_and_keep_them_without_the_registry() -> None:
    tables, deployer, registry = MemoryTableStore(), FakeDeployer(), FakeRegistry()
    deployer.put(BOTH)
    registry.aliases = {"m": {"champion": OLD, "next": NEW, "past": "v0.1.0"}, "elsewhere": {"champion": OLD}}
    async with router(tables, deployer, registry) as running:
        await eventually(lambda: running.told == {"champion": OLD, "next": NEW})
        registry.move("m", {"champion": NEW})
        await eventually(lambda: running.told == {"champion": NEW})
        deployer.put(without(BOTH, NEW))
        await eventually(lambda: running.told == {})
        deployer.put(BOTH)
        await eventually(lambda: running.told == {"champion": NEW})
        registry.away = True
        registry.cut()
        asked = registry.asked
        await eventually(lambda: registry.asked > asked + 1)
        assert running.told == {"champion": NEW}
        await eventually(lambda: dict(tables.saved["m"].aliases) == {"champion": NEW})
    # A router that starts while the registry is away has them out of its last table.
    async with router(tables, deployer, registry) as again:
        await eventually(lambda: again.told == {"champion": NEW})


async def test_a_change_is_followed_without_reading_everything_again() -> None:
    tables, deployer, registry = MemoryTableStore(), FakeDeployer(), FakeRegistry()
    deployer.put(BOTH)
    async with router(tables, deployer, registry) as running:
        await eventually(lambda: bool(registry.streams))
        for version in (OLD, NEW, OLD):
            registry.move("m", {"champion": version})
            await told(running, {"champion": version})
        registry.move("m", {})
        await eventually(lambda: running.told == {})
        assert registry.asked == 1


async def test_what_changed_while_the_stream_was_broken_is_read_when_it_is_back() -> None:
    tables, deployer, registry = MemoryTableStore(), FakeDeployer(), FakeRegistry()
    deployer.put(BOTH)
    registry.aliases = {"m": {"champion": OLD}}
    async with router(tables, deployer, registry) as running:
        await eventually(lambda: running.told == {"champion": OLD})
        registry.aliases = {"m": {"champion": NEW}}
        registry.cut()
        await eventually(lambda: running.told == {"champion": NEW})


async def test_without_a_stream_aliases_are_read_again_and_again() -> None:
    tables, deployer, registry = MemoryTableStore(), FakeDeployer(), FakeRegistry()
    deployer.put(BOTH)
    registry.deaf = True
    registry.aliases = {"m": {"champion": OLD}}
    async with router(tables, deployer, registry) as running:
        await eventually(lambda: running.told == {"champion": OLD})
        registry.aliases = {"m": {"champion": NEW}}
        await eventually(lambda: running.told == {"champion": NEW})
