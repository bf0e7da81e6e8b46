"""The router's neighbours, in memory: stores pass the contract tests that their real twins pass."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace

from infermesh.common.v1 import serving_pb2

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.router.domain.access import Callers
from services.router.domain.backends import BackendUpdate, ReadyModel, ReadyVersion
from services.router.domain.health import Health
from services.router.domain.merge import ServingModel
from services.router.domain.routing import GatewayState, RoutingTable
from services.router.domain.rules import (
    SHADOW_RULE,
    SPLIT_RULE,
    Change,
    ChangeMark,
    NewChange,
    Rule,
    ShownRule,
    etag_of,
)

BLOCK = 1000


def ready(
    model_name: str, *versions: str, deployments: Mapping[str, str] | None = None, port: int = 8120
) -> ReadyModel:
    """A model of which these versions are ready; a version's deployment is called "d-<version>" unless told."""
    found = [
        serving_pb2.ServedVersion(
            version=version,
            deployment_name=(deployments or {}).get(version, "d-" + version.replace(".", "-")),
            backends=[
                serving_pb2.Backend(
                    backend_id="triton-0",
                    http_address=f"127.0.0.1:{port}",
                    server_model_name=f"{model_name}--{version}",
                )
            ],
        )
        for version in versions
    ]
    return ReadyModel(
        model_name,
        tuple(
            ReadyVersion(one.version, one.deployment_name, one.SerializeToString(deterministic=True)) for one in found
        ),
    )


class MemoryRuleStore:
    """A `RuleStore`. It refuses while `away`, and what it stored it says `answer_delay_s` seconds later."""

    def __init__(self, clock: Clock, *, answer_delay_s: float = 0.0) -> None:
        self._clock = clock
        self._answer_delay_s = answer_delay_s
        self._rules: dict[str, Rule] = {}
        self._changes: list[tuple[NewChange, Change]] = []
        self._shown: dict[tuple[str, str], ShownRule] = {}
        self.away = False

    async def generations(self) -> Mapping[str, int]:
        """Of every rule, by model."""
        self._reach()
        return {name: rule.generation for name, rule in self._rules.items()}

    async def marks(self, *, after: int, limit: int) -> Sequence[ChangeMark]:
        """The newest changes of all models."""
        self._reach()
        return [
            ChangeMark(done.change_id, done.model_name, int(done.etag.removeprefix("g")))
            for _, done in reversed(self._changes)
            if done.change_id > after
        ][:limit]

    async def some(self, model_names: Sequence[str]) -> Sequence[Rule]:
        """The rules of these models."""
        self._reach()
        return [rule for name, rule in sorted(self._rules.items()) if name in model_names]

    async def find(self, model_name: str) -> Rule | None:
        """The rule of a model."""
        self._reach()
        return self._rules.get(model_name)

    async def save(self, change: NewChange, *, generation: int) -> Rule | None:
        """Stores both."""
        self._reach()
        known = self._rules.get(change.model_name)
        if generation != (known.generation if known else 0) or await self.digest_of(change.request_id) is not None:
            return None
        now, number = self._clock.now(), generation + 1
        rule = Rule(
            rule_id=known.rule_id if known else f"rule-{change.model_name}",
            model_name=change.model_name,
            deployment_name=change.deployment_name,
            split=change.after,
            generation=number,
            created_by=known.created_by if known else change.actor,
            created_at=known.created_at if known else now,
            updated_by=change.actor,
            updated_at=now,
            reason=change.reason,
            governing=change.governing,
            log_labels=change.log_labels,
        )
        done = Change(
            change_id=len(self._changes) + 1,
            model_name=change.model_name,
            deployment_name=change.deployment_name,
            time=now,
            action=change.action,
            actor=change.actor,
            reason=change.reason,
            before=change.before,
            after=change.after,
            etag=etag_of(number),
        )
        self._changes.append((change, done))
        self._rules[change.model_name] = rule
        self._show(rule)
        await asyncio.sleep(self._answer_delay_s)
        return rule

    async def shown(self, model_name: str, *, after: str, limit: int) -> Sequence[ShownRule]:
        """All rules of a model, by name."""
        self._reach()
        return [one for (model, name), one in sorted(self._shown.items()) if model == model_name and name > after][
            :limit
        ]

    async def shown_one(self, model_name: str, rule_name: str) -> ShownRule | None:
        """One of them."""
        self._reach()
        return self._shown.get((model_name, rule_name))

    def _show(self, rule: Rule) -> None:
        """Keeps the rule and its shadows as they are listed."""
        split, now = rule.split, rule.updated_at
        self._shown[rule.model_name, SPLIT_RULE] = ShownRule(
            rule_id=rule.rule_id,
            model_name=rule.model_name,
            rule_name=SPLIT_RULE,
            rule_type=SPLIT_RULE,
            weights=split.positive,
            strategy=split.strategy.value,
            sticky_header=split.sticky_header,
            conditions=split.conditions,
            start_time=rule.created_at,
            end_time=None,
            status="active",
            success_criteria="",
            auto_promote=False,
            created_by=rule.created_by,
            created_at=rule.created_at,
            updated_at=now,
        )
        known = self._shown.get((rule.model_name, SHADOW_RULE))
        weights = {shadow.version: shadow.percent for shadow in split.shadows}
        if not weights:
            if known is not None and known.status == "active":
                self._shown[rule.model_name, SHADOW_RULE] = replace(
                    known, status="completed", end_time=now, updated_at=now
                )
            return
        if known is not None and known.status == "active" and known.weights == weights:
            return
        since = known.start_time if known is not None and known.status == "active" else now
        shown = self._shown[rule.model_name, SPLIT_RULE] if known is None else known
        self._shown[rule.model_name, SHADOW_RULE] = replace(
            shown,
            rule_id=f"shadow-{rule.model_name}",
            rule_name=SHADOW_RULE,
            rule_type=SHADOW_RULE,
            weights=weights,
            strategy="random",
            sticky_header="",
            conditions=(),
            start_time=since,
            end_time=None,
            status="active",
            created_by=rule.updated_by if known is None else known.created_by,
            created_at=now if known is None else known.created_at,
            updated_at=now,
        )

    async def digest_of(self, request_id: str) -> str | None:
        """The digest under this id."""
        self._reach()
        found = [new.request_digest for new, _ in self._changes if request_id and new.request_id == request_id]
        return found[0] if found else None

    async def changes(self, model_name: str, *, before: int | None, limit: int) -> Sequence[Change]:
        """Newest first."""
        self._reach()
        found = [done for _, done in reversed(self._changes) if done.model_name == model_name]
        return [done for done in found if before is None or done.change_id < before][:limit]

    def _reach(self) -> None:
        if self.away:
            raise _gone("the rule store")


