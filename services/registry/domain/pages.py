"""Positions in lists, out of page tokens that callers may have tampered with."""

from services.common.errors import MeshError, Reason
from services.common.page import decode_page_token


def position_of(token: str, *, query: str, parts: int) -> tuple[str, ...]:
    """The position of `parts` texts in `token`, () for an empty one. Raises INVALID_PAGE_TOKEN."""
    position = decode_page_token(token, query=query)
    if position and (len(position) != parts or any("\0" in part for part in position)):
        raise invalid_page_token()
    return position


def number_in(position: tuple[str, ...]) -> int:
    """The number that a position consists of, 0 for none. Raises INVALID_PAGE_TOKEN."""
    text = position[0] if position else "0"
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise invalid_page_token()
    return int(text)


def invalid_page_token() -> MeshError:
    """INVALID_PAGE_TOKEN for a position that no list has."""
    return MeshError(
        Reason.INVALID_PAGE_TOKEN,
        "page_token is none that this list gave out; send next_page_token of the page before, or leave it out to begin "
        "again",
    )
