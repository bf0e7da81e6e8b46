"""What callers may ask of a model's traffic. A change is stored first, and then brought to batchers and gateways."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_deployment_name, check_model_name, check_version
from services.common.page import check_page_size, decode_page_token, encode_page_token
from services.router.domain.rules import (
    Change,
    NewChange,
    Rule,
    Split,
    SplitWish,
    check_ready,
    checked_weights,
    request_digest,
    wanted_split,
    with_weights,
)
from services.router.domain.view import TrafficView, change_sentences, moved_percent, split_in_force, traffic_view
from services.router.engines.batchers import Batchers
from services.router.engines.publisher import Publisher
from services.router.engines.rules import RuleBook
from services.router.ports import Gateways, RuleStore

Decided = tuple[Rule | None, Split, Split]
"""The rule that a decision was made from, what held, and what shall hold."""

_TRIES = 5
"""Concurrent changes of one model's traffic that a change without an etag outlasts."""
_REASON_MAX = 1000
_REQUEST_ID_MAX = 128
_HISTORY_LOOK_BACK = 100
"""How many changes a roll-back without a version looks through."""


@dataclass(frozen=True, slots=True)
class Call:
    """What all calls that change traffic have in common."""

    model_name: str
    deployment_name: str = ""
    etag: str = ""
    reason: str = ""
    request_id: str = ""
    actor: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change would do."""

    before: TrafficView
    after: TrafficView
    moved_percent: int
    changes: Sequence[str]


@dataclass(frozen=True, slots=True)
class TrafficOptions:
    """How long calls wait, in seconds."""

    patience_s: float = 5.0
    """For a change to reach the gateways."""
    ready_patience_s: float = 1.0
    """For a version that is not ready: the deployer calls it active a moment before the word of it arrives here."""


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
    ) -> None:
        self._store = store
        self._rules = rules
        self._publisher = publisher
        self._batchers = batchers
        self._gateways = gateways
        self._options = options

    def get(self, model_name: str) -> TrafficView:
        """The traffic of a model. Raises MODEL_NOT_SERVED."""
        check_model_name(model_name)
        rule, state = self._rules.rules.get(model_name), self._publisher.states.get(model_name)
        if rule is None and state is None:
            raise _not_served(model_name)
        revision = self._publisher.routing.revision
        return traffic_view(model_name, rule, state, revision=revision, behind=self._behind())

    def page(self, *, page_size: int, page_token: str) -> tuple[Sequence[TrafficView], str]:
        """A page of models' traffic in alphabetical order, and the token of the next one."""
        size = check_page_size(page_size)
        after = decode_page_token(page_token, query="traffic")
        names = sorted({*self._rules.rules, *self._publisher.states})
        names = [name for name in names if not after or name > after[0]]
        token = encode_page_token(names[size - 1], query="traffic") if len(names) > size else ""
        return [self.get(name) for name in names[:size]], token

    def rule(self, model_name: str) -> Rule | None:
        """The rule of a model."""
        check_model_name(model_name)
        return self._rules.rules.get(model_name)

    async def changes(self, model_name: str, *, page_size: int, page_token: str) -> tuple[Sequence[Change], str]:
        """A page of a model's history, newest first, and the token of the next one."""
        check_model_name(model_name)
        size = check_page_size(page_size)
        query = f"traffic-changes\0{model_name}"
        after = decode_page_token(page_token, query=query)
        found = await self._store.changes(model_name, before=int(after[0]) if after else None, limit=size + 1)
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
        """Changes the split. Raises WEIGHTS_INVALID, VERSION_NOT_DEPLOYED, MODEL_NOT_SERVED or ETAG_MISMATCH."""
        decide = self._decision(call, wish)
        return await self._change(call, "update", decide, digest=request_digest("update", call.model_name, wish))

    async def plan(self, call: Call, wish: SplitWish) -> Plan:
        """What `update` would do. Raises as it would."""
        _check(call)
        _, before, after = await self._decided(call, self._decision(call, wish))
        now = self.get(call.model_name)
        if call.etag and call.etag != now.etag:
            raise _mismatch(call.model_name)
        return Plan(
            before=now,
            after=replace(now, split=after.positive, strategy=after.strategy, sticky_header=after.sticky_header),
            moved_percent=moved_percent(before.positive, after.positive),
            changes=change_sentences(before, after),
        )

    async def undo(self, call: Call) -> TrafficView:
        """Brings back what held before the last change. Raises TRAFFIC_RULE_NOT_FOUND, VERSION_NOT_DEPLOYED."""
        digest = request_digest("undo", call.model_name, SplitWish())
        _check(call)
        if await self._repeated(call, digest):
            return self.get(call.model_name)
        last = await self._store.changes(call.model_name, before=None, limit=1)
        if not last:
            raise MeshError(
                Reason.TRAFFIC_RULE_NOT_FOUND,
                f"the traffic of model {call.model_name!r} was never changed, so there is nothing to undo",
                metadata={"model_name": call.model_name},
            )
        target = last[0].before

        def decide(_: Split) -> Split:
            check_ready(target.positive, self._ready(call), call.model_name)
            return target

        # The change that is undone must still be the last one when this is stored.
        pinned = replace(call, etag=call.etag or last[0].etag)
        return await self._change(pinned, "undo", decide, digest=digest)

    async def roll_back(self, call: Call, to_version: str) -> TrafficView:
        """Gives all traffic to one version. Raises VERSION_NOT_DEPLOYED, NOTHING_TO_ROLL_BACK."""
        _check(call)
        digest = request_digest("rollback", call.model_name, SplitWish({to_version: 100}))
        if await self._repeated(call, digest):
            return self.get(call.model_name)
        version = check_version(to_version, "to_version") if to_version else await self._version_before(call)

        def decide(before: Split) -> Split:
            check_ready({version: 100}, self._ready(call), call.model_name)
            return with_weights(before, {version: 100})

        return await self._change(call, "rollback", decide, digest=digest)

    async def _version_before(self, call: Call) -> str:
        ready = self._ready(call)
        now = _heaviest(split_in_force(self.rule(call.model_name), self._publisher.states.get(call.model_name)))
        for change in await self._store.changes(call.model_name, before=None, limit=_HISTORY_LOOK_BACK):
            version = _heaviest(change.before)
            if version not in ("", now) and version in ready:
                return version
        raise MeshError(
            Reason.NOTHING_TO_ROLL_BACK,
            f"no other version of model {call.model_name!r} that is ready had most of the traffic before {now}; "
            "name the version in to_version",
            metadata={"model_name": call.model_name},
        )

    def _decision(self, call: Call, wish: SplitWish) -> Callable[[Split], Split]:
        def decide(before: Split) -> Split:
            after = wanted_split(wish, before)
            ready = self._ready(call)
            check_ready(checked_weights(wish.weights) if wish.weights else {}, ready, call.model_name)
            return after

        return decide

    async def _change(self, call: Call, action: str, decide: Callable[[Split], Split], *, digest: str) -> TrafficView:
        _check(call)
        for _ in range(_TRIES):
            if await self._repeated(call, digest):
                return self.get(call.model_name)
            rule, before, after = await self._decided(call, decide)
            view = self.get(call.model_name)
            if call.etag and call.etag != view.etag:
                raise _mismatch(call.model_name)
            if rule is not None and after.same_as(before) and not call.request_id:
                return view
            change = NewChange(
                model_name=call.model_name,
                deployment_name=call.deployment_name,
                action=action,
                actor=call.actor,
                reason=call.reason,
                before=before,
                after=after,
                request_id=call.request_id,
                request_digest=digest,
            )
            if await self._saved(change, generation=rule.generation if rule is not None else 0):
                ticket = self._publisher.touch([call.model_name])
                await self._publisher.caught_up(ticket, timeout_s=self._options.patience_s)
                return self.get(call.model_name)
            fresh = await self._store.find(call.model_name)
            if fresh is not None:
                self._rules.put(fresh)
        raise _mismatch(call.model_name)

    async def _saved(self, change: NewChange, *, generation: int) -> bool:
        try:
            saved = await self._store.save(change, generation=generation)
        except BaseException:
            # Whether it was stored is not known, for instance where the caller went away meanwhile.
            self._rules.suspect()
            raise
        if saved is not None:
            self._rules.put(saved)
        return saved is not None

    async def _repeated(self, call: Call, digest: str) -> bool:
        known = await self._store.digest_of(call.request_id) if call.request_id else None
        if known is not None and known != digest:
            raise MeshError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {call.request_id!r} was used for another change; send a new one",
                metadata={"request_id": call.request_id},
            )
        return known is not None

    async def _decided(self, call: Call, decide: Callable[[Split], Split]) -> Decided:
        """What holds and what `decide` makes of it; waits a moment for what is not ready yet."""

        def attempt() -> Decided | MeshError:
            rule, state = self._rules.rules.get(call.model_name), self._publisher.states.get(call.model_name)
            before = split_in_force(rule, state)
            try:
                return rule, before, decide(before)
            except MeshError as error:
                if error.reason not in _MAY_PASS:
                    raise
                return error

        result = attempt()
        if isinstance(result, MeshError):

            def settled() -> bool:
                nonlocal result
                result = attempt()
                return not isinstance(result, MeshError)

            await self._publisher.changed.until(settled, timeout_s=self._options.ready_patience_s)
        if isinstance(result, MeshError):
            raise result
        return result

    def _ready(self, call: Call) -> Sequence[str]:
        """The versions that are ready. Raises DEPENDENCY_UNAVAILABLE, MODEL_NOT_SERVED or DEPLOYMENT_NOT_FOUND."""
        if not self._publisher.known:
            raise MeshError(
                Reason.DEPENDENCY_UNAVAILABLE,
                "the deployer has not said yet what is ready; try again in a moment",
                retry_after_s=1.0,
            )
        # Before the model's first publication it has no default, and so nothing that a change could start from.
        state = self._publisher.states.get(call.model_name)
        model = self._publisher.backends.get(call.model_name)
        if model is None or state is None:
            raise _not_served(call.model_name)
        if call.deployment_name and all(one.deployment_name != call.deployment_name for one in model.versions):
            raise MeshError(
                Reason.DEPLOYMENT_NOT_FOUND,
                f"no deployment {call.deployment_name!r} of model {call.model_name!r} is ready; ready are "
                + ", ".join(sorted(one.deployment_name for one in model.versions)),
                metadata={"model_name": call.model_name, "deployment_name": call.deployment_name},
            )
        return model.version_names

    def _behind(self) -> Sequence[str]:
        table, routing = self._batchers.table.revision, self._publisher.routing.revision
        return [
            *(one.batcher_id for one in self._batchers.connected if one.acknowledged_revision < table),
            *(one.gateway_id for one in self._gateways.connected() if one.acknowledged_revision < routing),
        ]


_MAY_PASS = {Reason.VERSION_NOT_DEPLOYED, Reason.MODEL_NOT_SERVED, Reason.DEPLOYMENT_NOT_FOUND}
"""Refusals that the next word of the deployer may settle."""


def _check(call: Call) -> None:
    check_model_name(call.model_name)
    if call.deployment_name:
        check_deployment_name(call.deployment_name)
    if len(call.reason) > _REASON_MAX:
        raise invalid("reason", call.reason, f"at most {_REASON_MAX} characters")
    if len(call.request_id) > _REQUEST_ID_MAX:
        raise invalid("request_id", call.request_id, f"at most {_REQUEST_ID_MAX} characters")


def _heaviest(split: Split) -> str:
    return max(split.positive, key=lambda version: split.weights[version], default="")


def _not_served(model_name: str) -> MeshError:
    return MeshError(
        Reason.MODEL_NOT_SERVED,
        f"nothing of model {model_name!r} is ready; deploy a version of it and wait until it is active",
        metadata={"model_name": model_name},
    )


def _mismatch(model_name: str) -> MeshError:
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"the traffic of model {model_name!r} was changed by someone else; "
        "read it again and repeat the change with its new etag",
        metadata={"model_name": model_name},
    )
