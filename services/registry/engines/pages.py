"""Collecting a page: as many items as asked for, and no more bytes than an answer may have.

Cards, metadata and schemas can be megabytes each. A page that would not fit into a message ends early, with a token to
go on; and what is fetched at one time is bounded too.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from services.common.page import encode_page_token

PAGE_BYTES_MAX = 3 * 1024 * 1024
"""Of items in their wire form: clients take messages of at most 4 MiB where nobody has told them otherwise."""
_FETCH_MAX = 50

T = TypeVar("T")
W = TypeVar("W", bound=Message)
"""What an item is sent as."""


@dataclass(frozen=True, slots=True)
class Page(Generic[W]):
    """Items as they are sent, and the token of the page behind; empty: there is none."""

    items: Sequence[W]
    next_page_token: str


async def collect(
    fetch: Callable[[tuple[str, ...], int], Awaitable[Sequence[T]]],
    *,
    after: tuple[str, ...],
    size: int,
    position_of: Callable[[T], tuple[str, ...]],
    show: Callable[[T], W],
    query: str,
) -> Page[W]:
    """At most `size` items of `query` from behind the position `after`. `fetch` takes a position and a limit. An item
    that is too large for a page by itself is a page by itself."""
    items: list[W] = []
    bytes_left = PAGE_BYTES_MAX
    while True:
        wanted = min(_FETCH_MAX, size - len(items))
        found = await fetch(after, wanted + 1)
        for item in found[:wanted]:
            shown = show(item)
            bytes_left -= shown.ByteSize()
            if items and bytes_left < 0:
                return Page(items, encode_page_token(*after, query=query))
            items.append(shown)
            after = position_of(item)
        if len(found) <= wanted:
            return Page(items, "")
        if len(items) == size:
            return Page(items, encode_page_token(*after, query=query))
