"""Logging policies: set by people, followed by batchers and by this monitor's own sampling."""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from dataclasses import dataclass

from services.common.clock import Clock
from services.common.errors import MeshError, Reason
from services.common.names import check_model_name, check_version
from services.common.telemetry.logging import get_logger
from services.monitor.domain.logging_policies import LoggingPolicy, PolicyBook, changed, effective
from services.monitor.ports_log import PolicyStore

log = get_logger(__name__)

_LOOK_PERIOD_S = 1.0
_A_READ = 1000
_TRIES_MAX = 5


@dataclass(frozen=True, slots=True)
class Told:
    """Policies as they are now; `full`: what is not among them or what follows does not exist."""

    policies: Sequence[LoggingPolicy]
    full: bool


class LoggingPolicies:
    """Owns policies. `load` reads them at the start, `run`, a background task, follows changes, also those that other
    monitors make; `close` ends the streams."""

    def __init__(self, *, store: PolicyStore, clock: Clock, default_rate: float) -> None:
        self._store = store
        self._clock = clock
        self._default_rate = default_rate
        self._book = PolicyBook(default_rate=default_rate)
        self._known: dict[tuple[str, str], tuple[int, LoggingPolicy]] = {}
        self._last_change = 0
        self._changed = asyncio.Condition()
        self._closed = False

    def rate(self, model: str, version: str) -> float:
        """The share of a version's successful requests that is logged now."""
        return self._book.rate(model, version)

    async def get(self, model: str, version: str) -> LoggingPolicy:
        """What holds for a version, or for the model where the version is empty."""
        check_model_name(model)
        name = check_version(version) if version else ""
        own = await self._store.get(model, name)
        models = await self._store.get(model, "") if own is None and name else None
        return effective(model, name, own=own, models=models, default_rate=self._default_rate)

    async def update(self, sent: LoggingPolicy, fields: Collection[str], *, expected: int | None) -> LoggingPolicy:
        """Changes these fields, or all where there are none. Raises INVALID_FIELD, and ETAG_MISMATCH where the policy
        is not of the expected revision; None: it may be of any."""
        for _ in range(_TRIES_MAX):
            current = await self.get(sent.model, sent.version)
            if expected is not None and current.revision != expected:
                break
            stored = await self._store.put(changed(current, sent, fields), expected=current.revision)
            if stored is not None:
                await self._look()
                return stored
        raise MeshError(Reason.ETAG_MISMATCH, "the policy has changed since it was read; read it again and decide anew")

    async def watch(self) -> AsyncGenerator[Told, None]:
        """All policies, then each that changes. Raises SHUTTING_DOWN where the monitor stops."""
        seen, full = 0, True
        while True:
            found = {change: policy for change, policy in self._known.values() if change > seen}
            changes = sorted(found)
            for first in range(0, max(len(changes), 1), _A_READ):
                yield Told([found[change] for change in changes[first : first + _A_READ]], full=full)
                full = False
            seen = max(changes, default=seen)
            await self._wait_for_change(seen)
            if self._closed:
                raise MeshError(Reason.SHUTTING_DOWN, "the monitor stops; connect again", retry_after_s=1.0)

    async def load(self) -> None:
        """Reads all policies. Raises MeshError where the database does not answer."""
        await self._look()

    async def run(self) -> None:
        """Looks every second whether something changed."""
        while True:
            await self._clock.sleep(_LOOK_PERIOD_S)
            try:
                await self._look()
            except MeshError as error:
                log.warning("logging policies not read; tried again", reason=error.message)

    async def close(self) -> None:
        """Ends the streams; whoever watched asks again elsewhere or later."""
        self._closed = True
        async with self._changed:
            self._changed.notify_all()

    async def _wait_for_change(self, seen: int) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: self._closed or self._last_change > seen)

    async def _look(self) -> None:
        while found := await self._store.changed(after=self._last_change, limit=_A_READ):
            self._book.put(policy for _, policy in found)
            self._known.update({(policy.model, policy.version): (change, policy) for change, policy in found})
            self._last_change = found[-1][0]
            async with self._changed:
                self._changed.notify_all()
            if len(found) < _A_READ:
                return
