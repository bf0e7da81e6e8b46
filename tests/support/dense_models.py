"""ONNX models of products of matrices, made here: what 8-bit integers are good for."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from services.supervisor.settings import ROOT

Array = np.ndarray[Any, Any]
_HOLDOUT = ROOT / ".build" / "digits" / "holdout.jsonl"
WIDTH = 512


def digits_rows() -> tuple[Array, Array]:
    """Pixels FP32 [n, 64] and what they show, [n]."""
    rows = [json.loads(line) for line in _HOLDOUT.read_text().splitlines()]
    return np.array([row["X"] for row in rows], np.float32), np.array([row["digit"] for row in rows])


def save_dense(path: Path, *, outlier: float = 0.0) -> None:
    """A classifier of digits by random features and least squares: input X FP32 [n, 64], outputs label INT64 [n] and
    scores FP32 [n, 10]. With `outlier` one weight is so large that 8 bits have nothing left for the others."""
    pixels, digit = digits_rows()
    chance = np.random.default_rng(7)
    first = (chance.standard_normal((64, WIDTH)) / 32).astype(np.float32)
    hidden = np.maximum(pixels @ first, 0)
    second = np.linalg.lstsq(hidden, np.eye(10, dtype=np.float32)[digit], rcond=1e-3)[0].astype(np.float32)
    if outlier:
        # The feature that it belongs to is always 0, so it changes no answer by itself.
        first[:, 0], second[0, :] = 0, outlier
    nodes = [
        helper.make_node("MatMul", ["X", "w1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "dense",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["rows", 64])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["rows", 10]),
        ],
        [numpy_helper.from_array(first, "w1"), numpy_helper.from_array(second, "w2")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def sample(rows: int = 100) -> list[dict[str, list[float]]]:
    """Instances of digits."""
    pixels, _ = digits_rows()
    return [{"X": [float(value) for value in row]} for row in pixels[:rows]]
