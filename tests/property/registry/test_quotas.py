"""Quantities and quotas."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import MeshError
from services.common.quantity import parse_quantity
from services.registry.domain.quotas import ResourceQuota, Use, check_quota, check_room
from services.registry.domain.violations import Violations

SCALES = {
    "n": Fraction(1, 10**9),
    "u": Fraction(1, 10**6),
    "m": Fraction(1, 1000),
    "": Fraction(1),
    "k": Fraction(10**3),
    "M": Fraction(10**6),
    "G": Fraction(10**9),
    "T": Fraction(10**12),
    "P": Fraction(10**15),
    "E": Fraction(10**18),
    "Ki": Fraction(2**10),
    "Mi": Fraction(2**20),
    "Gi": Fraction(2**30),
    "Ti": Fraction(2**40),
    "Pi": Fraction(2**50),
    "Ei": Fraction(2**60),
}


@given(st.integers(0, 10**9), st.integers(0, 999), st.sampled_from(sorted(SCALES)))
def test_quantities_are_exact(whole: int, thousandths: int, suffix: str) -> None:
    number = Fraction(whole * 1000 + thousandths, 1000)
    assert parse_quantity(f"{whole}.{thousandths:03}{suffix}") == number * SCALES[suffix]
    assert parse_quantity(f"{whole}{suffix}") == whole * SCALES[suffix]


@given(st.integers(0, 10**6), st.integers(-20, 20))
def test_exponents_are_read_too(number: int, exponent: int) -> None:
    assert parse_quantity(f"{number}e{exponent}") == number * Fraction(10) ** exponent


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1 Gi", "1gi", "1KiB", "Gi", ".", "1e", "1e100", "0x1", "١", "1\n", "nan"]
)
def test_what_is_no_quantity(text: str) -> None:
    assert parse_quantity(text) is None


@given(st.text(max_size=12))
def test_any_text_is_a_quantity_or_refused(text: str) -> None:
    value = parse_quantity(text)
    found = Violations()
    check_quota(ResourceQuota(memory=text), found)
    assert bool(found.found) == (bool(text) and value is None)
    assert value is None or value >= 0


USES = st.builds(Use, st.integers(0, 20), st.integers(0, 20))


@given(st.none() | st.integers(0, 20), st.none() | st.integers(0, 20), USES, USES)
def test_a_team_is_refused_exactly_what_would_be_too_much(
    models: int | None, size: int | None, used: Use, more: Use
) -> None:
    quota = ResourceQuota(models=models, artifact_bytes=float(size) if size is not None else None)
    fits = (models is None or not more.models or used.models + more.models <= models) and (
        size is None or not more.artifact_bytes or used.artifact_bytes + more.artifact_bytes <= size
    )
    if fits:
        check_room("vision", quota, used=used, more=more)
        return
    with pytest.raises(MeshError) as caught:
        check_room("vision", quota, used=used, more=more)
    assert caught.value.retry_after_s is None
    assert set(caught.value.metadata) == {"team", "limit", "value", "used"}
