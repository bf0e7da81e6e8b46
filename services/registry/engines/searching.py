"""Finding versions by what is known about them."""

from collections.abc import Sequence

from services.common.page import check_page_size, encode_page_token
from services.registry.domain.pages import position_of
from services.registry.domain.search import Found, Search, check_search
from services.registry.engines.pages import collect
from services.registry.engines.reading import VersionPage
from services.registry.ports import Finder


class Searching:
    """The call that searches."""

    def __init__(self, finder: Finder) -> None:
        self._finder = finder

    async def page(self, search: Search, *, page_size: int, page_token: str, team: str) -> VersionPage:
        """A page of what is found, in the order asked for. Raises INVALID_FIELD, INVALID_PAGE_TOKEN."""
        check_search(search)
        size, query = check_page_size(page_size), f"search\0{search}"
        after = position_of(page_token, query=query, parts=3)

        async def fetch(behind: tuple[str, ...], limit: int) -> Sequence[Found]:
            return await self._finder.find(search, after=behind, limit=limit, team=team)

        shown, more = await collect(fetch, after=after, size=size, position_of=lambda found: found.position)
        token = encode_page_token(*shown[-1].position, query=query) if more else ""
        return VersionPage([one.version for one in shown], token)
