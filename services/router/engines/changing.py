"""How a change of a model's traffic is made: decided from what holds, stored, brought to batchers and gateways."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_deployment_name, check_model_name
from services.router.domain.rules import NewChange, Rule, Split, etag_of
from services.router.domain.view import split_in_force
from services.router.engines.publisher import Publisher
from services.router.engines.rules import RuleBook
from services.router.ports import RuleStore

Decide = Callable[[Rule | None, Split], Split]
"""What shall hold, from the rule and what holds. Raises what the change is refused by."""

_TRIES = 5
"""Concurrent changes of one model's traffic that a change without an etag outlasts."""
_REASON_MAX = 1000
_REQUEST_ID_MAX = 128
_MAY_PASS = {Reason.VERSION_NOT_DEPLOYED, Reason.MODEL_NOT_SERVED, Reason.DEPLOYMENT_NOT_FOUND}
"""Refusals that the next word of the deployer may settle."""


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
class TrafficOptions:
    """How long calls wait, in seconds."""

    patience_s: float = 5.0
    """For a change to reach the gateways."""
    ready_patience_s: float = 1.0
    """For a version that is not ready: the deployer calls it active a moment before the word of it arrives here."""


class Changing:
    """Makes changes. Nobody else writes rules but rollouts, in the transactions of their own store."""

    def __init__(self, *, store: RuleStore, rules: RuleBook, publisher: Publisher, options: TrafficOptions) -> None:
        self._store = store
        self._rules = rules
        self._publisher = publisher
        self._options = options

    async def change(self, call: Call, action: str, decide: Decide, *, digest: str, ends_rollout: bool = False) -> None:
        """Changes the rule and returns once gateways have it. Raises ETAG_MISMATCH, and what `decide` does.

        `ends_rollout`: a rollout that decides the shares does so no more. Otherwise it goes on deciding them, and
        `decide` must leave them alone.
        """
        check_call(call)
        for _ in range(_TRIES):
            if await self.repeated(call, digest):
                return
            await self.check_etag(call)
            rule, before, after = await self.decided(call, decide)
            await self.check_etag(call)
            governing = rule.governing if rule is not None and not ends_rollout else ""
            ends = ends_rollout and rule is not None and bool(rule.governing)
            if rule is not None and after.same_as(before) and not call.request_id and not ends:
                # Unless another router has changed it a moment ago.
                await self._rules.fresh(call.model_name)
                if self._rules.rules[call.model_name].generation == rule.generation:
                    return
                continue
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
                governing=governing,
                log_labels=rule is not None and rule.log_labels and not ends,
            )
            if await self._saved(change, generation=rule.generation if rule is not None else 0):
                await self._publisher.brought(call.model_name, timeout_s=self._options.patience_s)
                return
            await self._rules.fresh(call.model_name)
        raise etag_mismatch(call.model_name)

    async def decided(self, call: Call, decide: Decide) -> tuple[Rule | None, Split, Split]:
        """The rule, what holds, and what `decide` makes of it; waits a moment for what is not ready yet."""

        def attempt() -> tuple[Rule | None, Split, Split] | MeshError:
            rule, state = self._rules.rules.get(call.model_name), self._publisher.states.get(call.model_name)
            before = split_in_force(rule, state)
            try:
                return rule, before, decide(rule, before)
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

    async def repeated(self, call: Call, digest: str) -> bool:
        """Whether this very call was carried out before. Raises REQUEST_ID_REUSED where another one was."""
        known = await self._store.digest_of(call.request_id) if call.request_id else None
        if known is not None and known != digest:
            raise MeshError(
                Reason.REQUEST_ID_REUSED,
                f"request_id {call.request_id!r} was used for another change; send a new one",
                metadata={"request_id": call.request_id},
            )
        return known is not None

    async def check_etag(self, call: Call) -> None:
        """Raises ETAG_MISMATCH where the rule is not the one that the caller has read."""
        if self._is_newest(call):
            return
        # It may have been read from another router, which knew of a change before this one did.
        await self._rules.fresh(call.model_name)
        if not self._is_newest(call):
            raise etag_mismatch(call.model_name)

    def ready(self, call: Call) -> Sequence[str]:
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
            raise not_served(call.model_name)
        if call.deployment_name and all(one.deployment_name != call.deployment_name for one in model.versions):
            raise MeshError(
                Reason.DEPLOYMENT_NOT_FOUND,
                f"no deployment {call.deployment_name!r} of model {call.model_name!r} is ready; ready are "
                + ", ".join(sorted(one.deployment_name for one in model.versions)),
                metadata={"model_name": call.model_name, "deployment_name": call.deployment_name},
            )
        return model.version_names

    def _is_newest(self, call: Call) -> bool:
        rule = self._rules.rules.get(call.model_name)
        return not call.etag or call.etag == etag_of(rule.generation if rule is not None else 0)

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


def check_call(call: Call) -> None:
    """Raises INVALID_FIELD where a name is none or a text too long."""
    check_model_name(call.model_name)
    if call.deployment_name:
        check_deployment_name(call.deployment_name)
    if len(call.reason) > _REASON_MAX:
        raise invalid("reason", call.reason, f"at most {_REASON_MAX} characters")
    if len(call.request_id) > _REQUEST_ID_MAX:
        raise invalid("request_id", call.request_id, f"at most {_REQUEST_ID_MAX} characters")


def not_served(model_name: str) -> MeshError:
    """Nothing of the model is ready."""
    return MeshError(
        Reason.MODEL_NOT_SERVED,
        f"nothing of model {model_name!r} is ready; deploy a version of it and wait until it is active",
        metadata={"model_name": model_name},
    )


def rollout_in_progress(model_name: str) -> MeshError:
    """The model has one already."""
    return MeshError(
        Reason.ROLLOUT_IN_PROGRESS,
        f"model {model_name!r} has a rollout that runs already; end it first, or wait until it has ended",
        metadata={"model_name": model_name},
    )


def etag_mismatch(model_name: str) -> MeshError:
    """Someone else was quicker."""
    return MeshError(
        Reason.ETAG_MISMATCH,
        f"the traffic of model {model_name!r} was changed by someone else; "
        "read it again and repeat the change with its new etag",
        metadata={"model_name": model_name},
    )
