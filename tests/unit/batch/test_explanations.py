"""Explanations as columns: their order, and how each format has them."""

import io

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from services.batch.adapters.tables import part_bytes
from services.batch.domain.explanations import Explanation, check_explainable, explanation_columns
from services.batch.domain.job import Format, Output, Version
from services.batch.domain.results import ResultShape
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, PredictionMapping, TensorSpec
from tests.support.batch_fakes import SUMS

PIXELS = Version(
    "pixels",
    "v1.0.0",
    "",
    ModelSchema((TensorSpec("X[", DataType.FP32, (2, 12)),), (TensorSpec("y", DataType.FP32),)),
    PredictionMapping(),
    reference_digest="d",
)


def test_values_stand_in_the_order_of_the_schema_however_they_came() -> None:
    names = [f"X[[{row}][{column}]" for row in range(2) for column in range(12)]
    (values, baselines) = explanation_columns([Explanation(dict.fromkeys(sorted(names), 1.0), 0.5)], PIXELS)
    assert [name for name, _ in values[0].as_py()] == names
    assert baselines.to_pylist() == [0.5]
    (values, _) = explanation_columns([Explanation({"b": 2.0, "new": 0.0, "a": 1.0}, 0.0)], SUMS)
    assert values[0].as_py() == [("a", 1.0), ("b", 2.0), ("new", 0.0)]


def table_of(*explanations: Explanation) -> pa.Table:
    rows = len(explanations)
    keys, tensors = pa.array(range(rows)), {"total": [1.0] * rows, "shares": [[0.25, 0.75]] * rows}
    arrays = {name: pa.array(values).to_numpy(zero_copy_only=False) for name, values in tensors.items()}
    arrays["shares"] = pa.array([0.25, 0.75] * rows).to_numpy().reshape(rows, 2)
    return ResultShape(SUMS, explain=True).table(keys, "id", arrays, explanations)


def test_each_format_has_them_in_its_own_words() -> None:
    table = table_of(Explanation({"a": 1.5, "b": -2.0}, 0.25), Explanation({"b": 0.0, "a": 4.0}, 0.25))
    assert table.column_names[-3:] == ["explanation", "explanation_baseline", "model_version"]
    lines = part_bytes(table, Output("", "", Format.JSONL)).splitlines()
    assert orjson.loads(lines[0])["explanation"] == {"a": 1.5, "b": -2.0}
    assert b'"explanation":{"a":4.0,"b":0.0},"explanation_baseline":0.25' in lines[1]
    rows = part_bytes(table, Output("", "", Format.CSV)).splitlines()
    assert b'"{""a"":1.5,""b"":-2.0}",0.25,v1.0.0' in rows[0].replace(b'"v1.0.0"', b"v1.0.0")
    stored = pq.read_table(io.BytesIO(part_bytes(table, Output("", "", Format.PARQUET))))
    assert stored.schema.field("explanation").type == pa.map_(pa.string(), pa.float64())
    assert stored.column("explanation").to_pylist()[1] == [("a", 4.0), ("b", 0.0)]


def test_a_part_without_rows_has_the_same_types() -> None:
    shape = ResultShape(SUMS, explain=True)
    empty = shape.empty(pa.array([], type=pa.int64()), "id")
    assert empty.schema == table_of(Explanation({"a": 1.0}, 0.0)).schema
    assert ResultShape(SUMS).columns("explanation")[0] == "explanation"
    assert shape.columns("explanation")[0] == "key_explanation"


@pytest.mark.parametrize(
    ("outputs", "mapping", "digest", "says"),
    [
        ((TensorSpec("y", DataType.FP32),), PredictionMapping(), "", "without a reference sample"),
        ((TensorSpec("y", DataType.FP32, (3,)),), PredictionMapping(), "d", r"y is FP32\[3\]"),
        ((TensorSpec("y", DataType.BYTES),), PredictionMapping(), "d", "y is text"),
        ((TensorSpec("y", DataType.INT64),), PredictionMapping("y", "", ("a", "b")), "d", "names a class"),
    ],
)
def test_versions_that_cannot_be_explained_name_the_field_and_the_reason(
    outputs: tuple[TensorSpec, ...], mapping: PredictionMapping, digest: str, says: str
) -> None:
    inputs = (TensorSpec("x", DataType.FP32),)
    version = Version("m", "v1.0.0", "", ModelSchema(inputs, outputs), mapping, reference_digest=digest)
    with pytest.raises(
        MeshError, match=f"output.explain: version v1.0.0 of 'm' cannot be explained: .*{says}"
    ) as error:
        check_explainable(version)
    assert error.value.reason is Reason.EXPLANATION_UNAVAILABLE
    check_explainable(PIXELS)
