"""What the card does meanwhile, by nvidia-smi: samples a tenth of a second apart."""

import asyncio
import contextlib
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from services.common.clock import Clock

_COMMAND = (
    "nvidia-smi",
    "--query-gpu=utilization.gpu,power.draw,clocks.sm",
    "--format=csv,noheader,nounits",
    "--loop-ms=100",
)


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the card."""

    at_s: float
    """When it was read, by the monotonic clock."""
    busy: float
    """Share of the time just before in which a kernel ran, in percent. It says nothing of how much of the card ran."""
    watts: float
    sm_mhz: float


def parse(line: str, at_s: float) -> Sample | None:
    """A line of nvidia-smi; None where it has no numbers."""
    fields = line.split(",")
    try:
        busy, watts, sm_mhz = (float(field) for field in fields)
    except ValueError:
        return None
    return Sample(at_s, busy, watts, sm_mhz)


class Card:
    """What was seen so far."""

    def __init__(self) -> None:
        self._seen: list[Sample] = []

    def saw(self, sample: Sample) -> None:
        """Keeps a sample."""
        self._seen.append(sample)

    def between(self, begin_s: float, end_s: float) -> Sample | None:
        """The means of that time; None where nothing was seen."""
        some = [one for one in self._seen if begin_s <= one.at_s <= end_s]
        if not some:
            return None
        return Sample(
            end_s,
            statistics.fmean(one.busy for one in some),
            statistics.fmean(one.watts for one in some),
            statistics.fmean(one.sm_mhz for one in some),
        )


@asynccontextmanager
async def watched_card(clock: Clock) -> AsyncIterator[Card]:
    """A card that is looked at until the end. Where there is no nvidia-smi nothing is seen."""
    card = Card()
    try:
        process = await asyncio.create_subprocess_exec(
            *_COMMAND, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except FileNotFoundError:
        yield card
        return

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            if sample := parse(line.decode(errors="replace"), clock.monotonic()):
                card.saw(sample)

    reader = asyncio.create_task(read(), name="nvidia-smi")
    try:
        yield card
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
