"""Pages are as long as asked for, unless they would not fit into a message."""

from collections.abc import Sequence

import pytest

from services.registry.engines.pages import PAGE_BYTES_MAX, collect


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
        items, more = await collect(self.fetch, after=after, size=size, position_of=lambda item: (str(item[0]),))
        return [number for number, _ in items], more


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
