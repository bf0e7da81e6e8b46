"""Pages are as long as asked for, unless they would not fit into a message."""

from collections.abc import Sequence

import pytest
from infermesh.registry.v1 import model_pb2

from services.common.page import decode_page_token
from services.registry.engines.pages import PAGE_BYTES_MAX, collect


def _shown(item: tuple[int, str]) -> model_pb2.Model:
    return model_pb2.Model(name=str(item[0]), description=item[1])


class Shelf:
    """Numbered texts, of which it notes how many were asked for at a time."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self.limits: list[int] = []

    async def fetch(self, after: tuple[str, ...], limit: int) -> Sequence[tuple[int, str]]:
        self.limits.append(limit)
        begin = int(after[0]) + 1 if after else 0
        return list(enumerate(self._texts))[begin : begin + limit]

    async def page(self, size: int, after: tuple[str, ...] = ()) -> tuple[list[int], bool]:
        """The numbers on a page, and whether its token leads on from the last of them."""
        page = await collect(
            self.fetch,
            after=after,
            size=size,
            position_of=lambda item: (str(item[0]),),
            show=_shown,
            query="q",
        )
        numbers = [int(one.name) for one in page.items]
        if page.next_page_token:
            assert decode_page_token(page.next_page_token, query="q") == (str(numbers[-1]),)
        return numbers, bool(page.next_page_token)


@pytest.mark.parametrize(
    ("count", "size", "shown", "more"),
    [(0, 50, 0, False), (3, 50, 3, False), (50, 50, 50, False), (51, 50, 50, True), (300, 120, 120, True)],
)
async def test_a_page_is_as_long_as_asked_for(count: int, size: int, shown: int, more: bool) -> None:
    shelf = Shelf(["x"] * count)
    assert await shelf.page(size) == (list(range(shown)), more)
    assert max(shelf.limits) <= 51


async def test_a_page_of_large_items_ends_early_and_goes_on() -> None:
    third = "x" * (PAGE_BYTES_MAX // 3)
    shelf = Shelf(["x", third, third, third, "x" * PAGE_BYTES_MAX, "x"])
    assert await shelf.page(50) == ([0, 1, 2], True)
    assert await shelf.page(50, ("2",)) == ([3], True)
    assert await shelf.page(50, ("3",)) == ([4], True)
    assert await shelf.page(50, ("4",)) == ([5], False)
