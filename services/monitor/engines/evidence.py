"""Streams the evidence that rollouts are judged by.

Whoever watches asks; one task answers all who asked, in one read. So a hundred watches cost a few reads a second of all
together, and watches of the same window share what was read. What a read took sets the pause after it: reading never
takes more than a quarter of the time, however many ask.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from datetime import datetime, timedelta

from services.common.clock import Clock
from services.common.errors import MeshError, Reason, invalid
from services.common.names import check_model_name, check_version
from services.monitor.domain.evidence import (
    VERSIONS_MAX,
    Evidence,
    Sums,
    WatchKey,
    check_start,
    version_evidence,
)
from services.monitor.ports import EvidenceStore

_WATCHES_MAX = 1000
_GAP_S = 0.5
_REST_FACTOR = 3.0
_REGISTER_PERIOD_S = 600.0
_ANSWER_TIMEOUT_S = 60.0
_CHUNK_S = 1.0
"""How long a batcher gathers requests before it sends them, at most."""


class EvidenceEngine:
    """Owns the watches. `run`, a background task, answers them; `keep` removes what none needs."""

    def __init__(self, *, store: EvidenceStore, clock: Clock, flush_period_s: float) -> None:
        self._store = store
        self._clock = clock
        self._lag = timedelta(seconds=flush_period_s + _CHUNK_S)
        self._asked: dict[WatchKey, asyncio.Future[Sums]] = {}
        self._has_asked = asyncio.Event()
        self._watching = 0

    async def watch(
        self, model: str, versions: Sequence[str], *, start: datetime | None, period_s: float
    ) -> AsyncGenerator[Evidence, None]:
        """What each version did since `start`, again and again. Raises INVALID_FIELD for a wrong question, QUEUE_FULL
        where too many watch, DEPENDENCY_UNAVAILABLE where the database does not answer.
        """
        key = WatchKey(check_model_name(model), check_start(start, self._clock.now()))
        names = _check_versions(versions)
        if self._watching >= _WATCHES_MAX:
            raise MeshError(
                Reason.QUEUE_FULL,
                f"{_WATCHES_MAX} watches are open at this monitor already; end some or ask another one",
                retry_after_s=5.0,
            )
        self._watching += 1
        try:
            registered_s = None
            while True:
                if registered_s is None or self._clock.monotonic() - registered_s > _REGISTER_PERIOD_S:
                    await self._store.register(key, now=self._clock.now())
                    registered_s = self._clock.monotonic()
                end = self._complete_until()
                sums = await self._ask(key)
                yield Evidence(
                    window_start=sums.begins,
                    window_end=max(end, sums.begins),
                    versions=[version_evidence(name, sums) for name in names],
                    dropped=sums.dropped,
                )
                await self._clock.sleep(period_s)
        finally:
            self._watching -= 1

    async def run(self) -> None:
        """Answers whoever asked, all in one read, then rests."""
        while True:
            await self._has_asked.wait()
            began_s = self._clock.monotonic()
            await self._answer()
            await self._clock.sleep(max(_GAP_S, _REST_FACTOR * (self._clock.monotonic() - began_s)))

    async def keep(self) -> None:
        """Removes what no watch needs."""
        await self._store.forget(now=self._clock.now())

    def _complete_until(self) -> datetime:
        """The newest second of which all is stored where all goes well: a batcher's chunk and a flush ago."""
        return (self._clock.now() - self._lag).replace(microsecond=0)

    async def _ask(self, key: WatchKey) -> Sums:
        asked = self._asked.get(key)
        if asked is None:
            asked = self._asked[key] = asyncio.get_running_loop().create_future()
            self._has_asked.set()
        try:
            async with asyncio.timeout(_ANSWER_TIMEOUT_S):
                # Others may wait for the same answer.
                return await asyncio.shield(asked)
        except TimeoutError:
            raise _interrupted() from None

    async def _answer(self) -> None:
        asked, self._asked = self._asked, {}
        self._has_asked.clear()
        try:
            found = await self._store.read(list(asked), now=self._clock.now())
        except BaseException as error:
            _fail(asked.values(), error)
            if not isinstance(error, MeshError):
                raise
            return
        for key, future in asked.items():
            future.set_result(found[key])


def _fail(futures: Iterable[asyncio.Future[Sums]], error: BaseException) -> None:
    told = error if isinstance(error, MeshError) else _interrupted()
    for future in futures:
        future.set_exception(told)
        future.exception()  # seen: whoever asked may be gone


def _interrupted() -> MeshError:
    return MeshError(
        Reason.DEPENDENCY_UNAVAILABLE, "the evidence could not be read now; watch again", retry_after_s=1.0
    )


def _check_versions(versions: Sequence[str]) -> list[str]:
    if not 1 <= len(versions) <= VERSIONS_MAX:
        raise invalid("versions", f"{len(versions)} versions", f"1 to {VERSIONS_MAX} versions")
    return [check_version(version, f"versions[{place}]") for place, version in enumerate(versions)]
