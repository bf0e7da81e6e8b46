"""What a reference sample may be, and what is said of one that does not fit."""

import hashlib
import math

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.domain.reference import (
    JSON_BYTES_MAX,
    ROWS_MAX,
    check_sample,
    check_sample_size,
    sample_of,
)
from services.registry.domain.violations import Violations

SCHEMA = ModelSchema(
    (
        TensorSpec("age", DataType.INT64, minimum=0, maximum=120),
        TensorSpec("plan", DataType.BYTES, categories=("free", "paid")),
        TensorSpec("trial", DataType.BOOL),
        TensorSpec("pixels", DataType.FP32, (2, 2)),
        TensorSpec("words", DataType.FP16, (-1,)),
        TensorSpec("level", DataType.UINT8, optional=True, default_json="3"),
        TensorSpec("extra", DataType.FP64, optional=True),
    ),
    (),
)
GOOD: dict[str, object] = {
    "age": 40.0,
    "plan": "free",
    "trial": True,
    "pixels": [[1.0, 2.0], [3.0, 4.0]],
    "words": [1.0, 2.0, 3.0],
}


def faults(*changes: dict[str, object]) -> dict[str, str]:
    """What is said of a good row followed by changed ones; a value of ... takes the feature away."""
    rows = [GOOD, *({name: value for name, value in {**GOOD, **one}.items() if value is not ...} for one in changes)]
    with pytest.raises(MeshError) as caught:
        check_sample(rows, SCHEMA)
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    return {item.field.removeprefix("reference_sample."): item.description for item in caught.value.violations}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"pixels": [1.0, 2.0, 3.0, 4.0]},
        {"level": 255.0},
        {"level": None},
        {"age": 0, "words": [65504.0, 0.0, -1.0]},
    ],
)
def test_rows_that_fit_pass(change: dict[str, object]) -> None:
    check_sample([GOOD, GOOD | change], SCHEMA)


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"age": 40.5}, "age", "is 40.5; expected INT64"),
        ({"age": True}, "age", "expected INT64"),
        ({"age": "40"}, "age", "expected INT64"),
        ({"age": 121.0}, "age", "allowed: 0 to 120"),
        ({"age": ...}, "age", "is missing; expected age INT64"),
        ({"age": None}, "age", "is null; expected age INT64"),
        ({"plan": "gold"}, "plan", "allowed: free, paid"),
        ({"plan": 1.0}, "plan", "expected text"),
        ({"trial": 1.0}, "trial", "expected true or false"),
        ({"pixels": [1.0, 2.0, 3.0]}, "pixels", "expected pixels FP32[2,2]"),
        ({"pixels": [[1.0], [2.0, 3.0]]}, "pixels", "in another form"),
        ({"pixels": [[1.0, 2.0], [3.0, 1e39]]}, "pixels", "expected FP32"),
        ({"words": [1.0]}, "words", "has shape [1], others of the sample have [3]"),
        ({"words": [1e6, 0.0, 0.0]}, "words", "expected FP16"),
        ({"level": -1.0}, "level", "expected UINT8"),
        ({"level": 256.0}, "level", "expected UINT8"),
        ({"weight": 1.0}, "weight", "is no feature; the features are age INT64, plan BYTES"),
    ],
)
def test_what_does_not_fit_is_named_with_instance_and_feature(change: dict[str, object], field: str, says: str) -> None:
    found = faults(change)
    assert set(found) == {f"instances[1].{field}"}
    assert says in found[f"instances[1].{field}"]


def test_an_optional_feature_without_default_is_given_in_all_or_in_none() -> None:
    check_sample([GOOD | {"extra": 1.0}], SCHEMA)
    assert "in all or in none" in faults({"extra": 1.0})["instances[0].extra"]


def test_many_faults_are_named_up_to_a_bound() -> None:
    assert len(faults(*({"age": -1.0, "plan": "gold"} for _ in range(100)))) == 16


@pytest.mark.parametrize(
    "instances",
    [
        [],
        [{"x": 1.0}] * (ROWS_MAX + 1),
        [{"x": math.nan}],
        [{"x": math.inf}],
        [{"x": "\ud800"}],
        [{"x": "a" * JSON_BYTES_MAX}],
    ],
)
def test_a_sample_of_the_wrong_size_is_refused(instances: list[dict[str, object]]) -> None:
    found = Violations()
    check_sample_size(instances, found)
    assert [one.field.split(".")[0] for one in found.found] == ["reference_sample"]


def test_the_same_instances_are_the_same_sample_however_they_are_written() -> None:
    one, other = sample_of([{"a": 1.0, "b": "ä"}]), sample_of([{"b": "ä", "a": 1.0}])
    assert one == other
    assert one.content == '{"instances":[{"a":1.0,"b":"ä"}]}'.encode()
    assert (one.digest, one.rows) == (hashlib.sha256(one.content).hexdigest(), 1)
    assert sample_of([{"a": 2.0, "b": "ä"}]).digest != one.digest
    found = Violations()
    check_sample_size([{"a": 1.0}] * ROWS_MAX, found)
    assert found.found == []
