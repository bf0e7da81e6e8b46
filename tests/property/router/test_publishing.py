"""The router against whatever may happen, in virtual time.

Versions come and go, rules change, their conditions and shadows too, aliases are moved, rollouts take steps, batchers
connect, are slow, refuse or die, gateways are slow or silent, the deployer and the database go away, the router is
killed. At all times gateways route only to versions that every batcher knows that took its table, and revisions only
grow. In the end, with everything mended, what holds is what was asked for.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from datetime import UTC, datetime
from typing import TypeVar

import looptime
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.conditions import ConditionWish, RouteCondition
from services.router.domain.merge import effective_shares
from services.router.domain.rules import NewChange, Split, with_weights
from services.router.domain.shadows import Shadow
from services.router.domain.view import TrafficView, split_in_force
from services.router.domain.wishes import SplitWish
from services.router.engines.batchers import Batchers
from services.router.engines.follower import Follower
from services.router.engines.publisher import Publisher, PublisherOptions
from services.router.engines.rules import RuleBook
from services.router.engines.traffic import Call, Traffic, TrafficOptions
from tests.support.router_checks import CheckedGateways, CheckingBatcher
from tests.support.router_fakes import (
    FakeDeployer,
    MemoryRuleStore,
    MemoryTableStore,
    SilentBoard,
    ready,
    without,
)

T = TypeVar("T")
MODELS = ("a", "b")
VERSIONS = ("v1.0.0", "v1.1.0", "v2.0.0")
ANSWER_DELAY_S = 0.01
models = st.sampled_from(MODELS)
versions = st.sampled_from(VERSIONS)
EXPECTED_REFUSALS = {
    Reason.VERSION_NOT_DEPLOYED,
    Reason.MODEL_NOT_SERVED,
    Reason.DEPENDENCY_UNAVAILABLE,
    Reason.NOTHING_TO_ROLL_BACK,
    Reason.TRAFFIC_RULE_NOT_FOUND,
    Reason.ROLLOUT_IN_PROGRESS,
    Reason.ETAG_MISMATCH,
}


class RouterMachine(RuleBasedStateMachine):
    """One router, up to three batchers, one gateway."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = looptime.new_event_loop()
        self.clock = LoopClock(datetime(2026, 1, 15, tzinfo=UTC))
        self.rule_store = MemoryRuleStore(self.clock, answer_delay_s=ANSWER_DELAY_S)
        self.table_store = MemoryTableStore()
        self.deployer = FakeDeployer()
        self.batchers: dict[str, CheckingBatcher] = {}
        self.gateways = CheckedGateways(self.batchers)
        self.aliases: dict[str, dict[str, str]] = {}
        self.revision = 0
        self.asked: dict[str, dict[str, int]] = {}
        self.beside: dict[str, tuple[tuple[RouteCondition, ...], tuple[Shadow, ...]]] = {}
        self.governed: dict[str, str] = {}
        self.run(self.start())

    # --- life of the router

    async def start(self) -> None:
        self.router = Batchers(clock=self.clock)
        self.book = book = RuleBook(store=self.rule_store, period_s=10.0)
        self.publisher = Publisher(
            rules=book,
            batchers=self.router,
            gateways=self.gateways,
            store=self.table_store,
            board=SilentBoard(),
            clock=self.clock,
            options=PublisherOptions(),
        )
        book.on_change(self.publisher.touch)
        self.traffic = Traffic(
            store=self.rule_store,
            rules=book,
            publisher=self.publisher,
            batchers=self.router,
            gateways=self.gateways,
            options=TrafficOptions(),
        )
        follower = Follower(source=self.deployer, publisher=self.publisher, board=SilentBoard(), clock=self.clock)
        await book.load()
        await self.publisher.restore()
        # Blocks are given out in order: what this router publishes has a revision of the newest one.
        self.first_revision = self.table_store.reserved
        works = (self.publisher.run(), self.publisher.save(), book.run(), follower.run())
        self.tasks = [self.loop.create_task(work) for work in works]

    async def stop(self) -> None:
        for batcher in list(self.batchers):
            await self.drop(batcher)
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def drop(self, name: str) -> None:
        batcher = self.batchers.pop(name)
        batcher.task.cancel()
        await asyncio.gather(batcher.task, return_exceptions=True)
        self.router.disconnect(batcher.session)

    def run(self, work: Coroutine[object, object, T]) -> T:
        return self.loop.run_until_complete(work)

    # --- what happens

    @rule(model=models, version=versions, port=st.sampled_from((1, 2)))
    def a_version_becomes_ready(self, model: str, version: str, port: int) -> None:
        known = self.deployer.models.get(model)
        names = {*(known.version_names if known else ()), version}
        self.deployer.put(ready(model, *sorted(names), port=port))

    @rule(model=models, version=versions)
    def a_version_goes(self, model: str, version: str) -> None:
        known = self.deployer.models.get(model)
        if known is not None:
            self.deployer.put(without(known, version))

    @rule(
        model=models,
        first=versions,
        second=versions,
        percent=st.integers(0, 100),
        sticky=st.booleans(),
    )
    def traffic_is_moved(self, model: str, first: str, second: str, percent: int, sticky: bool) -> None:
        weights = {first: 100} if first == second else {first: percent, second: 100 - percent}
        wish = SplitWish(weights, "sticky" if sticky else "random")
        try:
            view = self.run(self.traffic.update(Call(model), wish))
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS:
                raise
            return
        assert not self.governed.get(model)
        assert view.split == {version: weight for version, weight in weights.items() if weight}
        self.noted(model, view)

    def noted(self, model: str, view: TrafficView) -> None:
        """What was answered is what holds from now on."""
        self.asked[model] = dict(view.split)
        self.beside[model] = (view.route_conditions, view.shadows)
        self.governed[model] = view.rule.governing if view.rule is not None else ""

    @rule(
        model=models,
        conditional=st.lists(st.tuples(st.sampled_from(("eu", "us")), versions), max_size=2),
        shadowed=st.sets(versions, max_size=2),
    )
    def conditions_and_shadows_change(self, model: str, conditional: list[tuple[str, str]], shadowed: set[str]) -> None:
        wish = SplitWish(
            conditions=tuple(ConditionWish("region", (region,), "", version) for region, version in conditional),
            shadows=tuple(Shadow(version, 10) for version in sorted(shadowed)),
            clear=(*(() if conditional else ("conditions",)), *(() if shadowed else ("shadows",))),
        )
        try:
            view = self.run(self.traffic.update(Call(model), wish))
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS - {Reason.ROLLOUT_IN_PROGRESS}:
                raise
            return
        assert [one.version for one in view.route_conditions] == [version for _, version in conditional]
        # Batchers took the shadows before the caller was answered.
        state = self.publisher.states[model]
        for batcher in self.batchers.values():
            if batcher.quick and self.gateways.delay_s is not None and batcher.session.acknowledged_revision:
                assert batcher.shadows[model] == tuple(shadow.version for shadow in state.serving.shadows)
        before = self.governed.get(model, "")
        self.noted(model, view)
        assert self.governed[model] == before

    @precondition(lambda self: not self.rule_store.away and self.publisher.known)
    @rule(model=models, percent=st.integers(0, 100), ends=st.booleans())
    def a_rollout_takes_a_step(self, model: str, percent: int, ends: bool) -> None:
        """As rollouts do: a change of the rule by compare and set, handed to the rule book."""
        stored, state = self.run(self.rule_store.find(model)), self.publisher.states.get(model)
        if state is None:
            return
        before = split_in_force(stored, state)
        first, last = state.routes.versions[0], state.routes.versions[-1]
        weights = {first: 100} if first == last else {last: percent, first: 100 - percent}
        change = NewChange(
            model_name=model,
            deployment_name="",
            action="canary",
            actor="",
            reason="a stage",
            before=before,
            after=with_weights(before, weights),
            governing="" if ends else "canary-1",
            log_labels=not ends,
        )
        saved = self.run(self.rule_store.save(change, generation=stored.generation if stored else 0))
        assert saved is not None
        self.book.put(saved)
        self.asked[model] = dict(saved.split.positive)
        self.beside[model] = (saved.split.conditions, saved.split.shadows)
        self.governed[model] = saved.governing

    @rule(model=models, version=versions)
    def traffic_is_rolled_back(self, model: str, version: str) -> None:
        try:
            view = self.run(self.traffic.roll_back(Call(model), version))
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS - {Reason.ROLLOUT_IN_PROGRESS}:
                raise
            return
        assert view.split == {version: 100}
        self.noted(model, view)
        assert self.governed[model] == ""

    @precondition(lambda self: self.publisher.known)
    @rule(model=models, aliases=st.dictionaries(st.sampled_from(("champion", "next")), versions))
    def aliases_are_moved(self, model: str, aliases: dict[str, str]) -> None:
        self.aliases = {**self.aliases, model: aliases}
        self.publisher.aliases_changed(self.aliases)

    @rule(model=models)
    def a_change_is_undone(self, model: str) -> None:
        try:
            view = self.run(self.traffic.undo(Call(model)))
        except MeshError as error:
            if error.reason not in EXPECTED_REFUSALS:
                raise
            return
        assert not self.governed.get(model)
        self.noted(model, view)

    @rule(model=models)
    def a_caller_gives_up_in_the_middle(self, model: str) -> None:
        known = self.deployer.models.get(model)
        if known is None or not self.publisher.known:
            return

        async def impatient() -> None:
            wish = SplitWish({known.version_names[-1]: 100})
            with contextlib.suppress(TimeoutError, MeshError):
                async with asyncio.timeout(ANSWER_DELAY_S / 2):
                    await self.traffic.update(Call(model), wish)

        self.run(impatient())
        stored = self.run(self.rule_store.some(MODELS)) if not self.rule_store.away else []
        self.asked |= {one.model_name: dict(one.split.positive) for one in stored}
        self.beside |= {one.model_name: (one.split.conditions, one.split.shadows) for one in stored}
        self.governed |= {one.model_name: one.governing for one in stored}

    @rule(
        name=st.sampled_from(("batcher-0", "batcher-1", "batcher-2")),
        delay_s=st.sampled_from((0.0, 0.1, 1.9, 5.0)),
        refuses=st.booleans(),
    )
    def a_batcher_connects(self, name: str, delay_s: float, refuses: bool) -> None:
        async def connect() -> None:
            if name in self.batchers:
                await self.drop(name)
            refuses_all = refuses and name == "batcher-2"
            self.batchers[name] = CheckingBatcher(self.router, name, delay_s, refuses=refuses_all, routed=self.routed)

        self.run(connect())

    @precondition(lambda self: self.batchers)
    @rule(data=st.data())
    def a_batcher_dies(self, data: st.DataObject) -> None:
        self.run(self.drop(data.draw(st.sampled_from(sorted(self.batchers)))))

    @rule(delay_s=st.sampled_from((0.0, 0.5, None)))
    def the_gateway_changes_pace(self, delay_s: float | None) -> None:
        self.gateways.delay_s = delay_s

    @rule()
    def the_deployer_dies(self) -> None:
        self.deployer.die()

    @rule()
    def the_deployer_is_back(self) -> None:
        self.deployer.up = True

    @rule(away=st.booleans())
    def the_database_goes_or_comes(self, away: bool) -> None:
        self.rule_store.away = self.table_store.away = away

    @precondition(lambda self: not self.rule_store.away)
    @rule()
    def the_router_is_killed(self) -> None:
        async def again() -> None:
            await self.stop()
            await self.start()

        self.run(again())

    @rule(seconds=st.sampled_from((0.01, 0.3, 2.5, 12.0)))
    def time_passes(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    # --- what must hold

    def routed(self, model: str) -> set[str]:
        """The versions that the gateway routes to by this router's word."""
        table = self.gateways.acknowledged
        if table is None or table.revision < self.first_revision:
            return set()
        return set(table.models[model].versions) if model in table.models else set()

    @invariant()
    def routes_name_what_batchers_know(self) -> None:
        table = self.gateways.table
        for batcher in self.batchers.values():
            if batcher.session.acknowledged_revision < self.router.table.revision:
                continue
            if table is not self.publisher.routing:
                # The router was killed, and the gateway still goes by what the one before said.
                continue
            for name, routes in table.models.items():
                assert set(routes.versions) <= set(batcher.known.get(name, ())), (name, routes, batcher.known)

    @invariant()
    def shares_are_whole_and_of_versions_that_are_there(self) -> None:
        for name, routes in self.gateways.table.models.items():
            assert routes.model_name == name
            assert sum(share.percent for share in routes.shares) == 100
            assert all(1 <= share.percent <= 100 for share in routes.shares)
            assert {share.version for share in routes.shares} <= set(routes.versions)
            assert {condition.version for condition in routes.conditions} <= set(routes.versions)

    @invariant()
    def revisions_only_grow(self) -> None:
        newest = max(self.router.table.revision, self.publisher.routing.revision)
        assert newest == 0 or newest >= self.revision
        self.revision = max(newest, self.revision)

    @invariant()
    def the_tasks_live(self) -> None:
        tasks = [*self.tasks, *(batcher.task for batcher in self.batchers.values())]
        for task in tasks:
            if task.done():
                task.result()
                raise AssertionError(f"{task} ended")

    def teardown(self) -> None:
        """Everything mended, it is as it was asked."""
        try:
            self.mend()
        finally:
            self.run(self.stop())
            self.loop.close()

    def mend(self) -> None:
        self.rule_store.away = self.table_store.away = False
        self.deployer.up = True
        self.gateways.delay_s = 0.0
        # The registry says it again to a router that was killed.
        self.publisher.aliases_changed(self.aliases)
        self.run(asyncio.sleep(30.0))
        self.the_tasks_live()
        table = self.gateways.table
        assert set(table.models) == set(self.deployer.models)
        for name, model in self.deployer.models.items():
            routes = table.models[name]
            assert routes.versions == model.version_names
            stored = self.run(self.rule_store.find(name))
            assert (dict(stored.split.positive) if stored else None) == self.asked.get(name)
            wanted = effective_shares(stored.split, model.version_names) if stored else ()
            split = stored.split if stored else Split({})
            assert (split.conditions, split.shadows) == self.beside.get(name, ((), ()))
            assert [one.version for one in routes.conditions] == [
                one.version for one in split.conditions if one.version in model.version_names
            ]
            assert (stored.governing if stored else "") == self.governed.get(name, "")
            for batcher in self.batchers.values():
                if batcher.session.refused_revision == 0:
                    assert batcher.shadows[name] == tuple(
                        one.version for one in split.shadows if one.version in model.version_names
                    )
                    assert batcher.labels[name] is (stored is not None and stored.log_labels)
                    assert batcher.aliases[name] == {
                        alias: version
                        for alias, version in self.aliases.get(name, {}).items()
                        if version in model.version_names
                    }
            assert routes.shares == wanted or (not wanted and [share.percent for share in routes.shares] == [100])
        for batcher in self.batchers.values():
            if batcher.session.refused_revision == 0:
                assert batcher.known == {name: model.version_names for name, model in self.deployer.models.items()}
        assert {name: model.ready for name, model in self.table_store.saved.items()} == self.deployer.models


TestRouter = RouterMachine.TestCase
TestRouter.settings = settings(
    max_examples=200, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
