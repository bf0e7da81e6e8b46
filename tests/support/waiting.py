"""Waiting for something that becomes true, with a deadline and a reason when it does not."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(
    check: Callable[[], T | Awaitable[T]], *, timeout_s: float = 10.0, every_s: float = 0.02, what: str = ""
) -> T:
    """The first truthy value of `check`. Assertion errors count as not yet; the last one is shown."""
    loop = asyncio.get_running_loop()
    deadline_s = loop.time() + timeout_s
    last: object = None
    while True:
        try:
            value = check()
            result = await value if inspect.isawaitable(value) else value
        except AssertionError as error:
            last = error
        else:
            if result:
                return result  # type: ignore[return-value]
            last = result
        if loop.time() > deadline_s:
            raise AssertionError(
                f"not within {timeout_s} s: {what or getattr(check, '__name__', check)}; last: {last!r}"
            )
        await asyncio.sleep(every_s)
