"""Matches of headers, with any of many texts among them.

Envoy's matchers of texts take one each, and a route wants all of its matchers to match. So many texts are one regular
expression, in which nothing but the bars between them is syntax. RE2 runs it in time linear in the header's length,
however many texts there are. The gateway's bootstrap lets expressions be as long as this needs.
"""

from collections.abc import Collection, Iterator

from meshxds.envoy.config.route.v3 import route_components_pb2
from meshxds.envoy.type.matcher.v3 import regex_pb2, string_pb2

TOGETHER_MAX_BYTES = 64 * 1024
"""The most text in one expression. RE2 needs some 16 bytes for each byte, and refuses what needs more than 5 MB."""
_ANYTHING = r"\C*"
"""Any bytes: a header need not be UTF-8."""


def any_of(texts: Collection[str], *, prefix: bool) -> Iterator[string_pb2.StringMatcher]:
    """Matchers of which one matches what is one of `texts`, or begins with one where `prefix`."""
    if len(texts) == 1:
        (text,) = texts
        yield string_pb2.StringMatcher(prefix=text) if prefix else string_pb2.StringMatcher(exact=text)
        return
    for together in _portions(texts):
        bars = "|".join(_literal(text) for text in together)
        regex = f"(?:{bars}){_ANYTHING if prefix else ''}"
        yield string_pb2.StringMatcher(safe_regex=regex_pb2.RegexMatcher(regex=regex))


def present(header: str) -> route_components_pb2.HeaderMatcher:
    """Present and not empty: an empty value is what clients send who have none."""
    anything = string_pb2.StringMatcher(safe_regex={"regex": ".+"})
    return route_components_pb2.HeaderMatcher(name=header, string_match=anything)


def _portions(texts: Collection[str]) -> Iterator[list[str]]:
    """In ascending order, so that texts that begin alike are neighbours: RE2 shares the beginnings of neighbours."""
    portion: list[str] = []
    size = 0
    for text in sorted(set(texts)):
        length = len(text.encode())
        if portion and size + length > TOGETHER_MAX_BYTES:
            yield portion
            portion, size = [], 0
        portion.append(text)
        size += length
    yield portion


def _literal(text: str) -> str:
    return "".join(_plain(character) for character in text)


def _plain(character: str) -> str:
    if not character.isascii() or character.isalnum() or character == "_":
        return character
    return f"\\{character}" if character.isprintable() else f"\\x{ord(character):02x}"
