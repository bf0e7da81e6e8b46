"""ONNX files for tests, made in memory."""

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

Dims = Sequence[int | str | None] | None


def tensor(name: str, dims: Dims, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    """An input or output; names and None are dimensions of any size, and no dims at all an unknown rank."""
    return helper.make_tensor_value_info(name, kind, dims)


def model(
    inputs: Sequence[onnx.ValueInfoProto] = (),
    outputs: Sequence[onnx.ValueInfoProto] = (),
    *,
    weights: Sequence[onnx.TensorProto] = (),
    ir_version: int = 8,
) -> onnx.ModelProto:
    """A model whose nodes nobody looks at; by default the one of three flowers."""
    given = inputs or (tensor("X", ["N", 4]),)
    made = outputs or (tensor("label", ["N"], TensorProto.INT64), tensor("probabilities", ["N", 3]))
    nodes = [helper.make_node("Identity", [given[0].name], [made[0].name])]
    graph = helper.make_graph(nodes, "flowers", list(given), list(made), initializer=list(weights))
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=ir_version, producer_name="tests")
