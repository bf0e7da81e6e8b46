"""Places of sticky keys: known values, even shares, nobody moves who need not."""

from collections import Counter

import pytest

from services.router.domain.routing import Share
from services.router.domain.sticky import PLACES, place_of, version_at

OLD, NEW, OTHER = "v1.0.0", "v2.0.0", "v3.0.0"
KEYS = [f"user-{number}" for number in range(100_000)]


def test_places_are_what_gateways_have_always_computed() -> None:
    """A change of these would move every user of every split."""
    assert [place_of("m", key) for key in ("a", "bob", "x" * 10, "y" * 50_000, "żółw", "名")] == [43, 67, 97, 72, 9, 36]
    assert place_of("m", "a", "b") == place_of("m", "b", "a") == 20
    assert place_of("other", "a") != place_of("m", "a")


def test_shares_are_exact_to_half_a_percent() -> None:
    shares = [Share(NEW, 1), Share(OLD, 60), Share(OTHER, 10), Share(OLD, 9), Share(NEW, 20)]
    seen = Counter(version_at(shares, place_of("digits", key)) for key in KEYS)
    for version, percent in ((NEW, 21), (OLD, 69), (OTHER, 10)):
        assert abs(100 * seen[version] / len(KEYS) - percent) <= 0.5, seen
    assert max(Counter(place_of("digits", key) for key in KEYS).values()) < 1.15 * len(KEYS) / PLACES


def test_who_is_first_for_one_model_is_not_first_for_all() -> None:
    both = sum(place_of("one", key) < 30 and place_of("other", key) < 30 for key in KEYS)
    # Independent draws meet in 9 of 100; the same draw would in 30.
    assert abs(both / len(KEYS) - 0.09) < 0.005


def test_a_place_belongs_to_the_run_that_reaches_it() -> None:
    shares = [Share(NEW, 10), Share(OLD, 80), Share(NEW, 10)]
    assert [version_at(shares, place) for place in (0, 9, 10, 89, 90, 99)] == [NEW, NEW, OLD, OLD, NEW, NEW]
    with pytest.raises(ValueError, match="place 99"):
        version_at(shares[:2], 99)
