"""What the engines need of the world, as small protocols. Each has a fake that passes the same tests."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Protocol

from services.router.domain.backends import BackendUpdate
from services.router.domain.health import Health
from services.router.domain.merge import ServingModel
from services.router.domain.routing import GatewayState, RoutingTable
from services.router.domain.rules import Change, NewChange, Rule


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


class BackendSource(Protocol):
    """The deployer."""

    def watch(self) -> AsyncIterator[BackendUpdate]:
        """All that is ready, then every change. Raises DEPENDENCY_UNAVAILABLE where the deployer goes away."""
        ...


class RuleStore(Protocol):
    """Where traffic rules are kept. Every call may raise DEPENDENCY_UNAVAILABLE."""

    async def every(self) -> Sequence[Rule]:
        """All rules."""
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


class HealthSource(Protocol):
    """A service of the mesh that can be asked how it is."""

    async def ask(self, service: str) -> Health:
        """How the service of that full name is. Never raises; may take long."""
        ...
