"""An input none of whose first rows fits is refused with what is wrong; one of which any row fits is not."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.head import HEAD_CHUNKS, check_head
from services.batch.domain.layout import FeatureColumns, Layout
from services.batch.domain.rows import RowBlock
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, TensorSpec
from tests.support.batch_fakes import SUMS

A, B = SUMS.schema.inputs
LAYOUT = Layout("id", (FeatureColumns(A, ("a",)), FeatureColumns(B, ("b",))))


def blocks(*values: Sequence[tuple[object, object]]) -> list[RowBlock]:
    """A block for each sequence of what the two columns hold."""
    made, first = list[RowBlock](), 0
    for rows in values:
        columns = {"a": [a for a, _ in rows], "b": [b for _, b in rows]}
        made.append(RowBlock(first, len(rows), columns))
        first += len(rows)
    return made


good = st.tuples(st.floats(-9, 9), st.integers(-9, 9))
bad = st.one_of(st.tuples(st.just("x"), st.integers(-9, 9)), st.tuples(st.floats(-9, 9), st.sampled_from(["y", 5000])))


@given(st.lists(st.lists(bad, min_size=1, max_size=30), max_size=HEAD_CHUNKS), st.booleans())
def test_only_an_input_without_a_row_that_fits_is_refused(
    values: list[list[tuple[object, object]]], whole: bool
) -> None:
    count = sum(map(len, values))
    if count >= 10 or (whole and count):
        with pytest.raises(
            MeshError, match=r"none of its (first )?\d+ rows fits the version: row 0: column '[ab]'"
        ) as error:
            check_head(blocks(*values), LAYOUT, uri="/in.jsonl", whole=whole)
        assert error.value.reason is Reason.INPUT_UNREADABLE
        assert [one.field for one in error.value.violations] == ["input_uri"]
    else:
        check_head(blocks(*values), LAYOUT, uri="/in.jsonl", whole=whole)


@given(st.lists(bad, max_size=9), good, st.lists(bad, max_size=9), st.booleans())
def test_one_row_that_fits_is_enough(
    before: list[tuple[object, object]], fits: tuple[object, object], after: list[tuple[object, object]], whole: bool
) -> None:
    check_head(blocks([*before, fits, *after]), LAYOUT, uri="/in.jsonl", whole=whole)
    check_head(blocks(*([one] for one in (*before, fits, *after))), LAYOUT, uri="/in.jsonl", whole=whole)


def test_nothing_is_read_after_a_row_that_fits() -> None:
    first, second, never = blocks([("x", 1)] * 10, [(1.0, 1)], [("x", 1)])
    check_head(iter([first, second, replace(never, columns={})]), LAYOUT, uri="/in.jsonl", whole=False)


@pytest.mark.parametrize(("whole", "words"), [(True, "none of its 12 rows"), (False, "none of its first 12 rows")])
def test_it_says_how_many_were_looked_at(whole: bool, words: str) -> None:
    with pytest.raises(MeshError, match=words):
        check_head(blocks([("x", 1)] * 10, [("x", 1)] * 2), LAYOUT, uri="/in.jsonl", whole=whole)


def test_every_column_at_fault_is_named_with_an_example_and_what_it_takes() -> None:
    with pytest.raises(MeshError) as error:
        check_head(blocks([("x", None), ("y", "z")]), LAYOUT, uri="/in.jsonl", whole=True)
    told = error.value.message
    assert "row 0: column 'a' is 'x'; expected FP64; row 0: column 'b' is None; expected INT64, at most 1000" in told
    assert "input.feature_columns" in told
    with pytest.raises(MeshError, match=r"version: row 0: column 'b' is 'x'; expected INT64, at most 1000\. Mend"):
        check_head(blocks([(1.0, "x"), (1.0, 1001)]), LAYOUT, uri="/in.jsonl", whole=True)


def test_of_many_columns_some_are_named_and_the_others_counted() -> None:
    features = tuple(FeatureColumns(TensorSpec(f"x{number}", DataType.BOOL), (f"x{number}",)) for number in range(8))
    block = RowBlock(0, 1, {f"x{number}": ["no"] for number in range(8)})
    with pytest.raises(MeshError, match=r"column 'x4' is 'no'; expected BOOL; and 3 more\."):
        check_head([block], Layout("id", features), uri="/in.jsonl", whole=True)


def test_of_many_files_the_one_is_named_and_a_line_that_is_no_row_is_said_to_be_one() -> None:
    block = RowBlock(
        7, 1, {"a": [None], "b": [None]}, {0: (Reason.MALFORMED_BODY, "the line is no JSON")}, "/b.jsonl", 2
    )
    with pytest.raises(MeshError, match=r"version: row 2 of /b\.jsonl: the line is no JSON\. Mend"):
        check_head([block], LAYOUT, uri="/in", whole=True)
