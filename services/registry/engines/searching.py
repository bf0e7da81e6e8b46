"""Finding versions by what is known about them."""

from collections.abc import Callable, Sequence

from services.common.page import check_page_size
from services.registry.domain.pages import position_of
from services.registry.domain.search import Found, Search, check_search
from services.registry.domain.version import Version
from services.registry.engines.pages import Page, W, collect
from services.registry.ports import Finder


class Searching:
    """The call that searches."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    async def page(
        self, search: Search, show: Callable[[Version], W], *, page_size: int, page_token: str, team: str
    ) -> Page[W]:
        """A page of what is found, in the order asked for. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_search(search)
        size, query = check_page_size(page_size), f"search\0{search}"
        after = position_of(page_token, query=query, parts=3)

        async def fetch(behind: tuple[str, ...], limit: int) -> Sequence[Found]:
            return await self._finder.find(search, after=behind, limit=limit, team=team)

        return await collect(
            fetch,
            after=after,
            size=size,
            position_of=lambda found: found.position,
            show=lambda found: show(found.version),
            query=query,
        )
