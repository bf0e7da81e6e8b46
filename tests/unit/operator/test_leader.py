"""Leader election, in virtual time: at most one works at a time, and somebody always does in the end."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import pytest

from services.common.body import Body, text
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.operator.domain.lease import LeaseTerms
from services.operator.engines.leader import Leader

pytestmark = pytest.mark.looptime
CLOCK = LoopClock(datetime(2026, 1, 1, tzinfo=UTC))
TERMS = LeaseTerms(lasts_s=15, renew_s=3.0, gives_up_s=10.0, try_s=2.0)


class Store:
    """A `LeaseStore` whose API server may be away, for all or for some."""

    def __init__(self) -> None:
        self.lease: dict[str, object] | None = None
        self.version = 0
        self.away = False

    async def read(self) -> Body | None:
        self._check()
        return self.lease

    async def write(self, spec: Body, *, over: Body | None) -> Body | None:
        self._check()
        if (over is None) != (self.lease is None):
            return None
        if over is not None and text(over, "metadata", "resourceVersion") != str(self.version):
            return None
        self.version += 1
        self.lease = {"metadata": {"resourceVersion": str(self.version)}, "spec": dict(spec)}
        return self.lease

    def _check(self) -> None:
        if self.away:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away")


class Cut(Store):
    """The same store over a line that may be cut."""

    def __init__(self, behind: Store) -> None:
        super().__init__()
        self._behind = behind

    async def read(self) -> Body | None:
        self._check()
        return await self._behind.read()

    async def write(self, spec: Body, *, over: Body | None) -> Body | None:
        self._check()
        return await self._behind.write(spec, over=over)


class Worker:
    """Work that notes when it is done, by whom."""

    def __init__(self, works: set[str], log: list[tuple[float, str, str]], me: str) -> None:
        self._works, self._log, self._me = works, log, me

    async def __call__(self) -> None:
        assert not self._works, "two at once"
        self._works.add(self._me)
        self._note("begins")
        try:
            await asyncio.Event().wait()
        finally:
            self._works.discard(self._me)
            self._note("ends")

    def _note(self, what: str) -> None:
        self._log.append((asyncio.get_running_loop().time(), self._me, what))


async def elections(
    stores: Mapping[str, Store], script: Callable[[dict[str, asyncio.Task[None]]], "asyncio.Future[None]"]
) -> list[tuple[float, str, str]]:
    works: set[str] = set()
    log: list[tuple[float, str, str]] = []
    tasks = {
        me: asyncio.create_task(
            Leader(Worker(works, log, me), store=store, me=me, clock=CLOCK, terms=TERMS).run(), name=me
        )
        for me, store in stores.items()
    }
    await script(tasks)
    for task in tasks.values():
        task.cancel()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    return log


async def test_an_orderly_stop_hands_over_at_once() -> None:
    store = Store()

    async def script(tasks: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.sleep(5)
        tasks["a"].cancel()
        await asyncio.sleep(5)

    log = await elections({"a": store, "b": store}, lambda tasks: asyncio.ensure_future(script(tasks)))
    assert log[:3] == [(0.0, "a", "begins"), (5.0, "a", "ends"), (pytest.approx(6.0), "b", "begins")]


async def test_a_holder_that_hears_nothing_stops_before_anybody_else_begins() -> None:
    store = Store()
    lines = {"a": Cut(store), "b": Cut(store)}

    async def script(_: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.sleep(5)
        lines["a"].away = True
        await asyncio.sleep(60)

    log = await elections(lines, lambda tasks: asyncio.ensure_future(script(tasks)))
    (_, _, _), (stopped_s, who, what), (began_s, other, _) = log[:3]
    assert (who, what, other) == ("a", "ends", "b")
    assert 3 + TERMS.gives_up_s <= stopped_s <= 3 + TERMS.gives_up_s + TERMS.renew_s
    assert stopped_s < began_s <= 3 + TERMS.lasts_s + 2 * TERMS.try_s


async def test_an_api_server_that_is_away_for_all_gives_the_lease_to_one_when_it_is_back() -> None:
    store = Store()

    async def script(_: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.sleep(5)
        store.away = True
        await asyncio.sleep(60)
        store.away = False
        await asyncio.sleep(30)

    log = await elections({"a": store, "b": store, "c": store}, lambda tasks: asyncio.ensure_future(script(tasks)))
    begins = [at for at, _, what in log if what == "begins"]
    assert begins[0] == 0.0
    assert 65 <= begins[1] <= 70


async def test_a_short_break_changes_nothing() -> None:
    store = Store()

    async def script(_: dict[str, asyncio.Task[None]]) -> None:
        await asyncio.sleep(5)
        store.away = True
        await asyncio.sleep(6)
        store.away = False
        await asyncio.sleep(60)

    log = await elections({"a": store, "b": store}, lambda tasks: asyncio.ensure_future(script(tasks)))
    assert [(who, what) for _, who, what in log] == [("a", "begins"), ("a", "ends")]
