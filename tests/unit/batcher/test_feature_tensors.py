"""Features joined where a caller sends tensors: the entity's key is one more input."""

import struct

import pytest

from services.batcher.domain.feature_tensors import completed, sent
from services.batcher.domain.instances import InstancePlan
from services.batcher.domain.request import Tensor
from services.batcher.domain.tensors import pack
from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from tests.support.batcher_feature_fakes import STATS, VECTORS, joining, version

X = Tensor("x", DataType.FP32, (2,), struct.pack("<2f", 1.0, 2.0))
USERS = Tensor("user_id", DataType.BYTES, (2,), pack(DataType.BYTES, ["ann", "7"]))
FEATURES = InstancePlan(version(STATS, VECTORS)).features
PLAN = joining(STATS, VECTORS)


def test_ids_are_read_and_the_entity_is_no_input_of_the_model() -> None:
    numbers = Tensor("user_id", DataType.UINT16, (2, 1), struct.pack("<2H", 42, 7))
    for tensor, ids in ((USERS, ["ann", "7"]), (numbers, ["42", "7"])):
        said = sent(PLAN, [tensor, X])
        assert said.tensors == [X]
        lookups = PLAN.lookups(said.instances)
        assert [lookup.entity_id for lookup in lookups if lookup.view.name == "user_stats"] == ids


def test_what_is_sent_is_not_asked_for_and_all_comes_in_the_schemas_order() -> None:
    ages = Tensor("age", DataType.INT64, (2,), struct.pack("<2q", 1, 2))
    said = sent(PLAN, [X, USERS, ages])
    lookups = PLAN.lookups(said.instances)
    assert {lookup.view.name: lookup.absent for lookup in lookups} == {
        "user_stats": ("ctr",),
        "user_vectors": ("embedding",),
    }
    joined = [{"age": object(), "ctr": 0.5, "embedding": [1, 2.5]}, {"age": object(), "ctr": 1, "embedding": [3, 4]}]
    tensors = completed(PLAN, FEATURES, said.tensors, joined)
    assert [tensor.name for tensor in tensors] == ["age", "ctr", "embedding", "x"]
    assert tensors[0] is ages
    assert tensors[1] == Tensor("ctr", DataType.FP32, (2,), struct.pack("<2f", 0.5, 1.0))
    assert tensors[2] == Tensor("embedding", DataType.FP32, (2, 2), struct.pack("<4f", 1.0, 2.5, 3.0, 4.0))


def test_what_is_no_input_and_what_comes_twice_is_left_for_the_check_to_name() -> None:
    strange = Tensor("z", DataType.FP32, (2,), b"\0" * 8)
    said = sent(PLAN, [strange, X, X, USERS])
    joined = [{"age": 1, "ctr": 0.5, "embedding": [1, 2]}] * 2
    names = [tensor.name for tensor in completed(PLAN, FEATURES, said.tensors, joined)]
    assert names == ["age", "ctr", "embedding", "x", "x", "z"]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (Tensor("user_id", DataType.FP32, (2,), b"\0" * 8), "has datatype FP32; expected BYTES or whole numbers"),
        (Tensor("user_id", DataType.BYTES, (2,), pack(DataType.BYTES, ["ann"])), "has 1 elements for 2 rows"),
        (Tensor("user_id", DataType.INT64, (2,), b"\0" * 24), "has 3 elements for 2 rows"),
        (Tensor("user_id", DataType.INT64, (2,), b"\0" * 5), "cannot be read"),
        (Tensor("user_id", DataType.BYTES, (2,), b"\xff\xff\xff\xff"), "cannot be read"),
    ],
)
def test_what_is_wrong_with_ids_is_named(tensor: Tensor, words: str) -> None:
    with pytest.raises(MeshError) as caught:
        sent(PLAN, [X, tensor])
    assert caught.value.reason is Reason.SCHEMA_VIOLATION
    assert caught.value.violations[0].field == "user_id"
    assert words in caught.value.message


@pytest.mark.parametrize("shape", [(), (0,), (-1,), (70_000,)])
def test_tensors_without_a_sensible_number_of_rows_are_left_for_the_check(shape: tuple[int, ...]) -> None:
    strange = Tensor("x", DataType.FP32, shape, b"")
    said = sent(PLAN, [strange])
    assert list(said.instances) == []
    assert completed(PLAN, FEATURES, said.tensors, []) == [strange]
