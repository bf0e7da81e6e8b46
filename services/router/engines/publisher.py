"""Brings every change to those who carry it out, in an order in which no request meets half of it.

A version that comes is made known to the batchers first, and gateways route to it once all of them have acknowledged
it. A version that goes is taken out of the gateways' routes first, and is forgotten by the batchers afterwards. Changes
that arrive meanwhile wait and then go together, so a burst costs as much as two changes.

Nothing is published before something is known, be it from the deployer or from the table that was saved last: gateways
and batchers must never take "not known yet" for "nothing there".
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.signals import Signal
from services.common.telemetry.logging import get_logger
from services.router.domain.access import Owners, changed_owners
from services.router.domain.backends import Backends, BackendUpdate, updated
from services.router.domain.merge import ModelState, ServingModel, state_of
from services.router.domain.routing import ModelRoutes, RoutingTable
from services.router.domain.table import ServingTable, brings_news, transitional
from services.router.engines.batchers import Batchers
from services.router.engines.rules import RuleBook
from services.router.ports import Board, Gateways, TableStore

log = get_logger(__name__)

V = TypeVar("V", ServingModel, ModelRoutes)

_RETRY_S = 0.5


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """How long it waits for whom, in seconds."""

    batchers_patience_s: float = 2.0
    """For the acknowledgement of connected batchers; then gateways are told all the same."""
    first_word_s: float = 2.0
    """For the deployer's first word after the start, where there is a saved table to fall back on. Gateways and
    batchers go on meanwhile, and that table may be a moment older than what they have."""
    first_batcher_s: float = 2.0
    """For a first batcher after the start: they come back within this time when the router was restarted."""


class Publisher:
    """The only one that tells batchers and gateways anything."""

    def __init__(
        self,
        *,
        rules: RuleBook,
        batchers: Batchers,
        gateways: Gateways,
        store: TableStore,
        board: Board,
        clock: Clock,
        options: PublisherOptions,
    ) -> None:
        self._rules = rules
        self._batchers = batchers
        self._gateways = gateways
        self._store = store
        self._board = board
        self._clock = clock
        self._options = options
        self._backends: Backends | None = None
        self._heard = False
        self._aliases: Mapping[str, Mapping[str, str]] = {}
        self._owners: Owners = {}
        self._states: Mapping[str, ModelState] = {}
        self._routing = RoutingTable()
        self._dirty: set[str] = set()
        self._unsaved: set[str] = set()
        self._asked = 0
        self._done = 0
        self._changed = Signal()
        self._revisions: Iterator[int] = iter(())

    @property
    def known(self) -> bool:
        """Whether something is known to be published."""
        return self._backends is not None

    @property
    def states(self) -> Mapping[str, ModelState]:
        """What holds for each model, as gateways were told last."""
        return self._states

    @property
    def routing(self) -> RoutingTable:
        """What gateways were told last."""
        return self._routing

    @property
    def changed(self) -> Signal:
        """Fires whenever something was published."""
        return self._changed

    @property
    def backends(self) -> Backends:
        """What is ready by the deployer's last word."""
        return self._backends or {}

    async def restore(self) -> None:
        """Begins with the table that was saved last, and reserves revisions above all that were ever given out."""
        self._revisions = iter(await self._store.reserve_revisions())
        saved = await self._store.load()
        if saved is None:
            log.info("no table was ever saved; the deployer's word is awaited")
            return
        self._backends = {name: model.ready for name, model in saved.items()}
        # The saved default is that of the model until something else is published.
        self._states = {
            name: state_of(model.ready, None, default=model.default_version, owner=self._owners.get(name))
            for name, model in saved.items()
        }
        self._aliases = {name: model.aliases for name, model in saved.items()}
        self.touch(saved)
        log.info("restored the last table", models=len(saved))

    def backends_changed(self, update: BackendUpdate) -> None:
        """Takes the deployer's word."""
        first, self._heard = not self._heard, True
        self._backends, changed = updated(self.backends, update)
        if changed or first:
            log.info("what is ready has changed", deployer_revision=update.revision, models=sorted(changed)[:20])
            self.touch(changed)

    @property
    def aliases(self) -> Mapping[str, Mapping[str, str]]:
        """The registry's aliases by model, as they are known here; each names a version."""
        return self._aliases

    def aliases_changed(self, aliases: Mapping[str, Mapping[str, str]]) -> None:
        """Takes the registry's word: all aliases, by model."""
        changed = {name for name in {*self._aliases, *aliases} if self._aliases.get(name, {}) != aliases.get(name, {})}
        self._aliases = dict(aliases)
        if changed:
            log.info("aliases have changed", models=sorted(changed)[:20])
            self.touch(changed & set(self.backends))

    def owners_changed(self, owners: Owners) -> None:
        """Takes the registry's word: whose each model is, and with whom it is shared."""
        changed = changed_owners(self._owners, owners)
        self._owners = owners
        if changed:
            log.info("owners or shares have changed", models=sorted(changed)[:20])
            self.touch(changed & set(self.backends))

    def touch(self, models: Iterable[str]) -> int:
        """Has these models looked at again; what `caught_up` waits for."""
        self._dirty.update(models)
        self._asked += 1
        self._changed.fire()
        return self._asked

    async def caught_up(self, ticket: int, *, timeout_s: float) -> bool:
        """Returns once what was touched has reached the gateways, or after `timeout_s` seconds; whether it has."""
        return await self._changed.until(lambda: self._done >= ticket, timeout_s=timeout_s)

    async def brought(self, model_name: str, *, timeout_s: float) -> bool:
        """Returns once what was stored of a model has reached the gateways, or after `timeout_s` seconds; whether it
        has."""
        return await self.caught_up(self.touch([model_name]), timeout_s=timeout_s)

    async def run(self) -> None:
        """Publishes whenever something changed. Never ends by itself."""
        if self.known:
            await self._changed.until(lambda: self._heard, timeout_s=self._options.first_word_s)
        while True:
            changed = self._changed.current
            if self._backends is not None and self._asked > self._done:
                asked = self._asked
                await self._publish_dirty()
                self._done = asked
                self._changed.fire()
            else:
                await changed.wait()

    async def save(self) -> None:
        """Keeps the saved table equal to the published one. Never ends by itself."""
        while True:
            changed = self._changed.current
            names, self._unsaved = self._unsaved, set()
            if not names:
                await changed.wait()
                continue
            states = [self._states[name].serving for name in names if name in self._states]
            try:
                await self._store.save(states, [name for name in names if name not in self._states])
            except MeshError as error:
                self._unsaved |= names
                log.warning("the table could not be saved; it is tried again", error=error.message)
                await self._clock.sleep(_RETRY_S)
            except BaseException:
                self._unsaved |= names
                raise

    async def _publish_dirty(self) -> None:
        dirty, self._dirty = self._dirty, set()
        try:
            await self._publish(dirty)
        except BaseException:
            self._dirty |= dirty
            raise

    async def _publish(self, dirty: Iterable[str]) -> None:
        began_s = self._clock.monotonic()
        names = sorted(dirty)
        states = self._with_changes(names)
        wanted = {name: states[name].serving if name in states else None for name in names}
        routes = {name: states[name].routes if name in states else None for name in names}
        known, routed = self._batchers.table.models, self._routing.models
        both = {name: transitional(wanted[name], known.get(name), routed.get(name)) for name in names}
        news = any(brings_news(known.get(name), both[name]) for name in names)
        first = self._routing.revision == 0
        told = await self._tell_batchers(both)
        late: Sequence[str] = ()
        if news or first or any(_sends_elsewhere(routed.get(name), routes[name]) for name in names):
            late = await self._batchers_are_ready(first=first)
        await self._tell_gateways(routes, revision=told)
        # Whatever was only kept for the old routes may go now.
        await self._tell_batchers(wanted)
        self._states = states
        self._unsaved.update(names)
        self._report(names, seconds=self._clock.monotonic() - began_s, late=late)

    def _with_changes(self, names: Iterable[str]) -> Mapping[str, ModelState]:
        states = dict(self._states)
        for name in names:
            ready, before = self.backends.get(name), states.pop(name, None)
            if ready is not None:
                default = before.serving.default_version if before is not None else ""
                rule = self._rules.rules.get(name)
                states[name] = state_of(
                    ready,
                    rule.split if rule is not None else None,
                    default=default,
                    aliases=self._aliases.get(name),
                    log_labels=rule is not None and rule.log_labels,
                    owner=self._owners.get(name),
                )
        return states

    async def _tell_batchers(self, changes: Mapping[str, ServingModel | None]) -> int | None:
        """Makes `changes` to the serving table; its new revision, None where it has all of them already."""
        table = self._batchers.table
        if table.revision and all(table.models.get(name) == model for name, model in changes.items()):
            return None
        revision = await self._next_revision()
        self._batchers.tell(ServingTable(revision, _changed(table.models, changes)))
        return revision

    async def _batchers_are_ready(self, *, first: bool) -> Sequence[str]:
        if first:
            await self._batchers.someone(timeout_s=self._options.first_batcher_s)
        revision = self._batchers.table.revision
        late = await self._batchers.acknowledged(revision, timeout_s=self._options.batchers_patience_s)
        if late:
            log.warning(
                "batchers have not taken the table; gateways are told all the same", late=late, revision=revision
            )
        return late

    async def _tell_gateways(self, changes: Mapping[str, ModelRoutes | None], *, revision: int | None) -> None:
        table = self._routing
        if table.revision and all(table.models.get(name) == routes for name, routes in changes.items()):
            return
        revision = revision if revision is not None else await self._next_revision()
        # Noted before they are told: from here on some may route by it.
        self._routing = RoutingTable(revision, _changed(table.models, changes))
        await self._gateways.publish(self._routing)

    async def _next_revision(self) -> int:
        while True:
            for revision in self._revisions:
                return revision
            try:
                self._revisions = iter(await self._store.reserve_revisions())
            except MeshError as error:
                log.warning("no revisions could be reserved; it is tried again", error=error.message)
                await self._clock.sleep(_RETRY_S)

    def _report(self, names: Sequence[str], *, seconds: float, late: Sequence[str]) -> None:
        revision = max(self._routing.revision, self._batchers.table.revision)
        self._board.published(revision, seconds, len(late))
        log.info("published", revision=revision, models=names[:20], count=len(names), ms=round(seconds * 1000, 1))


def _sends_elsewhere(before: ModelRoutes | None, after: ModelRoutes | None) -> bool:
    """Whether `after` gives a share to a version that had none."""
    had = {share.version for share in before.shares} if before is not None else set()
    return after is not None and any(share.version not in had for share in after.shares)


def _changed(models: Mapping[str, V], changes: Mapping[str, V | None]) -> Mapping[str, V]:
    """`models` with `changes`, in order of name; None takes a model out."""
    merged = {**models, **changes}
    return {name: model for name, model in sorted(merged.items()) if model is not None}
