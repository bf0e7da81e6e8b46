"""Quantities as Kubernetes writes them."""

import re
from collections.abc import Mapping
from fractions import Fraction
from types import MappingProxyType

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"(\d{1,30}(?:\.\d{0,9})?|\.\d{1,9})(?:([numkMGTPE]|[KMGTPE]i)|[eE]([+-]?\d{1,2}))?")
_POWERS = {"n": -3, "u": -2, "m": -1, "k": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6}
_SCALES: Mapping[str, Fraction] = MappingProxyType(
    {suffix: Fraction(1000) ** power for suffix, power in _POWERS.items()}
    | {f"{suffix}i": Fraction(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)}
)


def parse_quantity(text: str) -> Fraction | None:
    """The exact value of "64", "500m", "1.5Gi" or "2e3"; None where it is no quantity, or one below 0."""
    match = _QUANTITY.fullmatch(text)
    if match is None or not text.isascii():
        return None
    number, suffix, exponent = match.groups()
    value = Fraction(f"0{number}" if number.startswith(".") else number.rstrip("."))
    if exponent is not None:
        return value * Fraction(10) ** int(exponent)
    return value * _SCALES[suffix] if suffix else value
