"""Evidence without end: the monitor is dialled again whenever it goes away or falls silent, and that is said."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from services.common.clock import Clock
from services.common.errors import MeshError
from services.router.domain.evidence import Evidence
from services.router.ports import EvidenceSource

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
