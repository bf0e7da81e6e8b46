"""A gateway and batchers that check, step by step, what a router may tell them."""

import asyncio
from collections.abc import Callable, Mapping

from services.router.domain.routing import RoutingTable
from services.router.domain.table import TableStep
from services.router.engines.batchers import Batchers
from tests.support.router_fakes import FakeGateways


class CheckedGateways(FakeGateways):
    """Fails where it is sent to a version that a batcher does not know which had the time to learn of it."""

    def __init__(self, batchers: Mapping[str, "CheckingBatcher"]) -> None:
        super().__init__()
        self._batchers = batchers

    async def publish(self, table: RoutingTable) -> None:
        """As the port says."""
        before = self.table
        assert table.revision > before.revision
        for name, routes in table.models.items():
            new = set(routes.versions) - set(before.models[name].versions if name in before.models else ())
            for batcher in self._batchers.values():
                if batcher.quick:
                    assert new <= set(batcher.known.get(name, ())), (name, new, batcher.known)
        await super().publish(table)
        if self.acknowledged is not table:
            # It was waited for long enough: what it still routes by binds nobody any more.
            self.acknowledged = None


class CheckingBatcher:
    """Takes what it is sent after `delay_s` seconds, or refuses it, and remembers what it knows. Fails where it is to
    forget a version that `routed` names of the model, or is told of one that it does not know."""

    def __init__(
        self, batchers: Batchers, name: str, delay_s: float, *, refuses: bool, routed: Callable[[str], set[str]]
    ) -> None:
        self._batchers = batchers
        self._routed = routed
        self._delay_s = delay_s
        self._refuses = refuses
        self.revision = 0
        self.known: dict[str, tuple[str, ...]] = {}
        self.shadows: dict[str, tuple[str, ...]] = {}
        self.labels: dict[str, bool] = {}
        self.aliases: dict[str, Mapping[str, str]] = {}
        self.session = self._batchers.connect(name, f"{name}:1")
        self.task = asyncio.get_running_loop().create_task(self._run())

    @property
    def quick(self) -> bool:
        """Whether it takes what it is sent well within the time that a publication waits."""
        return self._delay_s < 1.0 and not self._refuses

    async def _run(self) -> None:
        async for step in self._batchers.steps(self.session):
            assert step.revision > self.revision
            assert step.full is (self.revision == 0)
            await asyncio.sleep(self._delay_s)
            if self._refuses:
                self._batchers.answer(self.session, acknowledged_revision=0, error_message="no")
                self.revision = self.session.sent.revision
                continue
            self._take(step)
            self._batchers.answer(self.session, acknowledged_revision=step.revision, error_message="")

    def _take(self, step: TableStep) -> None:
        self.revision = step.revision
        before = dict(self.known)
        for model in step.models:
            self.known[model.ready.model_name] = model.ready.version_names
            names = model.ready.version_names
            assert {model.default_version, *model.aliases.values()} <= {*names}
            assert {shadow.version for shadow in model.shadows} <= {*names}
            self.shadows[model.ready.model_name] = tuple(shadow.version for shadow in model.shadows)
            self.labels[model.ready.model_name] = model.log_labels
            self.aliases[model.ready.model_name] = model.aliases
        for name in step.removed:
            for known in (self.known, self.shadows, self.labels, self.aliases):
                del known[name]
        for name, versions_before in before.items():
            forgotten = set(versions_before) - set(self.known.get(name, ()))
            # A slow one may hear of a removal when the version is long back.
            assert not self.quick or not forgotten & self._routed(name), (name, forgotten)
