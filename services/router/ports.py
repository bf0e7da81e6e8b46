"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import datetime
from typing import Protocol

from services.router.domain.access import Access, AccessUpdate, Callers, Owners
from services.router.domain.backends import BackendUpdate
from services.router.domain.deployments import Deployed, Spec
from services.router.domain.evidence import Evidence
from services.router.domain.health import Health
from services.router.domain.merge import ServingModel
from services.router.domain.rollouts import Document, Mismatch, Rollout, RolloutEvent, RolloutKind, Saved
from services.router.domain.routing import GatewayState, RoutingTable
from services.router.domain.rules import Change, ChangeMark, NewChange, Rule, ShownRule


class Gateways(Protocol):
    """The gateways that are connected."""

    async def publish(self, table: RoutingTable) -> None:
        """Makes `table` what every gateway routes by, also those that connect later.

        Returns once every gateway that is connected has acknowledged it, or 2 s have passed; at once where none is.
        Never raises for what a gateway does. Called one at a time, with revisions that only grow.
        """
        ...

    def replace_batchers(self, addresses: Sequence[str]) -> None:
        """Makes these, as host:port, the batchers that gateways send to, also those that connect later. Raises
        INVALID_FIELD where one is not host:port or there is none."""
        ...

    def connected(self) -> Sequence[GatewayState]:
        """Every gateway that is connected now, by name."""
        ...


class Admission(Protocol):
    """Gateways that tell callers apart."""

    async def admit(self, callers: Callers) -> None:
        """Makes these the callers that every gateway lets in, also those that connect later. Gateways go by it a moment
        later. Never raises for what a gateway does. Called one at a time."""
        ...


class AdmittingGateways(Gateways, Admission, Protocol):
    """Both."""


class AccessSource(Protocol):
    """The registry, which knows who may call and whose models are."""

    def watch(self) -> AsyncIterator[AccessUpdate]:
        """All there is, then every change. Raises DEPENDENCY_UNAVAILABLE where the registry goes away."""
        ...


class AccessStore(Protocol):
    """Where its last word is kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def load(self) -> Access | None:
        """What was kept last; None where nothing was."""
        ...

    async def keep_callers(self, callers: Callers) -> None:
        """Keeps these in place of those before."""
        ...

    async def keep_owners(self, owners: Owners) -> None:
        """Keeps these in place of those before."""
        ...


class BackendSource(Protocol):
    """The deployer."""

    def watch(self) -> AsyncIterator[BackendUpdate]:
        """All that is ready, then every change. Raises DEPENDENCY_UNAVAILABLE where the deployer goes away."""
        ...


class Deployments(Protocol):
    """The deployer, asked for deployments. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def every(self, model_name: str) -> Sequence[Deployed]:
        """All deployments of a model; of all models where it is empty."""
        ...

    async def deploy(self, spec: Spec, *, request_id: str) -> None:
        """Has the version deployed as `spec` says; with defaults where that is empty. With the same `request_id`, where
        it is not empty, it is done once. Raises what the deployer refuses it with."""
        ...

    async def restart(self, model_name: str, deployment_name: str) -> None:
        """Has it tried again. Raises DEPLOYMENT_NOT_FOUND."""
        ...

    async def wait(self, model_name: str, deployment_name: str, *, timeout_s: float) -> Deployed:
        """Returns once the deployment is active or failed, or after `timeout_s` seconds as it is then. Raises
        DEPLOYMENT_NOT_FOUND."""
        ...


class AliasSource(Protocol):
    """The registry, asked for aliases."""

    async def every(self) -> Mapping[str, Mapping[str, str]]:
        """The version that each alias names, by alias, by model; models without aliases may be left out. Raises
        DEPENDENCY_UNAVAILABLE."""
        ...

    async def of(self, model_name: str) -> Mapping[str, str]:
        """The version that each alias of a model names; none where there is no such model. Raises
        DEPENDENCY_UNAVAILABLE."""
        ...

    def changes(self) -> AsyncIterator[str]:
        """First an empty word: whatever changes from now on will be told. Then, of each change, the model whose aliases
        it may have changed; now and then an empty word that the stream lives. Raises a MeshError where it breaks."""
        ...


