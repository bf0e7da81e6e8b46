"""What is written on one gRPC stream, until its owner ends it.

gRPC reads a stream's requests in a task of its own, which it cancels only where the client cancelled a call that still
ran. Where the server ended the call that task waits for the next request for ever, and a client that dials again and
again gathers such tasks. So the owner of a stream ends what is written on it, and waits until nobody reads any more.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Outgoing(Generic[T]):
    """An asynchronous iterator over what `take` hands out; None: nothing now. Whoever has more calls `wake`."""

    def __init__(self, take: Callable[[], T | None]) -> None:
        self._take = take
        self._more = asyncio.Event()
        self._ended = False

    def wake(self) -> None:
        """There is more."""
        self._more.set()

    def end(self) -> None:
        """There will be no more: whoever waits here goes on within one turn of the loop."""
        self._ended = True
        self._more.set()

    def __aiter__(self) -> "Outgoing[T]":
        """Itself: it can be read once."""
        return self

    async def __anext__(self) -> T:
        """The next one, as soon as there is one."""
        while not self._ended:
            item = self._take()
            if item is not None:
                return item
            self._more.clear()
            await self._more.wait()
        raise StopAsyncIteration
