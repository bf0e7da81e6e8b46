"""Pagination, the same in every list call: a bounded page and an opaque token that belongs to one query."""

import base64
import binascii
import hashlib
import json

from services.common.errors import MeshError, Reason, invalid

PAGE_SIZE_DEFAULT = 50
PAGE_SIZE_MAX = 1000
_DIGITS_MAX = 18
"""Of numbers that every database takes."""


def check_page_size(page_size: int) -> int:
    """The size to use: 0 means 50. Raises INVALID_FIELD outside 0 to 1000."""
    if not 0 <= page_size <= PAGE_SIZE_MAX:
        raise invalid("page_size", page_size, f"0 to {PAGE_SIZE_MAX}; 0 means {PAGE_SIZE_DEFAULT}")
    return page_size or PAGE_SIZE_DEFAULT


def encode_page_token(*position: str, query: str = "") -> str:
    """A token for the item after `position`, bound to `query` (any text that states the other fields)."""
    body = json.dumps([_digest(query), *position], separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode_page_token(token: str, *, query: str = "") -> tuple[str, ...]:
    """The position in `token`, () for an empty token. Raises INVALID_PAGE_TOKEN where it is not one of `query`."""
    if not token:
        return ()
    try:
        parts = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (binascii.Error, ValueError):
        parts = None
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts) or not parts[1:]:
        raise _not_a_token(token)
    if parts[0] != _digest(query):
        raise _not_a_token(token)
    return tuple(parts[1:])


def decode_number_token(token: str, *, query: str = "") -> int | None:
    """The number in a token, None for an empty token. Raises INVALID_PAGE_TOKEN where it is none, or not of `query`."""
    position = decode_page_token(token, query=query)
    if not position:
        return None
    number = position[0]
    if len(position) != 1 or not (number.isascii() and number.isdecimal()) or len(number) > _DIGITS_MAX:
        raise _not_a_token(token)
    return int(number)


def _digest(query: str) -> str:
    return hashlib.sha256(query.encode()).hexdigest()[:12]


def _not_a_token(token: str) -> MeshError:
    return MeshError(
        Reason.INVALID_PAGE_TOKEN,
        f"page_token {token!r} belongs to another query or is no token; send next_page_token of the page before, "
        "with all other fields unchanged, or leave it out to begin again",
    )
