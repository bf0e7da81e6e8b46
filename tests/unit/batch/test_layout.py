"""Columns are matched to features by name; the output's columns follow from the version."""

import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from services.batch.domain.job import Format, Input, Version
from services.batch.domain.layout import lay_out
from services.batch.domain.lines import json_lines
from services.batch.domain.results import ResultShape, with_copies
from services.batch.domain.rows import RowBlock, encode
from services.batch.engines.predictor import Outcome
from services.common.errors import MeshError, Reason
from services.common.feature_view import FeatureView
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec

SCHEMA = ModelSchema(
    inputs=(TensorSpec("X", DataType.FP32, (3,)), TensorSpec("age", DataType.INT64, optional=True)),
    outputs=(TensorSpec("y", DataType.FP16, (2,)),),
)


def wish(**changes: object) -> Input:
    return Input("/in.csv", "/in.csv", Format.CSV, **changes)  # type: ignore[arg-type]  # fields of an Input


@pytest.mark.parametrize(
    ("line", "changes", "hint"),
    [
        ("id;X", {}, "It looks as if ';' separated them: set input.delimiter. Add"),
        ("id\tX", {}, "as if tabs separated them"),
        ("id,X", {"delimiter": ";"}, "as if commas separated them"),
        ("id", {}, "has ['id']. Add the columns"),
        ("id;n", {"delimiter": ";"}, "has ['id;n']. Add the columns"),
    ],
)
def test_columns_that_look_separated_otherwise_are_said_to(line: str, changes: dict[str, object], hint: str) -> None:
    with pytest.raises(MeshError) as error:
        lay_out([line], version(), wish(**changes))
    assert hint in error.value.message


@pytest.mark.parametrize(
    ("columns", "changes", "key", "found"),
    [
        (["id", "X", "age"], {}, "id", ["X", "age"]),
        (["key", "id", "X"], {}, "key", ["X"]),
        (["name", "X"], {}, "name", ["X"]),
        (["X"], {}, "row_number", ["X"]),
        (["X_0", "X_1", "X_2", "id"], {}, "id", ["X_0", "X_1", "X_2"]),
        (["X.2", "X.1", "X.0"], {}, "row_number", ["X.0", "X.1", "X.2"]),
        (["pixels", "n"], {"feature_columns": {"X": "pixels"}}, "n", ["pixels"]),
        (["id", "age", "X"], {"key_column": "age"}, "age", ["X", "age"]),
    ],
)
def test_columns_are_found(columns: list[str], changes: dict[str, object], key: str, found: list[str]) -> None:
    layout = lay_out(columns, version(), wish(**changes))
    assert layout.key_name == key
    assert [name for feature in layout.features for name in feature.columns] == found
    assert set(layout.columns) == {*found, *({key} & set(columns))}


@pytest.mark.parametrize(
    ("columns", "changes", "reason", "words"),
    [
        (["id", "X_0", "X_1"], {}, Reason.INPUT_UNREADABLE, "no column for 'X'"),
        (["X"], {"key_column": "id"}, Reason.INVALID_FIELD, "key_column"),
        (["X"], {"feature_columns": {"Z": "X"}}, Reason.INVALID_FIELD, "feature of the version"),
        (["X"], {"feature_columns": {"X": "pixels"}}, Reason.INVALID_FIELD, "column of the input"),
    ],
)
def test_what_is_missing_is_named(columns: list[str], changes: dict[str, object], reason: Reason, words: str) -> None:
    with pytest.raises(MeshError, match=words) as error:
        lay_out(columns, version(), wish(**changes))
    assert error.value.reason is reason


VIEWED = FeatureView("stats", "user_id", {"X": "array<float>"})


def test_a_feature_of_a_view_is_left_to_the_batcher_where_its_entity_is_a_column() -> None:
    viewed = replace(version(), feature_views=(VIEWED,))
    layout = lay_out(["age", "user_id"], viewed, wish())
    assert [(feature.spec.name, feature.columns) for feature in layout.features] == [
        ("X", ()),
        ("age", ("age",)),
        ("user_id", ("user_id",)),
    ]
    assert layout.key_name == "user_id"
    block = RowBlock(0, 3, {"age": [1, 2, 3], "user_id": [42, "ann", 1.5]})
    made = encode(block, layout)
    assert set(made.tensors) == {"age", "user_id"}
    assert made.tensors["user_id"].tolist() == ["42", "ann", ""]
    assert made.bad == {2: ("SCHEMA_VIOLATION", "column 'user_id' is no text and no whole number")}
    # Who has the feature itself needs no entity, and it is not sent.
    assert lay_out(["X", "user_id"], viewed, wish()).columns == ("user_id", "X")
    with pytest.raises(MeshError, match="no column for 'X'"):
        lay_out(["age"], viewed, wish())


