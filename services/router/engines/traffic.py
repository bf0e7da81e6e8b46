"""What callers may ask of a model's traffic. A change is stored first, and then brought to batchers and gateways."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

from services.common.access.book import EVERYTHING, Sight
from services.common.errors import MeshError, Reason
from services.common.names import check_model_name, check_version
from services.common.page import check_page_size, decode_number_token, decode_page_token, encode_page_token
from services.router.domain.merge import state_of
from services.router.domain.resolve import Resolution, resolve
from services.router.domain.rules import Change, Rule, ShownRule, Split, with_weights
from services.router.domain.version_before import version_before
from services.router.domain.view import TrafficView, change_sentences, moved_percent, split_in_force, traffic_view
from services.router.domain.wishes import (
    SplitWish,
    check_free,
    check_ready,
    check_wish_ready,
    request_digest,
    wanted_split,
)
from services.router.engines.batchers import Batchers
from services.router.engines.changing import Call, Changing, Decide, TrafficOptions, check_call, not_served
from services.router.engines.publisher import Publisher
from services.router.engines.redeploy import Redeploy
from services.router.engines.rules import RuleBook
from services.router.ports import Gateways, RolloutStore, RuleStore

__all__ = ["Call", "Plan", "Traffic", "TrafficOptions"]

_HISTORY_LOOK_BACK = 100
"""How many changes a roll-back without a version looks through."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do."""

    before: TrafficView
    after: TrafficView
    moved_percent: int
    changes: Sequence[str]


