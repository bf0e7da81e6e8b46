"""What a Python value becomes on the wire: exactly itself, or a clear refusal."""

from typing import Any

import numpy as np
import pytest
from infermesh.client.features import to_feature, to_instance, to_value


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (1, "int64_value"),
        (True, "bool_value"),
        (0.1, "double_value"),
        ("a", "string_value"),
        (b"a", "bytes_value"),
        ([1, 2], "int_list"),
        ([1, 2.5], "double_list"),
        ([], "double_list"),
        ((True, False), "bool_list"),
        (["a"], "string_list"),
        ([b"a"], "bytes_list"),
        (np.float32(0.5), "float_value"),
        (np.float64(0.5), "double_value"),
        (np.int8(3), "int64_value"),
        (np.array([0.5, 1.5], np.float32), "float_list"),
        (np.array([0.5, 1.5]), "double_list"),
        (np.array([1, 2], np.uint8), "int_list"),
        (np.array([True]), "bool_list"),
        (np.array(["a", "b"]), "string_list"),
    ],
)
def test_values_keep_their_type_and_come_back(value: Any, kind: str) -> None:
    feature = to_feature(value)
    assert feature.WhichOneof("kind") == kind
    back = to_value(feature)
    assert back == (list(value) if isinstance(back, list) else value)


def test_nested_lists_go_row_by_row() -> None:
    nested = [[1, 2], [3, 4], [5, 6]]
    assert to_value(to_feature(nested)) == [1, 2, 3, 4, 5, 6]
    assert to_value(to_feature(np.array(nested, np.float32))) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_none_is_left_out() -> None:
    assert to_value(to_feature(None)) is None


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"a": 1}, "a dict cannot be sent"),
        (object(), "a object cannot be sent"),
        ([1, "a"], "a list of int, str cannot be sent"),
        ([[1, 2], [3]], "same length"),
        ([[1], 2], "same length"),
        (2**64, "does not fit in 64 bits"),
        ([2**63], "does not fit in 64 bits"),
        ([0.5, 2**53 + 1], "no exact double"),
    ],
)
def test_what_cannot_be_sent_is_named_with_its_place(value: object, words: str) -> None:
    with pytest.raises(TypeError, match=words) as caught:
        to_instance({"good": 1, "bad": value}, place=7)
    assert str(caught.value).startswith("instances[7].bad: ")


def test_an_instance_maps_names_to_values() -> None:
    made = to_instance({"x": 1, "y": [0.5]})
    assert set(made.features) == {"x", "y"}
    with pytest.raises(TypeError, match=r"instances\[2\] is list"):
        to_instance([1], place=2)  # type: ignore[arg-type]