def version(*outputs: TensorSpec, mapping: PredictionMapping | None = None) -> Version:
    return Version("m", "v1.0.0", "", ModelSchema(SCHEMA.inputs, outputs), mapping or PredictionMapping())


def test_outputs_of_several_elements_are_lists_and_those_of_one_are_values() -> None:
    shape = ResultShape(version(TensorSpec("y", DataType.FP16, (2,))))
    table = shape.table(pa.array([7, 8]), "output", {"y": np.array([[1, 2], [3, 4]], dtype="<f2")})
    assert table.to_pylist() == [
        {"key_output": 7, "output": [1.0, 2.0], "model_version": "v1.0.0"},
        {"key_output": 8, "output": [3.0, 4.0], "model_version": "v1.0.0"},
    ]
    assert shape.empty(pa.array([], type=pa.int64()), "output").schema == table.schema
    single = ResultShape(version(TensorSpec("word", DataType.BYTES, (1,))))
    words = np.array([[b"\xc3\xa9"], ["b"]], dtype=np.object_)
    assert single.table(pa.array([1, 2]), "id", {"word": words})["output"].to_pylist() == ["é", "b"]


def test_probabilities_become_classes() -> None:
    shape = ResultShape(
        version(
            TensorSpec("label", DataType.INT64),
            TensorSpec("p", DataType.FP32, (2,)),
            mapping=PredictionMapping("label", "p", ("no", "yes")),
        )
    )
    tensors = {"label": np.array([1]), "p": np.array([[0.25, 0.75]], dtype="<f4")}
    assert shape.tensors == ("label", "p")
    assert shape.table(pa.array(["k"]), "id", tensors).to_pylist() == [
        {
            "id": "k",
            "output": 1,
            "confidence": 0.75,
            "class": "yes",
            "probabilities": {"no": 0.25, "yes": 0.75},
            "model_version": "v1.0.0",
        }
    ]


@pytest.mark.parametrize("tensors", [{}, {"y": np.zeros((3, 2))}])
def test_an_answer_of_other_rows_is_refused(
    tensors: dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"],
) -> None:
    with pytest.raises(MeshError) as error:
        ResultShape(version(TensorSpec("y", DataType.FP64, (2,)))).check(tensors, 2)
    assert error.value.reason is Reason.BACKEND_PROTOCOL


def test_copies_stand_beside_the_predictions_of_their_own_rows() -> None:
    """Answers come in any order, and rows that failed have none."""
    layout = lay_out(["id", "X", "word", "other"], version(), wish(), ["other", "word"])
    assert set(layout.columns) == {"id", "X", "word", "other"}
    block = RowBlock(
        0,
        4,
        {"id": pa.array([1, 2, 3, 4]), "word": pa.array(list("abcd")).dictionary_encode(), "other": [1, "x", None, []]},
    )
    shape = ResultShape(version(TensorSpec("y", DataType.FP64, (1,))))
    outcome = Outcome()
    outcome.answers += [
        (np.array([3]), {"y": np.array([[0.4]])}),
        (np.array([0, 1]), {"y": np.array([[0.1], [0.2]])}),
    ]
    for kind, other in ((Format.PARQUET, ["1", "x", "[]"]), (Format.JSONL, ["1", '"x"', "[]"])):
        table = outcome.table(shape, block.columns["id"], layout.key_name)
        table = with_copies(table, block, layout, outcome.places, kind)
        assert table.column_names == list(shape.columns("id", layout.copied))
        assert table["id"].to_pylist() == [1, 2, 4]
        assert table["output"].to_pylist() == [0.1, 0.2, 0.4]
        assert table["word"].to_pylist() == ["a", "b", "d"]
        assert table["other"].to_pylist() == other
    assert [json.loads(line)["other"] for line in json_lines(table).splitlines()] == [1, "x", []]
    empty = with_copies(Outcome().table(shape, block.columns["id"], "id"), block, layout, [], Format.JSONL)
    assert empty.schema == table.schema


@pytest.mark.parametrize(
    ("copied", "words"),
    [(["no", "X", "nor"], "'no, nor'"), (["X", "id"], "'id'.*other than the key")],
)
def test_what_cannot_be_copied_is_named(copied: list[str], words: str) -> None:
    with pytest.raises(MeshError, match=words) as error:
        lay_out(["id", "X"], version(), wish(), copied)
    assert error.value.reason is Reason.INVALID_FIELD
