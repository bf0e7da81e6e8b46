"""Versions parse, print and order as semver.org says; names are checked; page tokens come back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import MeshError, Reason
from services.common.names import SemanticVersion, check_model_name, check_version
from services.common.page import decode_number_token, decode_page_token, encode_page_token

numbers = st.integers(0, 10**6)
words = st.from_regex(r"[a-zA-Z-][0-9a-zA-Z-]{0,6}", fullmatch=True)
versions = st.builds(
    SemanticVersion, numbers, numbers, numbers, st.lists(st.one_of(numbers.map(str), words), max_size=3).map(tuple)
)


@given(versions)
def test_text_and_value_are_one(version: SemanticVersion) -> None:
    assert SemanticVersion.parse(str(version)) == version
    assert check_version(str(version).removeprefix("v")) == str(version)


@given(versions, versions, versions)
def test_the_order_is_total_and_transitive(a: SemanticVersion, b: SemanticVersion, c: SemanticVersion) -> None:
    assert (a < b) + (b < a) + (a == b) == 1
    if a < b < c:
        assert a < c


def test_precedence_is_that_of_the_standard() -> None:
    texts = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    texts += ["1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"]
    parsed = [SemanticVersion.parse(text) for text in texts]
    shuffled = random.Random(7).sample(parsed, len(parsed))
    assert sorted(shuffled) == parsed


@pytest.mark.parametrize(
    "text", ["", "1", "1.2", "v1.2.x", "01.2.3", "1.2.3-", "1.2.3-01", "1.2.3+build", "vv1.2.3", "1.2.3\n", "1" * 80]
)
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(MeshError) as caught:
        check_version(text)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations[0].field == "version"


@pytest.mark.parametrize("name", ["digits", "a", "fraud_detection", "recommendation-model-2", "x" * 63])
def test_good_names_pass(name: str) -> None:
    assert check_model_name(name) == name


@pytest.mark.parametrize("name", ["", "Digits", "-a", "a-", "a--b", "a b", "é", "x" * 64, "a/b", "a.b", "digits\n"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(MeshError, match="model_name is"):
        check_model_name(name)


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4), st.text(max_size=20))
def test_a_page_token_comes_back_for_its_own_query_alone(position: list[str], query: str) -> None:
    token = encode_page_token(*position, query=query)
    assert decode_page_token(token, query=query) == tuple(position)
    with pytest.raises(MeshError, match="another query"):
        decode_page_token(token, query=query + "x")


@given(st.text(min_size=1, max_size=40))
def test_any_other_token_is_refused(token: str) -> None:
    with pytest.raises(MeshError) as caught:
        decode_page_token(token)
    assert caught.value.reason is Reason.INVALID_PAGE_TOKEN


@given(number=st.integers(0, 10**18 - 1), query=st.text())
def test_a_number_comes_back_out_of_its_token(number: int, query: str) -> None:
    assert decode_number_token(encode_page_token(str(number), query=query), query=query) == number
    assert decode_number_token("", query=query) is None


@pytest.mark.parametrize("position", [("x",), ("-1",), ("1", "2"), ("٣",), ("9" * 19,)])
def test_a_forged_position_is_refused_before_anybody_counts_by_it(position: tuple[str, ...]) -> None:
    with pytest.raises(MeshError) as refused:
        decode_number_token(encode_page_token(*position, query="q"), query="q")
    assert refused.value.reason is Reason.INVALID_PAGE_TOKEN