class MemoryTableStore:
    """A `TableStore`. It refuses while `away`."""

    def __init__(self) -> None:
        self.saved: dict[str, ServingModel] = {}
        self._blocks = 0
        self.away = False

    async def load(self) -> Mapping[str, ServingModel] | None:
        """What was saved last."""
        self._reach()
        return dict(self.saved) or None

    async def save(self, models: Sequence[ServingModel], removed: Sequence[str]) -> None:
        """Keeps these and forgets those."""
        self._reach()
        self.saved |= {model.ready.model_name: model for model in models}
        for name in removed:
            self.saved.pop(name, None)

    async def reserve_revisions(self) -> range:
        """The next block."""
        self._reach()
        self._blocks += 1
        return range(self.reserved, self.reserved + BLOCK)

    @property
    def reserved(self) -> int:
        """The first revision of the newest block."""
        return self._blocks * BLOCK

    def _reach(self) -> None:
        if self.away:
            raise _gone("the table store")


class FakeGateways:
    """A `Gateways` of one gateway, which takes `delay_s` seconds to acknowledge what it is sent; forever where None."""

    def __init__(self) -> None:
        self.published: list[RoutingTable] = []
        self.acknowledged: RoutingTable | None = None
        self.delay_s: float | None = 0.0
        self.batchers: Sequence[str] = ()
        self.callers: Callers | None = None

    async def admit(self, callers: Callers) -> None:
        """Keeps them."""
        self.callers = callers

    def replace_batchers(self, addresses: Sequence[str]) -> None:
        """Keeps them."""
        self.batchers = addresses

    async def publish(self, table: RoutingTable) -> None:
        """Waits as the real one does."""
        self.published.append(table)
        if self.delay_s is None:
            await asyncio.sleep(2.0)
            return
        await asyncio.sleep(self.delay_s)
        self.acknowledged = table

    def connected(self) -> Sequence[GatewayState]:
        """The one."""
        return [GatewayState("gateway-0", self.acknowledged.revision if self.acknowledged else 0)]

    @property
    def table(self) -> RoutingTable:
        """What it was sent last."""
        return self.published[-1] if self.published else RoutingTable()


class FakeDeployer:
    """A `BackendSource` whose state tests set. Watchers get it whole, then each change."""

    def __init__(self) -> None:
        self.models: dict[str, ReadyModel] = {}
        self.up = True
        self._revision = 0
        self._queues: list[asyncio.Queue[BackendUpdate | None]] = []

    def put(self, model: ReadyModel) -> None:
        """This is what is ready of the model; without versions, nothing is."""
        self._revision += 1
        if model.versions:
            self.models[model.model_name] = model
            self._tell(BackendUpdate(self._revision, full=False, models=(model,)))
        elif self.models.pop(model.model_name, None) is not None:
            self._tell(BackendUpdate(self._revision, full=False, removed=(model.model_name,)))

    def die(self) -> None:
        """All streams break, and none can be opened."""
        self.up = False
        self._tell(None)
        self._queues.clear()

    async def watch(self) -> AsyncIterator[BackendUpdate]:
        """All there is, then changes."""
        if not self.up:
            raise _gone("the deployer")
        queue: asyncio.Queue[BackendUpdate | None] = asyncio.Queue()
        self._queues.append(queue)
        self._revision += 1
        yield BackendUpdate(self._revision, full=True, models=tuple(self.models.values()))
        while (update := await queue.get()) is not None:
            yield update
        raise _gone("the deployer")

    def _tell(self, update: BackendUpdate | None) -> None:
        for queue in self._queues:
            queue.put_nowait(update)


class FakeHealth:
    """A `HealthSource` that counts how often it is asked."""

    def __init__(self, health: Health = Health.SERVING, *, delay_s: float = 0.0) -> None:
        self.health = health
        self.delay_s = delay_s
        self.asked = 0

    async def ask(self, service: str) -> Health:
        """As told."""
        self.asked += 1
        await asyncio.sleep(self.delay_s)
        return self.health


class SilentBoard:
    """A `Board` that only remembers the last figures."""

    def __init__(self) -> None:
        self.revision = 0
        self.late = 0
        self.deployer_connected = False

    def published(self, revision: int, seconds: float, late: int) -> None:
        """Remembers."""
        self.revision, self.late = revision, self.late + late

    def deployer(self, *, connected: bool) -> None:
        """Remembers."""
        self.deployer_connected = connected


def without(model: ReadyModel, version: str) -> ReadyModel:
    """The model without one of its versions."""
    return replace(model, versions=tuple(one for one in model.versions if one.version != version))


def _gone(what: str) -> MeshError:
    return MeshError(Reason.DEPENDENCY_UNAVAILABLE, f"{what} does not answer")
