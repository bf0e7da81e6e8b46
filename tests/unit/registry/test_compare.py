"""What breaks callers who are sent to another version."""

from dataclasses import replace

import pytest

from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.compare import compare

X = TensorSpec("X", DataType.FP32, (4,))


def changes(
    old: tuple[TensorSpec, ...], new: tuple[TensorSpec, ...], *, outputs: bool = False
) -> list[tuple[str, str, bool]]:
    sides = [ModelSchema((X,), specs) if outputs else ModelSchema(specs, (X,)) for specs in (old, new)]
    found = compare(*sides)
    assert {one.side for one in found} <= {"outputs" if outputs else "inputs"}
    assert all(one.name in one.advice for one in found)
    return [(one.name, one.kind, one.breaking) for one in found]


def test_equal_schemas_do_not_differ() -> None:
    assert changes((X,), (X,)) == []
    other = TensorSpec("Y", DataType.INT64)
    assert changes((X, other), (other, X)) == []


@pytest.mark.parametrize(
    ("change", "kind", "breaks_input", "breaks_output"),
    [
        ({"data_type": DataType.FP64}, "type", True, True),
        ({"shape": (-1,)}, "shape", False, True),
        ({"shape": (5,)}, "shape", True, True),
        ({"shape": (4, 1)}, "shape", True, True),
        ({"minimum": 0.0}, "range", True, False),
        ({"maximum": 9.0}, "range", True, False),
        ({"categories": ("a",)}, "categories", True, False),
    ],
)
def test_taking_less_or_giving_more_breaks(
    change: dict[str, object], kind: str, breaks_input: bool, breaks_output: bool
) -> None:
    new = replace(X, **change)  # type: ignore[arg-type]
    assert changes((X,), (new,)) == [("X", kind, breaks_input)]
    assert changes((X,), (new,), outputs=True) == [("X", kind, breaks_output)]


@pytest.mark.parametrize(
    ("old", "new", "breaking"),
    [
        ((0.0, 1.0), (0.0, 2.0), False),
        ((0.0, 1.0), (0.5, 2.0), True),
        ((0.0, 1.0), (None, None), False),
        ((None, 1.0), (0.0, 1.0), True),
    ],
)
def test_a_range_may_grow(old: tuple[float | None, ...], new: tuple[float | None, ...], breaking: bool) -> None:
    before, after = (replace(X, minimum=low, maximum=high) for low, high in (old, new))
    assert changes((before,), (after,)) == [("X", "range", breaking)]


def test_categories_may_be_added_to_inputs_and_taken_from_outputs() -> None:
    few, many = (TensorSpec("c", DataType.BYTES, categories=names) for names in (("a",), ("b", "a")))
    assert changes((few,), (many,)) == [("c", "categories", False)]
    assert changes((many,), (few,)) == [("c", "categories", True)]
    assert changes((few,), (many,), outputs=True) == [("c", "categories", True)]
    assert changes((few,), (replace(many, categories=()),)) == [("c", "categories", False)]


def test_optional_inputs_come_and_go_without_harm_but_for_those_who_send_them() -> None:
    optional = TensorSpec("Y", DataType.INT64, (), True, "1")
    assert changes((X,), (X, optional)) == [("Y", "added", False)]
    assert changes((X,), (X, replace(optional, optional=False, default_json=""))) == [("Y", "added", True)]
    assert changes((X, optional), (X,)) == [("Y", "removed", True)]
    assert changes((optional,), (replace(optional, optional=False),)) == [("Y", "optional", True)]
    assert changes((replace(optional, optional=False),), (optional,)) == [("Y", "optional", False)]
    assert changes((optional,), (replace(optional, default_json="2"),)) == [("Y", "default", False)]


def test_outputs_may_be_added_and_not_removed() -> None:
    extra = TensorSpec("scores", DataType.FP32, (3,))
    assert changes((X,), (X, extra), outputs=True) == [("scores", "added", False)]
    assert changes((X, extra), (X,), outputs=True) == [("scores", "removed", True)]


def test_one_that_went_for_one_of_its_form_was_renamed() -> None:
    assert changes((X,), (replace(X, name="pixels"),)) == [("X", "renamed", True)]
    assert changes((X,), (TensorSpec("pixels", DataType.FP64, (4,)),)) == [
        ("X", "removed", True),
        ("pixels", "added", True),
    ]


def test_breaking_differences_come_first() -> None:
    old = (X, TensorSpec("a", DataType.INT64, (), False))
    new = (
        replace(X, shape=(5,)),
        TensorSpec("a", DataType.INT64, (), True, "0"),
        TensorSpec("b", DataType.INT64, (), True, "0"),
    )
    assert changes(old, new) == [("X", "shape", True), ("a", "optional", False), ("b", "added", False)]
