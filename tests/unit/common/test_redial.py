"""Following a registry that comes and goes."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from services.common.errors import MeshError, Reason
from services.common.redial import follow


class Pauses:
    """A clock whose sleeps are over at once, and noted."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def monotonic(self) -> float:
        return sum(self.seconds)

    async def sleep(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def test_it_dials_again_ever_more_slowly_and_tells_of_each_absence_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses, heard, streams = Pauses(), [], 0

    async def watch() -> AsyncIterator[int]:
        nonlocal streams
        streams += 1
        if streams in {2, 3, 4, 5, 6, 7, 8}:
            raise MeshError(Reason.DEPENDENCY_UNAVAILABLE, "nobody listens")
        if streams == 10:
            raise asyncio.CancelledError
        yield streams

    async def take(update: int) -> None:
        heard.append(update)

    caplog.set_level(logging.INFO)
    with pytest.raises(asyncio.CancelledError):
        await follow(watch, take, clock=pauses, who="registry", what="limits")  # type: ignore[arg-type]
    assert heard == [1, 9]
    assert pauses.seconds == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0, 0.1]
    assert [record.getMessage().partition(";")[0] for record in caplog.records] == [
        "the registry is away",
        "the registry is heard again",
        "the registry is away",
    ]
