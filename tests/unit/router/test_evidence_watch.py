"""Evidence is followed without end, in virtual time: what goes away is dialled again, and that is said."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta

import pytest

from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.router.domain.evidence import Evidence
from services.router.engines.evidence import Away, EvidenceWatch, followed

pytestmark = pytest.mark.looptime
START = datetime(2026, 1, 15, 12, 0, 30, 700_000, tzinfo=UTC)


class Scripted:
    """A monitor of which each dial goes by the next of its scripts: seconds between answers, None where it hangs; then
    it goes away, unless it hangs."""

    def __init__(self, *scripts: Sequence[float | None]) -> None:
        self._scripts = list(scripts)
        self.dials: list[tuple[float, datetime]] = []
        self.open = 0

    async def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
        """As scripted."""
        self.dials.append((asyncio.get_running_loop().time(), start))
        script = self._scripts.pop(0) if self._scripts else []
        self.open += 1
        try:
            for pause_s in script:
                if pause_s is None:
                    await asyncio.Event().wait()
                else:
                    await asyncio.sleep(pause_s)
                yield Evidence(start, start + timedelta(seconds=10), {})
        finally:
            self.open -= 1
        raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "the monitor does not answer")


def clock() -> LoopClock:
    return LoopClock(START)


async def test_it_goes_on_after_the_monitor_went_away() -> None:
    source = Scripted([1.0, 1.0], [], [], [1.0])
    said: list[bool] = []
    async with aclosing(followed(source, "digits", ["v1.0.0"], START, clock=clock())) as answers:
        async for answer in answers:
            said.append(isinstance(answer, Evidence))
            if isinstance(answer, Away):
                assert "the monitor does not answer" in answer.message
            if len(said) == 6:
                break
    assert said == [True, True, False, False, False, True]
    # To the full second, and again after 0.1, 0.2 and 0.4 s.
    assert {start for _, start in source.dials} == {START.replace(microsecond=0)}
    assert [round(moment, 3) for moment, _ in source.dials] == [0.0, 2.1, 2.3, 2.7]
    assert source.open == 0


async def test_it_is_patient_but_not_for_ever() -> None:
    source = Scripted(*[[] for _ in range(100)])
    async with aclosing(followed(source, "digits", ["v1.0.0"], START, clock=clock())) as answers:
        async for _ in answers:
            if len(source.dials) == 20:
                break
    pauses = [after - before for (before, _), (after, _) in zip(source.dials[:-1], source.dials[1:], strict=True)]
    assert max(pauses) == pytest.approx(5.0)


async def test_a_monitor_that_falls_silent_is_away() -> None:
    source = Scripted([1.0, None], [1.0])
    said: list[Evidence | Away] = []
    async with aclosing(followed(source, "digits", ["v1.0.0"], START, clock=clock(), silent_s=15.0)) as answers:
        async for answer in answers:
            said.append(answer)
            if len(said) == 3:
                break
    assert isinstance(said[1], Away)
    assert "15 s" in said[1].message
    assert isinstance(said[2], Evidence)
    assert source.open == 0


async def test_a_watch_keeps_the_newest_and_tells_of_news() -> None:
    source = Scripted([1.0, 3.0], [2.0, None])
    news: list[str] = []
    async with EvidenceWatch(source, "digits", ["v1.0.0"], START, clock=clock(), told=lambda: news.append("")) as watch:
        shown = [(watch.evidence is not None, watch.error[:33])]
        for pause_s in (1.5, 2.6, 2.1):
            await asyncio.sleep(pause_s)
            shown.append((watch.evidence is not None, watch.error[:33]))
        # What went away is not evidence any more.
        away = "nothing is judged at the moment: "
        assert shown == [(False, ""), (True, ""), (False, away), (True, "")]
        assert len(news) == 4
    assert source.open == 0


@pytest.mark.logs_errors
async def test_what_cannot_be_read_is_said_too() -> None:
    class Broken(Scripted):
        async def watch(self, model_name: str, versions: Sequence[str], start: datetime) -> AsyncIterator[Evidence]:
            self.dials.append((0.0, start))
            if len(self.dials) == 1:
                raise ValueError("buckets and counts differ")
            yield Evidence(start, start, {})
            await asyncio.Event().wait()

    source = Broken()
    async with EvidenceWatch(source, "digits", [], START, clock=clock(), told=lambda: None) as watch:
        await asyncio.sleep(0.1)
        assert "buckets and counts differ" in watch.error
        await asyncio.sleep(6.0)
        assert watch.evidence is not None
