"""Collecting a page: as many items as asked for, and no more bytes than an answer may have.

Cards, metadata and schemas can be megabytes each. A page that would not fit into a message ends early, with a token to
go on; and what is fetched at one time is bounded too.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

PAGE_BYTES_MAX = 3 * 1024 * 1024
"""Of items as text; their wire form has at most some 2.5 times as many, and messages have at most 12 MiB."""
_FETCH_MAX = 50


async def collect(
    fetch: Callable[[tuple[str, ...], int], Awaitable[Sequence[T]]],
    *,
    after: tuple[str, ...],
    size: int,
    position_of: Callable[[T], tuple[str, ...]],
) -> tuple[list[T], bool]:
    """At most `size` items from behind the position `after`, and whether there are more. `fetch` takes a position and
    a limit. An item that is too large for a page by itself is a page by itself."""
    items: list[T] = []
    bytes_left = PAGE_BYTES_MAX
    while True:
        wanted = min(_FETCH_MAX, size - len(items))
        found = await fetch(after, wanted + 1)
        for item in found[:wanted]:
            bytes_left -= len(repr(item).encode())
            if items and bytes_left < 0:
                return items, True
            items.append(item)
        if len(found) <= wanted:
            return items, False
        if len(items) == size:
            return items, True
        after = position_of(items[-1])
