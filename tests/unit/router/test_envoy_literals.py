"""Texts as matchers: whatever they hold, they are text."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from meshxds.envoy.type.matcher.v3 import string_pb2

from services.router.adapters.envoy.literals import TOGETHER_MAX_BYTES, any_of

SYNTAX = ("a.c", "(", "a|b", "[a-z]", "^a$", "\\d", "a*", "x{2}", "a+", "?", "\\E", "\\", "żółw", "-", " ", "#", "\x01")


def matches(matchers: list[string_pb2.StringMatcher], text: str) -> bool:
    """What Envoy does: an expression must match all of it. RE2's \\C has no other name in Python."""
    found = False
    for matcher in matchers:
        kind = matcher.WhichOneof("match_pattern")
        if kind == "safe_regex":
            regex = matcher.safe_regex.regex.removesuffix(r"\C*")
            pattern = regex + ("(?s:.*)" if regex != matcher.safe_regex.regex else "")
            found |= re.fullmatch(pattern, text) is not None
        else:
            found |= text == matcher.exact if kind == "exact" else text.startswith(matcher.prefix)
    return found


@pytest.mark.parametrize("prefix", [False, True])
@given(st.lists(st.sampled_from(SYNTAX) | st.text(min_size=1, max_size=5), min_size=1, max_size=8), st.text(max_size=6))
def test_a_text_matches_itself_and_nothing_else(prefix: bool, texts: list[str], other: str) -> None:
    matchers = list(any_of(texts, prefix=prefix))
    assert all(matches(matchers, text) for text in texts)
    for asked in (other, *(text + "a" for text in texts), "abc", "b", "d", "1", "aa", "xx"):
        assert matches(matchers, asked) == (asked.startswith(tuple(texts)) if prefix else asked in texts)


@pytest.mark.parametrize("length", [1, 4], ids=["one byte each", "four bytes each"])
def test_many_long_texts_are_several_expressions_and_none_is_lost(length: int) -> None:
    filler = {1: "x", 4: "🐢"}[length]
    texts = [f"{number:04}".ljust(256, filler) for number in range(1000)]
    matchers = list(any_of(texts, prefix=False))
    sizes = [len(matcher.safe_regex.regex.encode()) for matcher in matchers]
    assert max(sizes) < 2 * TOGETHER_MAX_BYTES
    assert len(sizes) <= 2 + sum(sizes) // TOGETHER_MAX_BYTES
    assert sum(matcher.safe_regex.regex.count("|") + 1 for matcher in matchers) == 1000
    assert matches(matchers, texts[500])


def test_one_text_needs_no_expression() -> None:
    assert [matcher.exact for matcher in any_of(["a|b"], prefix=False)] == ["a|b"]
    assert [matcher.prefix for matcher in any_of(["a|b"], prefix=True)] == ["a|b"]
