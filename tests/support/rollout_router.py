"""Routers as far as rollouts go, over stores in memory, a monitor that counts, and lines that may be cut."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry

from services.common.clock import Clock
from services.router.adapters.prometheus_rollouts import RolloutCollector
from services.router.domain.evidence import Evidence, VersionEvidence
from services.router.domain.rollouts import RolloutEvent, RolloutKind
from services.router.engines.batchers import Batchers
from services.router.engines.canaries import Canaries
from services.router.engines.canary_driver import CanaryDriver
from services.router.engines.canary_saving import CanarySaving
from services.router.engines.canary_starts import CanaryStarts
from services.router.engines.changing import Changing, TrafficOptions
from services.router.engines.drivers import Drivers
from services.router.engines.events import EventReporter
from services.router.engines.follower import Follower
from services.router.engines.leadership import Leadership
from services.router.engines.publisher import Publisher, PublisherOptions
from services.router.engines.rollouts import Rollouts
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Traffic
from tests.support.rollout_fakes import MemoryEventStore, MemoryLeases, MemoryRolloutStore, gone
from tests.support.router_fakes import (
    FakeDeployer,
    FakeGateways,
    MemoryRuleStore,
    MemoryTableStore,
    SilentBoard,
)


class Line:
    """A router's own way to a store: every call takes `delay_s` to get there, and fails while `cut`."""

    def __init__(self, target: object) -> None:
        self._target = target
        self.cut = False
        self.delay_s = 0.0

    def __getattr__(self, name: str) -> Any:
        """The method of that name, over the line."""
        method = getattr(self._target, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if self.cut:
                raise gone("the database")
            return await method(*arguments, **named)

        return call


class CountingMonitor:
    """An `EvidenceSource` and an `EventSink` that counts what versions do, second by second: see `count`."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._counted: list[tuple[datetime, Mapping[str, tuple[int, int]]]] = []
        self._dropped: list[tuple[datetime, int]] = []
        self.taken: list[RolloutEvent] = []
        self.away = False

    def count(self, seen: Mapping[str, tuple[int, int]], *, dropped: int = 0) -> None:
        """In the second that ends now each version took that many requests, of which so many failed."""
        self._counted.append((self._clock.now(), seen))
        self._dropped.append((self._clock.now(), dropped))

    async def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
        """Every 2 s."""
        while True:
            if self.away:
                raise gone("the monitor")
            yield self._since(start, versions)
            await asyncio.sleep(2.0)

    async def report(self, events: Sequence[RolloutEvent]) -> None:
        """Takes each once."""
        if self.away:
            raise gone("the monitor")
        known = {event.event_id for event in self.taken}
        self.taken += [event for event in events if event.event_id not in known]

    def _since(self, start: datetime, versions: Sequence[str]) -> Evidence:
        seen = [counts for moment, counts in self._counted if moment > start]
        return Evidence(
            window_start=start,
            window_end=self._clock.now().replace(microsecond=0),
            versions={
                version: VersionEvidence(
                    version,
                    requests=sum(counts.get(version, (0, 0))[0] for counts in seen),
                    faults=sum(counts.get(version, (0, 0))[1] for counts in seen),
                )
                for version in versions
            },
            dropped=sum(dropped for moment, dropped in self._dropped if moment > start),
        )


@dataclass
class World:
    """What routers share."""

    clock: Clock
    rule_store: MemoryRuleStore = field(init=False)
    leases: MemoryLeases = field(init=False)
    events: MemoryEventStore = field(init=False)
    rollout_store: MemoryRolloutStore = field(init=False)
    monitor: CountingMonitor = field(init=False)
    deployer: FakeDeployer = field(init=False)

    def __post_init__(self) -> None:
        """All empty."""
        self.rule_store = MemoryRuleStore(self.clock)
        self.leases = MemoryLeases(self.clock)
        self.events = MemoryEventStore()
        self.rollout_store = MemoryRolloutStore(self.rule_store, self.leases, self.events)
        self.monitor = CountingMonitor(self.clock)
        self.deployer = FakeDeployer()


class RolloutRouter:
    """One router; `lines` are its ways to the stores."""

    def __init__(self, world: World, name: str = "router-0") -> None:
        self.lines = {
            store: Line(getattr(world, store)) for store in ("rule_store", "leases", "events", "rollout_store")
        }
        clock, lines = world.clock, self.lines
        rule_store: Any = lines["rule_store"]
        leases: Any = lines["leases"]
        events: Any = lines["events"]
        rollout_store: Any = lines["rollout_store"]
        self.gateways = FakeGateways()
        self.rules = RuleBook(store=rule_store, period_s=10.0)
        batchers = Batchers(clock=clock)
        self.publisher = Publisher(
            rules=self.rules,
            batchers=batchers,
            gateways=self.gateways,
            store=MemoryTableStore(),
            board=SilentBoard(),
            clock=clock,
            options=PublisherOptions(first_batcher_s=0.0),
        )
        self.rules.on_change(self.publisher.touch)
        options = TrafficOptions()
        self.traffic = Traffic(
            store=rule_store,
            rules=self.rules,
            publisher=self.publisher,
            batchers=batchers,
            gateways=self.gateways,
            options=options,
            rollouts=rollout_store,
        )
        self.leadership = Leadership(leases=leases, holder=name, clock=clock)
        self.reporter = EventReporter(store=events, sink=world.monitor, leadership=self.leadership, clock=clock)
        self.metrics = CollectorRegistry()
        board = RolloutCollector(self.metrics, rules=lambda: self.rules.rules, running=lambda: self.rollouts.running)
        self.rollouts = Rollouts(
            store=rollout_store, rules=self.rules, leadership=self.leadership, reporter=self.reporter, board=board
        )
        saving = CanarySaving(
            rollouts=self.rollouts,
            rules=self.rules,
            publisher=self.publisher,
            options=options,
            clock=clock,
        )
        starts = CanaryStarts(
            saving=saving,
            rollouts=self.rollouts,
            rules=self.rules,
            changing=Changing(store=rule_store, rules=self.rules, publisher=self.publisher, options=options),
            publisher=self.publisher,
            traffic=self.traffic,
            clock=clock,
        )
        self.canaries = Canaries(starts=starts, rollouts=self.rollouts, rules=self.rules, saving=saving, clock=clock)
        driver = CanaryDriver(
            saving=saving,
            rollouts=self.rollouts,
            leadership=self.leadership,
            publisher=self.publisher,
            source=world.monitor,
            clock=clock,
        )
        self._drivers = Drivers(
            rollouts=self.rollouts,
            leadership=self.leadership,
            kind=RolloutKind.CANARY,
            drive=driver.drive,
            clock=clock,
        )
        self._follower = Follower(source=world.deployer, publisher=self.publisher, board=SilentBoard(), clock=clock)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return bool(self._tasks)

    def set_lines(self, *, cut: bool = False, delay_s: float = 0.0) -> None:
        """How all its lines are from now on."""
        for line in self.lines.values():
            line.cut, line.delay_s = cut, delay_s

    async def start(self) -> None:
        """Reads what is kept and begins to act."""
        await self.rules.load()
        await self.rollouts.load()
        works = {
            "publisher": self.publisher.run,
            "saved table": self.publisher.save,
            "rules": self.rules.run,
            "deployer's word": self._follower.run,
            "leadership": self.leadership.run,
            "rollouts": self.rollouts.run,
            "events": self.reporter.run,
            "canaries": self._drivers.run,
        }
        await self.publisher.restore()
        self._tasks = [asyncio.create_task(work(), name=name) for name, work in works.items()]

    async def die(self) -> None:
        """At once, with nothing said to anybody."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        crashed = [one for one in done if isinstance(one, Exception)]
        assert not crashed, crashed

    async def stop(self) -> None:
        """In order: another may lead at once."""
        await self.die()
        await self.leadership.release()

    def shares(self, model_name: str) -> dict[str, int]:
        """The shares that its gateway routes by."""
        routes = self.gateways.table.models.get(model_name)
        found: dict[str, int] = {}
        for share in routes.shares if routes is not None else ():
            found[share.version] = found.get(share.version, 0) + share.percent
        return found


def seconds(number: float) -> timedelta:
    """A length of time."""
    return timedelta(seconds=number)
