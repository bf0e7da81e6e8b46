"""Which keys of several files are columns of the input, and what a file lacks."""

from hypothesis import given
from hypothesis import strategies as st

from services.batch.domain.job import Input, NamedColumn, Version
from services.batch.domain.keys import FileKeys
from services.batch.domain.layout import lay_out, named_columns
from services.common.errors import MeshError
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

KEYS = st.lists(st.sampled_from(["id", "a", "b", "c", "X_0", "X_1", "X_2", "note"]), min_size=1, unique=True)
VERSION = Version(
    "m",
    "v1.0.0",
    "",
    ModelSchema(
        (
            TensorSpec("a", DataType.FP32),
            TensorSpec("b", DataType.FP32, optional=True),
            TensorSpec("X", DataType.FP32, (2,), optional=True),
        ),
        (TensorSpec("y", DataType.FP32),),
    ),
    PredictionMapping(),
)
WISH = Input("/in/", "/in/", None, key_column="id")


def gathered(files: list[list[str]], *, named: tuple[NamedColumn, ...]) -> FileKeys:
    keys = FileKeys(named)
    for place, file in enumerate(files):
        keys.add(f"/in/{place}", file)
    return keys


@given(files=st.lists(KEYS, min_size=1, max_size=6))
def test_what_a_file_lacks_is_found_exactly_where_it_could_not_be_predicted_like_the_others(
    files: list[list[str]],
) -> None:
    keys = gathered(files, named=named_columns(VERSION, WISH, ()))
    gap = keys.gap()
    needed = {name for name in ("id", "a") if any(name in file for file in files)}
    assert (gap is None) == all(needed <= set(file) for file in files)
    if gap is not None:
        assert gap.column in needed
        assert gap.column in files[int(gap.having[4:])]
        assert gap.column not in files[int(gap.lacking[4:])]
        return
    columns = keys.columns
    for name in ("b", "X_0", "X_1"):
        assert (name in columns) == any(name in file for file in files)
    # X has two elements: X_2 is none of them.
    for name in ("c", "X_2", "note"):
        assert (name in columns) == all(name in file for file in files)


@given(files=st.lists(KEYS, min_size=1, max_size=6))
def test_files_without_a_gap_are_laid_out_with_columns_that_each_of_them_can_fill(files: list[list[str]]) -> None:
    keys = gathered(files, named=named_columns(VERSION, Input("/in/", "/in/", None), ()))
    if keys.gap() is not None:
        return
    try:
        layout = lay_out(keys.columns, VERSION, Input("/in/", "/in/", None))
    except MeshError:
        assert not any("a" in file for file in files)
        return
    required = [name for feature in layout.features if not feature.spec.optional for name in feature.columns]
    for file in files:
        assert set(required) <= set(file)
    # A key that only some files have is taken where there is no other, and then it is what a file lacks.
    everywhere = not layout.key or all(layout.key in file for file in files)
    assert (keys.gap((layout.key,)) is None) == everywhere
    if not everywhere:
        used = {name for feature in layout.features for name in feature.columns}
        assert not set.intersection(*map(set, files)) - used