class SpecStore(Protocol):
    """Where it is kept how versions were deployed. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def keep(self, specs: Sequence[Spec]) -> None:
        """Keeps these in place of what was known of their versions."""
        ...

    async def find(self, model_name: str, version: str) -> Spec | None:
        """How the version was deployed last; None where that was never seen."""
        ...


class RuleStore(Protocol):
    """Where traffic rules are kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def generations(self) -> Mapping[str, int]:
        """The generation of every rule, by model: what to look at to learn which were changed."""
        ...

    async def marks(self, *, after: int, limit: int) -> Sequence[ChangeMark]:
        """The newest changes of all models, at most `limit` of those numbered above `after`, newest first. One with a
        smaller number may turn up a moment later."""
        ...

    async def some(self, model_names: Sequence[str]) -> Sequence[Rule]:
        """The rules of these models, of those that have one."""
        ...

    async def find(self, model_name: str) -> Rule | None:
        """The rule of a model."""
        ...

    async def save(self, change: NewChange, *, generation: int) -> Rule | None:
        """Makes `change.after` the model's split and writes the change into the history, both or neither.

        `generation` is that of the rule that was read, 0 where there was none. None, and nothing is changed, where it
        is no longer the current one, or where `change.request_id` was taken before.
        """
        ...

    async def shown(self, model_name: str, *, after: str, limit: int) -> Sequence[ShownRule]:
        """At most `limit` of all rules of a model by name, its shadows and rollouts included, of those whose name is
        greater than `after`."""
        ...

    async def shown_one(self, model_name: str, rule_name: str) -> ShownRule | None:
        """One of them."""
        ...

    async def digest_of(self, request_id: str) -> str | None:
        """The `request_digest` of the change that was made under this id; None where there was none."""
        ...

    async def changes(self, model_name: str, *, before: int | None, limit: int) -> Sequence[Change]:
        """At most `limit` changes of a model, newest first, numbered below `before` (None: from the newest)."""
        ...


class TableStore(Protocol):
    """Where the last good serving table is kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def load(self) -> Mapping[str, ServingModel] | None:
        """What was saved last; None where nothing is kept: that may mean that nothing is served, or that nothing is
        known yet."""
        ...

    async def save(self, models: Sequence[ServingModel], removed: Sequence[str]) -> None:
        """Keeps these models and forgets those."""
        ...

    async def reserve_revisions(self) -> range:
        """Revisions that nobody was given before, all greater than those that were, also across restarts."""
        ...


class Board(Protocol):
    """Where the router's figures are shown. Never raises."""

    def published(self, revision: int, seconds: float, late: int) -> None:
        """A revision reached the gateways after `seconds`; `late` batchers had not acknowledged it in time."""
        ...

    def deployer(self, *, connected: bool) -> None:
        """Whether the deployer's stream is open."""
        ...


class RolloutBoard(Protocol):
    """Where it is counted how rollouts end. Never raises."""

    def ended(self, kind: RolloutKind, status: str) -> None:
        """This router ended a rollout: `status` says how, in the words of its kind."""
        ...


class HealthSource(Protocol):
    """A service of the mesh that can be asked how it is."""

    async def ask(self, service: str) -> Health:
        """How the service of that full name is. Never raises; may take long."""
        ...


class RolloutStore(Protocol):
    """Where rollouts are kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def running(self) -> Sequence[Rollout]:
        """All that run or are paused."""
        ...

    async def find(self, model_name: str, name: str) -> Rollout | None:
        """The rollout of that name, also where it has ended."""
        ...

    async def page(
        self, model_name: str, kind: RolloutKind, *, status: str = "", before: int | None = None, limit: int
    ) -> Sequence[Rollout]:
        """At most `limit` rollouts of a kind, newest first, numbered below `before` (None: from the newest); only those
        of `status` where it is given."""
        ...

    async def save(
        self,
        rollout: Rollout,
        *,
        generation: int,
        change: NewChange | None = None,
        rule_generation: int = 0,
        fence: int | None = None,
        events: Sequence[RolloutEvent] = (),
    ) -> Saved | Mismatch:
        """Stores the rollout, `change` of its model's rule and `events`, all or nothing.

        `generation` is that of the rollout that was read, 0 where it is new; `rule_generation` that of the rule.
        `fence` is the token of the leader that decided; None where a caller did. A mismatch says why nothing was
        stored.
        """
        ...

    async def note(self, rollout: Rollout, results: Document, *, fence: int) -> bool:
        """Keeps what the rollout shows, without a new generation; whether it is still the one that was read, and the
        fence holds."""
        ...


class Leases(Protocol):
    """Who may act, by the clock of the store. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def acquire(self, name: str, holder: str, *, ttl_s: float) -> int | None:
        """A token that is greater than all before, for `ttl_s` seconds; None where somebody holds the lease."""
        ...

    async def renew(self, name: str, token: int, *, ttl_s: float) -> bool:
        """Holds it for `ttl_s` seconds from now; false where another token was given out."""
        ...

    async def release(self, name: str, token: int) -> None:
        """Lets the next one have it at once."""
        ...


class EvidenceSource(Protocol):
    """The monitor, asked what versions do."""

    def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
        """What each version did since `start`, complete each time, every 2 s or so. Raises a MeshError where the
        monitor goes away."""
        ...


class EventStore(Protocol):
    """Events that the monitor has not taken yet. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def pending(self, *, limit: int) -> Sequence[RolloutEvent]:
        """The oldest, in their order."""
        ...

    async def taken(self, event_ids: Sequence[str]) -> None:
        """Forgets them."""
        ...

    async def refused(self, event_id: str, why: str) -> None:
        """Keeps it with the reason, for people to find, and offers it no more."""
        ...


class EventSink(Protocol):
    """The monitor, told what happened."""

    async def report(self, events: Sequence[RolloutEvent]) -> None:
        """Returns once they are stored. Raises INVALID_FIELD where it will never take them, else another MeshError."""
        ...
