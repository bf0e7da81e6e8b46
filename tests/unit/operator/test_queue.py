"""The work queue, in virtual time."""

import asyncio
from datetime import UTC, datetime

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.operator.engines.queue import Look, WorkQueue
from services.operator.ports import Name

pytestmark = pytest.mark.looptime
CLOCK = LoopClock(datetime(2026, 1, 1, tzinfo=UTC))
ONE, OTHER = ("vision", "one"), ("vision", "other")


def queue_of(look: Look, *, workers: int = 2, gap_s: float = 0.2) -> WorkQueue:
    return WorkQueue(look, clock=CLOCK, workers=workers, gap_s=gap_s, what="test")


async def run_for(queue: WorkQueue, seconds: float) -> None:
    task = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(seconds)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Looks:
    """Looks that take a second, and when each began."""

    def __init__(self, takes_s: float = 1.0) -> None:
        self.began: list[tuple[float, str]] = []
        self.busy: dict[Name, int] = {}
        self._takes_s = takes_s

    async def __call__(self, name: Name) -> float | None:
        self.began.append((asyncio.get_running_loop().time(), name[1]))
        self.busy[name] = self.busy.get(name, 0) + 1
        assert self.busy[name] == 1, "two at one object"
        await asyncio.sleep(self._takes_s)
        self.busy[name] -= 1
        return None


async def test_what_is_named_often_is_looked_at_once_and_again_if_named_meanwhile() -> None:
    looks = Looks()
    queue = queue_of(looks)
    running = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(0)
    for _ in range(5):
        queue.add(ONE)
    await asyncio.sleep(0.5)
    queue.add(ONE)
    queue.add(ONE)
    assert len(queue) == 1
    await asyncio.sleep(5)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert looks.began == [(0.0, "one"), (1.0, "one")]
    assert len(queue) == 0


async def test_objects_side_by_side_as_many_as_there_are_workers() -> None:
    looks = Looks()
    queue = queue_of(looks, workers=2)
    running = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(0)
    for name in ("a", "b", "c"):
        queue.add(("vision", name))
    await asyncio.sleep(3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert [at for at, _ in looks.began] == [0.0, 0.0, 1.0]


async def test_failures_are_further_and_further_apart_until_one_succeeds() -> None:
    began: list[float] = []

    async def look(_: Name) -> float | None:
        began.append(asyncio.get_running_loop().time())
        if len(began) < 5:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "away")
        return None

    queue = queue_of(look)
    running = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(0)
    queue.add(ONE)
    await asyncio.sleep(60)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert began == pytest.approx([0.0, 0.5, 1.5, 3.5, 7.5])


async def test_looking_again_is_at_the_time_that_was_asked_for() -> None:
    began: list[float] = []

    async def look(_: Name) -> float | None:
        began.append(asyncio.get_running_loop().time())
        return 10.0 if len(began) < 3 else None

    queue = queue_of(look)
    running = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(0)
    queue.add(ONE)
    await asyncio.sleep(100)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert began == pytest.approx([0.0, 10.0, 20.0])


async def test_another_run_begins_without_what_waited() -> None:
    looks = Looks()
    queue = queue_of(looks)
    queue.add(ONE)
    queue.add(OTHER)
    await run_for(queue, 5)
    assert looks.began == []


@pytest.mark.logs_errors
async def test_what_was_not_foreseen_is_tried_again_and_the_worker_lives() -> None:
    began = 0

    async def look(_: Name) -> float | None:
        nonlocal began
        began += 1
        if began == 1:
            raise ValueError("a bug")
        return None

    queue = queue_of(look)
    running = asyncio.create_task(queue.run(), name="queue")
    await asyncio.sleep(0)
    queue.add(ONE)
    await asyncio.sleep(2)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert began == 2
