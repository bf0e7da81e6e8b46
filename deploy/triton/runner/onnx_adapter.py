"""ONNX models, by onnxruntime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from feature_columns import texts
from places import find_model


class OnnxModel:
    """One session; onnxruntime lets many threads run it, Triton's stub uses one."""

    def __init__(self, path: Path, serving: Mapping[str, Any]) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(serving["threads"])
        options.inter_op_num_threads = 1
        # A spinning pool takes the cores from the batcher beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers(serving))
        self._text = {one.name for one in self._session.get_inputs() if one.type == "tensor(string)"}

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The named outputs for one batch of rows. Raises what onnxruntime raises."""
        given = {name: texts(value, name) if name in self._text else value for name, value in inputs.items()}
        return list(self._session.run(list(outputs), given))


def open_model(path: Path, serving: Mapping[str, Any]) -> OnnxModel:
    """Loads the file at `path`, or the one in that folder.

    Raises ValueError where it shall run on a GPU and onnxruntime has no way to, and what onnxruntime says is wrong.
    """
    return OnnxModel(find_model(path, "onnx").path, serving)


def _providers(serving: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """What computes the graph: each takes what those before it cannot."""
    cpu: tuple[str, dict[str, Any]] = ("CPUExecutionProvider", {})
    if serving.get("gpu") is None:
        return [cpu]
    device = {"device_id": serving["gpu"]}
    wanted: list[tuple[str, dict[str, Any]]] = [("CUDAExecutionProvider", device)]
    if serving.get("precision") == "fp16":
        wanted.insert(0, ("TensorrtExecutionProvider", device | {"trt_fp16_enable": True}))
    there = onnxruntime.get_available_providers()
    lacking = [name for name, _ in wanted if name not in there]
    if lacking:
        raise ValueError(
            f"this onnxruntime has no {lacking[0]}, only {', '.join(there)}; install onnxruntime-gpu in the model "
            "servers' environment, or deploy without resources.gpu"
        )
    return [*wanted, cpu]
