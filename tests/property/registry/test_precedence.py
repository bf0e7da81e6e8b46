"""The text that versions are ordered by in the database orders them as semver.org says."""

from hypothesis import given
from hypothesis import strategies as st

from services.common.names import SemanticVersion
from services.registry.domain.version import precedence_key

numbers = st.integers(0, 999_999_999).map(str) | st.integers(0, 20).map(str)
words = st.text("abzAZ09-", min_size=1, max_size=6).filter(lambda text: not text.isdigit())
releases = st.tuples(numbers, numbers, numbers).map(".".join)
tails = st.lists(numbers | words, max_size=4).map(".".join)
versions = st.tuples(releases, tails).map(lambda parts: "-".join(part for part in parts if part))


@given(st.lists(versions, min_size=2, max_size=8))
def test_keys_sort_as_versions_do(texts: list[str]) -> None:
    canonical = sorted({str(SemanticVersion.parse(text)) for text in texts}, key=SemanticVersion.parse)
    assert sorted(canonical, key=lambda text: precedence_key(text).encode()) == canonical
    assert len({precedence_key(text) for text in canonical}) == len(canonical)


def test_the_example_of_the_specification() -> None:
    ordered = ["alpha", "alpha.1", "alpha.beta", "beta", "beta.2", "beta.11", "rc.1"]
    every = [f"v1.0.0-{tail}" for tail in ordered] + ["v1.0.0", "v1.0.1-0", "v1.2.0", "v1.10.0", "v10.0.0"]
    mixed = every[5:] + every[:5]
    assert sorted(mixed, key=precedence_key) == every
