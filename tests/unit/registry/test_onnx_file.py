"""What is read out of ONNX files, and what is refused."""

import tracemalloc
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from services.common.schema import DataType
from services.registry.adapters.readers.onnx_model import read_onnx
from services.registry.adapters.readers.refused import RefusedError
from services.registry.domain.schemas import StatedSchema, StatedTensor
from tests.support.registry_onnx import model, tensor


def read(content: bytes, folder: Path) -> StatedSchema:
    path = folder / "model.onnx"
    path.write_bytes(content)
    with path.open("rb") as stream:
        return read_onnx(stream, len(content))


def problem(content: bytes, folder: Path) -> str:
    with pytest.raises(RefusedError) as caught:
        read(content, folder)
    return f"{caught.value.problem}; {caught.value.advice}"


def test_names_types_and_shapes_are_read_in_order_without_the_batch(tmp_path: Path) -> None:
    made = model(
        [
            tensor("image", [None, 3, "height", "width"], TensorProto.UINT8),
            tensor("words", ["N", None], TensorProto.STRING),
            tensor("flag", [1], TensorProto.BOOL),
        ],
        [tensor("z", ["N"], TensorProto.DOUBLE), tensor("a", ["N", 2, 2], TensorProto.FLOAT16)],
    )
    assert read(made.SerializeToString(), tmp_path) == StatedSchema(
        (
            StatedTensor("image", DataType.UINT8, (3, -1, -1)),
            StatedTensor("words", DataType.BYTES, (-1,)),
            StatedTensor("flag", DataType.BOOL, ()),
        ),
        (StatedTensor("z", DataType.FP64, ()), StatedTensor("a", DataType.FP16, (2, 2))),
    )


def test_weights_are_no_inputs_also_where_old_files_list_them(tmp_path: Path) -> None:
    weights = helper.make_tensor("W", TensorProto.FLOAT, [4, 3], [0.5] * 12)
    made = model([tensor("X", ["N", 4]), tensor("W", [4, 3])], weights=[weights], ir_version=3)
    assert [one.name for one in read(made.SerializeToString(), tmp_path).inputs] == ["X"]


def test_an_unknown_rank_is_said_to_be_unknown(tmp_path: Path) -> None:
    made = model([tensor("X", None)])
    assert read(made.SerializeToString(), tmp_path).inputs == (StatedTensor("X", DataType.FP32, None),)


def test_weights_of_any_size_cost_no_memory(tmp_path: Path) -> None:
    weights = helper.make_tensor("W", TensorProto.FLOAT, [16, 1024, 1024], bytes(64 * 1024 * 1024), raw=True)
    content = model(weights=[weights]).SerializeToString()
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with path.open("rb") as stream:
            read_onnx(stream, len(content))
        assert tracemalloc.get_traced_memory()[1] < 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (model([tensor("X", [8, 4])]), ["input 'X'", "[8, 4]", "dynamic first dimension"]),
        (model([tensor("X", [])]), ["input 'X'", "first dimension"]),
        (model([tensor("X", ["N", 4], TensorProto.COMPLEX64)]), ["input 'X'", "FP32"]),
        (model([tensor("X", ["N"]), tensor("X", ["N"])]), ["a name of its own"]),
        (model([tensor("", ["N"])]), ["has the name ''", "1 to 256"]),
    ],
)
def test_what_cannot_be_served_is_named(made: onnx.ModelProto, words: list[str], tmp_path: Path) -> None:
    message = problem(made.SerializeToString(), tmp_path)
    assert all(word in message for word in words), message


def test_a_dictionary_for_each_row_is_refused_with_its_cure(tmp_path: Path) -> None:
    zipmap = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    output = helper.make_value_info("output_probability", helper.make_sequence_type_proto(zipmap))
    message = problem(model(outputs=[tensor("label", ["N"]), output]).SerializeToString(), tmp_path)
    assert "output 'output_probability' is a sequence" in message
    assert "zipmap=False" in message


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    weights = helper.make_tensor("W", TensorProto.FLOAT, [4], [0.5] * 4)
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../../etc/passwd")
    message = problem(model(weights=[weights]).SerializeToString(), tmp_path)
    assert "weights 'W' are in another file" in message


@pytest.mark.parametrize("content", [b"not a model", b"", b"\x00" * 64, b"\x80\x04\x95pickle", b"\x1f\x8b\x08\x00gzip"])
def test_what_is_no_onnx_is_refused(content: bytes, tmp_path: Path) -> None:
    assert "ONNX" in problem(content, tmp_path)


def test_a_model_without_operators_or_with_two_graphs_is_none(tmp_path: Path) -> None:
    bare = model()
    del bare.opset_import[:]
    problem(bare.SerializeToString(), tmp_path)
    problem(model().SerializeToString() * 2, tmp_path)


def test_a_cut_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    content = model().SerializeToString()
    # Behind the graph there is only the operator set, which is needed too.
    for end in range(len(content)):
        problem(content[:end], tmp_path)
