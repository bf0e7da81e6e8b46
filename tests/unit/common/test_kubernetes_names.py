"""Names as values of labels."""

import re

import pytest

from services.common.kubernetes.names import label_value

_ALLOWED = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
"""What the API server takes: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/"""


@pytest.mark.parametrize("name", ["v1.2.3", "v1.2.3-rc.1", "fraud-detection", "m" * 63])
def test_what_is_allowed_is_itself(name: str) -> None:
    assert label_value(name) == name


@pytest.mark.parametrize("name", ["v1.2.3--", "v1.2.3-rc.-", "v1.2.3-" + "a" * 60, "m" * 64])
def test_what_is_not_becomes_another_that_is(name: str) -> None:
    assert _ALLOWED.fullmatch(label_value(name))
    assert label_value(name) not in {name, label_value(name + "-"), label_value(name[:-1])}
