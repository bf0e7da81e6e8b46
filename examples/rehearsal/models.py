"""The two versions as ONNX files.

Both take `value` FP32 [N, 1], a number from 0 to 1, and `fault` INT64 [N, 1], and give `label` INT64 [N] (1 where the
value is above a half) and `probabilities` FP32 [N, 2]. v1.0.0 does not care about `fault`. v2.0.0 does what it says,
for the whole batch that such a row is in, as a real fault would:

| fault | v2.0.0 |
|---|---|
| 0 | answers as v1.0.0 does |
| 1 | fails |
| 2 | takes tens of milliseconds |
| 3 | answers the opposite (this row alone) |

So the requests decide, and not the clock, when the new version goes wrong, while the old one goes on answering the same
requests rightly.
"""

from enum import IntEnum
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

MODEL = "rehearsal"
OLD, NEW = "v1.0.0", "v2.0.0"
CLASSES = ("low", "high")
_OPSET, _IR_VERSION = 17, 9
_STEEPNESS = 8.0
_SLOW_ROUNDS = 150
_SLOW_SIZE = 192
"""A round multiplies two matrices of this size: some tens of milliseconds for all of them on one core."""


class Fault(IntEnum):
    """What a row asks of the new version."""

    NONE = 0
    ERROR = 1
    SLOW = 2
    WRONG = 3


def write(folder: Path) -> dict[str, Path]:
    """Writes both versions into `folder` and returns the files by version."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for version, obeys in ((OLD, False), (NEW, True)):
        files[version] = folder / f"{MODEL}-{version}.onnx"
        files[version].write_bytes(_model(obeys=obeys).SerializeToString())
    return files


def _model(*, obeys: bool) -> onnx.ModelProto:
    nodes = [
        helper.make_node("Sub", ["value", "half"], ["centred"]),
        helper.make_node("Mul", ["centred", "steepness"], ["score"]),
        *(_obeying() if obeys else [helper.make_node("Identity", ["score"], ["settled"])]),
        helper.make_node("Neg", ["settled"], ["against"]),
        helper.make_node("Concat", ["against", "settled"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        MODEL,
        [
            helper.make_tensor_value_info("value", TensorProto.FLOAT, ["N", 1]),
            helper.make_tensor_value_info("fault", TensorProto.INT64, ["N", 1]),
        ],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2]),
        ],
        initializer=[
            _constant("half", np.array([[0.5]], np.float32)),
            _constant("steepness", np.array([[_STEEPNESS]], np.float32)),
            *(_obeying_constants() if obeys else ()),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model, full_check=True)
    return model


def _obeying() -> list[onnx.NodeProto]:
    """From `score` to `settled`."""
    return [
        # An index beyond the table is an error when the model runs; index 0 gives 0.
        *_any_row("is_error", "one", "errors"),
        helper.make_node("Mul", ["errors", "far_away"], ["index"]),
        helper.make_node("Gather", ["zero_table", "index"], ["nothing"]),
        # As many rounds of work as the batch has coming to it.
        *_any_row("is_slow", "two", "slows"),
        helper.make_node("Mul", ["slows", "slow_rounds"], ["rounds"]),
        helper.make_node("Loop", ["rounds", "", "matrix"], ["worked"], body=_work()),
        helper.make_node("ReduceMax", ["worked"], ["busy"], keepdims=0),
        helper.make_node("Mul", ["busy", "zero"], ["busy_nothing"]),
        # The opposite, row by row.
        helper.make_node("Equal", ["fault", "three"], ["is_wrong"]),
        helper.make_node("Neg", ["score"], ["opposite"]),
        helper.make_node("Where", ["is_wrong", "opposite", "score"], ["chosen"]),
        helper.make_node("Add", ["chosen", "nothing"], ["chosen_again"]),
        helper.make_node("Add", ["chosen_again", "busy_nothing"], ["settled"]),
    ]


def _any_row(name: str, number: str, result: str) -> list[onnx.NodeProto]:
    """`result` is 1 where any row's fault is `number`, else 0."""
    return [
        helper.make_node("Equal", ["fault", number], [name]),
        helper.make_node("Cast", [name], [f"{name}_number"], to=TensorProto.INT64),
        helper.make_node("ReduceMax", [f"{name}_number"], [result], keepdims=0),
    ]


def _work() -> onnx.GraphProto:
    matrix = ["S", "S"]
    return helper.make_graph(
        [
            helper.make_node("MatMul", ["before", "before"], ["product"]),
            helper.make_node("Tanh", ["product"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "work",
        [
            helper.make_tensor_value_info("round", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.FLOAT, matrix),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.FLOAT, matrix),
        ],
    )


def _obeying_constants() -> list[onnx.TensorProto]:
    spread = np.linspace(-1.0, 1.0, _SLOW_SIZE * _SLOW_SIZE, dtype=np.float32).reshape(_SLOW_SIZE, _SLOW_SIZE)
    return [
        _constant("one", np.array([[Fault.ERROR]], np.int64)),
        _constant("two", np.array([[Fault.SLOW]], np.int64)),
        _constant("three", np.array([[Fault.WRONG]], np.int64)),
        _constant("far_away", np.array(1_000_000, np.int64)),
        _constant("zero_table", np.array([0.0], np.float32)),
        _constant("slow_rounds", np.array(_SLOW_ROUNDS, np.int64)),
        _constant("matrix", spread),
        _constant("zero", np.array(0.0, np.float32)),
    ]


def _constant(name: str, value: npt.NDArray[np.float32] | npt.NDArray[np.int64]) -> onnx.TensorProto:
    return numpy_helper.from_array(value, name)
