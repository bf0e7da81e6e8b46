"""Waiting for something that becomes true, with a deadline and a reason when it does not."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

import httpx

T = TypeVar("T")


@overload
async def eventually(
    check: Callable[[], Awaitable[T]], *, timeout_s: float = ..., every_s: float = ..., what: str = ...
) -> T: ...
@overload
async def eventually(check: Callable[[], T], *, timeout_s: float = ..., every_s: float = ..., what: str = ...) -> T: ...
async def eventually(
    check: Callable[[], Any], *, timeout_s: float = 30.0, every_s: float = 0.02, what: str = ""
) -> Any:
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
                return result
            last = result
        if loop.time() > deadline_s:
            raise AssertionError(
                f"not within {timeout_s} s: {what or getattr(check, '__name__', check)}; last: {last!r}"
            )
        await asyncio.sleep(every_s)


def until(check: Callable[[], T], *, within_s: float = 40.0, what: str, every_s: float = 0.05) -> T:
    """The same for tests that call as strangers do, blocking; failed calls count as not yet, too. It looks again and
    again because what it waits for is the state of another process, which tells nobody."""
    deadline_s = time.monotonic() + within_s
    last: object = None
    while True:
        try:
            value = check()
        except (AssertionError, httpx.HTTPError) as error:
            last = error
        else:
            if value:
                return value
            last = value
        assert time.monotonic() < deadline_s, f"not within {within_s} s: {what}; last: {last!r}"
        time.sleep(every_s)
