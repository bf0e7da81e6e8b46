"""Routers as far as rollouts go, A/B tests included."""

import asyncio
from typing import Any

from services.router.domain.rollouts import RolloutKind
from services.router.engines.ab_driver import AbTestDriver
from services.router.engines.ab_tests import AbTests
from services.router.engines.changing import TrafficOptions
from services.router.engines.drivers import Drivers
from tests.support.rollout_router import RolloutRouter, World


class AbTestRouter(RolloutRouter):
    """One that drives A/B tests too."""

    def __init__(self, world: World, name: str = "router-0") -> None:
        super().__init__(world, name)
        rule_store: Any = self.lines["rule_store"]
        self.ab_tests = AbTests(
            rollouts=self.rollouts,
            rules=self.rules,
            rule_store=rule_store,
            publisher=self.publisher,
            options=TrafficOptions(),
            clock=world.clock,
        )
        driver = AbTestDriver(
            tests=self.ab_tests,
            rollouts=self.rollouts,
            leadership=self.leadership,
            publisher=self.publisher,
            source=world.monitor,
            clock=world.clock,
        )
        self._ab_drivers = Drivers(
            rollouts=self.rollouts,
            leadership=self.leadership,
            kind=RolloutKind.AB_TEST,
            drive=driver.drive,
            clock=world.clock,
        )

    async def start(self) -> None:
        """Reads what is kept and begins to act."""
        await super().start()
        self._tasks.append(asyncio.create_task(self._ab_drivers.run(), name="A/B tests"))
