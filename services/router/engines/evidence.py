"""Evidence without end: the monitor is dialled again whenever it goes away or falls silent, and that is said."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from services.common.clock import Clock
from services.common.errors import MeshError
from services.common.telemetry.logging import get_logger
from services.router.domain.evidence import Evidence
from services.router.ports import EvidenceSource

log = get_logger(__name__)

_AGAIN_MIN_S = 0.1
_AGAIN_MAX_S = 5.0
_SILENT_S = 15.0
"""The monitor answers every 2 s; one that has not for so long hangs."""


@dataclass(frozen=True, slots=True)
class Away:
    """There is no evidence at the moment."""

    message: str
    """Why, in one sentence."""


async def followed(
    source: EvidenceSource,
    model_name: str,
    versions: Sequence[str],
    start: datetime,
    *,
    clock: Clock,
    silent_s: float = _SILENT_S,
) -> AsyncGenerator[Evidence | Away, None]:
    """What each version did since `start` (full seconds), again and again; `Away` each time that it cannot be had.

    Never ends by itself; close it (`contextlib.aclosing`) when it is not needed any more.
    """
    delay_s = _AGAIN_MIN_S
    while True:
        try:
            async with aclosing(_stream(source, model_name, versions, start, silent_s)) as stream:
                async for evidence in stream:
                    delay_s = _AGAIN_MIN_S
                    yield evidence
            why = "the monitor ended the stream of evidence"
        except MeshError as error:
            why = error.message
        except TimeoutError:
            why = f"the monitor has said nothing for {silent_s:g} s"
        yield Away(f"nothing is judged at the moment: {why}")
        await clock.sleep(delay_s)
        delay_s = min(delay_s * 2, _AGAIN_MAX_S)


async def _stream(
    source: EvidenceSource, model_name: str, versions: Sequence[str], start: datetime, silent_s: float
) -> AsyncGenerator[Evidence, None]:
    answers = source.watch(model_name, versions, start.replace(microsecond=0))
    try:
        while True:
            async with asyncio.timeout(silent_s):
                try:
                    evidence = await anext(answers)
                except StopAsyncIteration:
                    return
            yield evidence
    finally:
        if isinstance(answers, AsyncGenerator):
            await answers.aclose()


class EvidenceWatch:
    """The newest evidence, followed by a task of its own for as long as this is entered (`async with`)."""

    def __init__(
        self,
        source: EvidenceSource,
        model_name: str,
        versions: Sequence[str],
        start: datetime,
        *,
        clock: Clock,
        told: Callable[[], object],
    ) -> None:
        """`told` is called whenever there is news."""
        self._source = source
        self._model_name = model_name
        self._versions = versions
        self._start = start
        self._clock = clock
        self._told = told
        self._task: asyncio.Task[None] | None = None
        self._began_s = clock.monotonic()
        self.evidence: Evidence | None = None
        """The newest. None: there is none at the moment."""
        self.error = ""
        """Why there is none; empty also before the first."""

    @property
    def followed_s(self) -> float:
        """For how long it has been followed."""
        return self._clock.monotonic() - self._began_s

    async def __aenter__(self) -> Self:
        """Begins to follow."""
        self._began_s = self._clock.monotonic()
        self._task = asyncio.create_task(self._follow(), name=f"router:evidence on {self._model_name}")
        return self

    async def __aexit__(self, *_: object) -> None:
        """Ends it."""
        if self._task is not None:
            self._task.cancel()
            # Not awaited itself: whoever is cancelled meanwhile must still learn it.
            await asyncio.wait([self._task])

    async def _follow(self) -> None:
        while True:
            try:
                await self._take_all()
            except Exception as error:
                log.exception("evidence cannot be read", model=self._model_name)
                self._take(Away(f"nothing is judged at the moment: what the monitor says cannot be read ({error})"))
                await self._clock.sleep(_AGAIN_MAX_S)

    async def _take_all(self) -> None:
        answers = followed(self._source, self._model_name, self._versions, self._start, clock=self._clock)
        async with aclosing(answers):
            async for answer in answers:
                self._take(answer)

    def _take(self, answer: Evidence | Away) -> None:
        if isinstance(answer, Away):
            self.evidence, self.error = None, answer.message
        else:
            self.evidence, self.error = answer, ""
        self._told()
