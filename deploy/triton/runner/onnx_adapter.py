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

    def __init__(self, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # A spinning pool takes the cores from the batcher beside it.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = onnxruntime.InferenceSession(str(path), options, providers=_providers())
        self._text = {one.name for one in self._session.get_inputs() if one.type == "tensor(string)"}

    def run(self, outputs: Sequence[str], inputs: Mapping[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        """The named outputs for one batch of rows. Raises what onnxruntime raises."""
        given = {name: texts(value, name) if name in self._text else value for name, value in inputs.items()}
        return list(self._session.run(list(outputs), given))


def open_model(path: Path, serving: Mapping[str, Any]) -> OnnxModel:
    """Loads the file at `path`, or the one in that folder; raises what onnxruntime says is wrong with it."""
    return OnnxModel(find_model(path, "onnx").path, int(serving["threads"]))


def _providers() -> list[str]:
    """A GPU where onnxruntime has one, then the CPU."""
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    there = set(onnxruntime.get_available_providers())
    return [provider for provider in wanted if provider in there]