class Traffic:
    """The calls of RouterService, in domain values."""

    def __init__(
        self,
        *,
        store: RuleStore,
        rules: RuleBook,
        publisher: Publisher,
        batchers: Batchers,
        gateways: Gateways,
        options: TrafficOptions,
        rollouts: RolloutStore | None = None,
        redeploy: Redeploy | None = None,
    ) -> None:
        self._store = store
        self._rules = rules
        self._publisher = publisher
        self._batchers = batchers
        self._gateways = gateways
        self._rollouts = rollouts
        self._redeploy = redeploy
        self._changing = Changing(store=store, rules=rules, publisher=publisher, options=options)

    def get(self, model_name: str) -> TrafficView:
        """The traffic of a model. Raises MODEL_NOT_SERVED."""
        check_model_name(model_name)
        rule, state = self._rules.rules.get(model_name), self._publisher.states.get(model_name)
        if rule is None and state is None:
            raise not_served(model_name)
        revision = self._publisher.routing.revision
        return traffic_view(model_name, rule, state, revision=revision, behind=self._behind())

    def page(self, *, page_size: int, page_token: str, sight: Sight = EVERYTHING) -> tuple[Sequence[TrafficView], str]:
        """A page of the traffic of models that the caller sees, in alphabetical order, and the next one's token."""
        size = check_page_size(page_size)
        after = decode_page_token(page_token, query="traffic")
        names = sorted({*self._rules.rules, *self._publisher.states})
        names = [name for name in names if sight.shows(name) and (not after or name > after[0])]
        token = encode_page_token(names[size - 1], query="traffic") if len(names) > size else ""
        return [self.get(name) for name in names[:size]], token

    def resolve(self, model_name: str, *, version: str, headers: Mapping[str, str]) -> tuple[Resolution, int]:
        """Where a request would go, and the revision that this holds for. Raises MODEL_NOT_SERVED or
        VERSION_NOT_SERVED."""
        check_model_name(model_name)
        state = self._publisher.states.get(model_name)
        if state is None:
            raise not_served(model_name)
        return resolve(state, version=version, headers=headers), self._publisher.routing.revision

    async def shown_rules(self, model_name: str, *, page_size: int, page_token: str) -> tuple[Sequence[ShownRule], str]:
        """A page of a model's rules by name, and the token of the next one."""
        check_model_name(model_name)
        size = check_page_size(page_size)
        query = f"traffic-rules\0{model_name}"
        after = decode_page_token(page_token, query=query)
        found = await self._store.shown(model_name, after=after[0] if after else "", limit=size + 1)
        return found[:size], encode_page_token(found[size - 1].rule_name, query=query) if len(found) > size else ""

    async def shown_rule(self, model_name: str, rule_name: str) -> ShownRule:
        """One rule. Raises TRAFFIC_RULE_NOT_FOUND."""
        check_model_name(model_name)
        found = await self._store.shown_one(model_name, rule_name)
        if found is None:
            raise MeshError(
                Reason.TRAFFIC_RULE_NOT_FOUND,
                f"model {model_name!r} has no traffic rule {rule_name!r}; list its rules to see them",
                metadata={"model_name": model_name, "rule_name": rule_name},
            )
        return found

    async def changes(self, model_name: str, *, page_size: int, page_token: str) -> tuple[Sequence[Change], str]:
        """A page of a model's history, newest first, and the token of the next one."""
        check_model_name(model_name)
        size = check_page_size(page_size)
        query = f"traffic-changes\0{model_name}"
        before = decode_number_token(page_token, query=query)
        found = await self._store.changes(model_name, before=before, limit=size + 1)
        token = encode_page_token(str(found[size - 1].change_id), query=query) if len(found) > size else ""
        return found[:size], token

    async def watch(self, model_name: str) -> AsyncIterator[TrafficView]:
        """The traffic of a model, then again whenever it changes. Raises MODEL_NOT_SERVED once it is gone."""
        shown: TrafficView | None = None
        while True:
            changed = self._publisher.changed.current
            view = self.get(model_name)
            if shown is None or replace(view, conditions=(), revision=0) != replace(shown, conditions=(), revision=0):
                shown = view
                yield view
                continue
            await changed.wait()

    async def update(self, call: Call, wish: SplitWish) -> TrafficView:
        """Changes the traffic. Raises WEIGHTS_INVALID, INVALID_FIELD, VERSION_NOT_DEPLOYED, MODEL_NOT_SERVED,
        ETAG_MISMATCH, or ROLLOUT_IN_PROGRESS where a rollout decides the shares that are to be changed."""
        digest = request_digest("update", call.model_name, wish)
        await self._changing.change(call, "update", self._decision(call, wish), digest=digest)
        return self.get(call.model_name)

    async def plan(self, call: Call, wish: SplitWish) -> Plan:
        """What `update` would do. Raises as it would."""
        check_call(call)
        _, before, after = await self._changing.decided(call, self._decision(call, wish))
        await self._changing.check_etag(call)
        return self.planned(call.model_name, before, after)

    def planned(self, model_name: str, before: Split, after: Split) -> Plan:
        """What going from one split to another would do to a model."""
        now, rule = self.get(model_name), self._rules.rules.get(model_name)
        state = self._publisher.states.get(model_name)
        then = traffic_view(
            model_name,
            replace(rule, split=after) if rule is not None else None,
            state_of(state.serving.ready, after, default=state.serving.default_version) if state is not None else None,
            revision=now.revision,
            behind=self._behind(),
        )
        return Plan(
            before=now,
            # Also of a model that has no rule yet.
            after=replace(
                then,
                split=after.positive,
                strategy=after.strategy,
                sticky_header=after.sticky_header,
                route_conditions=after.conditions,
                shadows=after.shadows,
            ),
            moved_percent=moved_percent(before, after),
            changes=change_sentences(before, after),
        )

    async def undo(self, call: Call) -> TrafficView:
        """Brings back all that held before the last change, to the place. Raises TRAFFIC_RULE_NOT_FOUND,
        VERSION_NOT_DEPLOYED, ROLLOUT_IN_PROGRESS."""
        digest = request_digest("undo", call.model_name, SplitWish())
        check_call(call)
        if await self._changing.repeated(call, digest):
            return self.get(call.model_name)
        last = await self._store.changes(call.model_name, before=None, limit=1)
        if not last:
            raise MeshError(
                Reason.TRAFFIC_RULE_NOT_FOUND,
                f"the traffic of model {call.model_name!r} was never changed, so there is nothing to undo",
                metadata={"model_name": call.model_name},
            )
        target = last[0].before

        def decide(rule: Rule | None, _: Split) -> Split:
            check_free(rule, "the traffic")
            check_ready(target.positive, self._changing.ready(call), call.model_name)
            return target

        # The change that is undone must still be the last one when this is stored.
        pinned = replace(call, etag=call.etag or last[0].etag)
        await self._changing.change(pinned, "undo", decide, digest=digest)
        return self.get(call.model_name)

    async def roll_back(self, call: Call, to_version: str, *, timeout_s: float | None = None) -> TrafficView:
        """Gives all traffic to one version, that of conditions included; ends a rollout. A version that is not ready is
        deployed again first, for which it waits `timeout_s` seconds at most (None: as long as it is told to). Raises
        VERSION_NOT_DEPLOYED, NOTHING_TO_ROLL_BACK."""
        check_call(call)
        digest = request_digest("rollback", call.model_name, SplitWish({to_version: 100}))
        if await self._changing.repeated(call, digest):
            return self.get(call.model_name)
        await self._changing.check_etag(call)
        version = check_version(to_version, "to_version") if to_version else await self._version_before(call)
        if self._redeploy is not None and not self._redeploy.is_ready(call.model_name, version):
            await self._redeploy.bring_back(call, version, timeout_s=timeout_s)

        def decide(_: Rule | None, before: Split) -> Split:
            check_ready({version: 100}, self._changing.ready(call), call.model_name)
            kept = tuple(condition for condition in before.conditions if condition.version == version)
            return replace(with_weights(before, {version: 100}), conditions=kept)

        await self._changing.change(call, "rollback", decide, digest=digest, ends_rollout=True)
        return self.get(call.model_name)

    async def _version_before(self, call: Call) -> str:
        rule, state = self._rules.rules.get(call.model_name), self._publisher.states.get(call.model_name)
        if self._rollouts is not None and rule is not None and rule.governing:
            # Back from the rollout: who had most before it may have most of the traffic still.
            rollout = await self._rollouts.find(call.model_name, rule.governing)
            if rollout is not None:
                return version_before(rollout)
        ready = state.routes.versions if state is not None else ()
        now = _heaviest(split_in_force(rule, state))
        changes = await self._store.changes(call.model_name, before=None, limit=_HISTORY_LOOK_BACK)
        before = [version for version in map(_heaviest, (one.before for one in changes)) if version not in ("", now)]
        # One that is ready takes the traffic at once, so it goes before one that was heaviest later and is gone.
        for version in (*(one for one in before if one in ready), *before):
            return version
        raise MeshError(
            Reason.NOTHING_TO_ROLL_BACK,
            f"no other version of model {call.model_name!r} had most of the traffic before; "
            "name the version in to_version",
            metadata={"model_name": call.model_name},
        )

    def _decision(self, call: Call, wish: SplitWish) -> Decide:
        def decide(rule: Rule | None, before: Split) -> Split:
            after = wanted_split(wish, before)
            if wish.of_shares:
                check_free(rule, "the shares")
            check_wish_ready(wish, after, self._changing.ready(call), call.model_name)
            return after

        return decide

    def _behind(self) -> Sequence[str]:
        table, routing = self._batchers.table.revision, self._publisher.routing.revision
        return [
            *(one.batcher_id for one in self._batchers.connected if one.acknowledged_revision < table),
            *(one.gateway_id for one in self._gateways.connected() if one.acknowledged_revision < routing),
        ]


def _heaviest(split: Split) -> str:
    return max(split.positive, key=lambda version: split.weights[version], default="")
