"""What Triton's python backend runs for every model version: one generic runner, one adapter for each framework.

The folder of a version holds this file, the adapters, the artifact, and `serving.json`, which says how to run it:

    {"framework": "onnx", "artifact": "model.onnx", "threads": 1,
     "inputs": [{"name": "X", "datatype": "FP32", "shape": [64]}],
     "outputs": [{"name": "label", "datatype": "INT64", "shape": []}]}

A shape is that of one row; -1 is a size that calls choose. `"precision": "fp16"` asks for half precision within the
model; what comes and goes is as declared. It runs in Triton's stub process, in the framework's own
environment: nothing of the services can be imported here, and an adapter imports nothing that only others have.

An adapter is a module with

    open_model(path: Path, serving: Mapping[str, Any]) -> Model

where `path` is the artifact, a file or a folder, and `serving` what serving.json says, with `gpu`: the number of the
GPU that this copy runs on, None for the CPU. It raises ValueError with what is expected where the artifact or the
declared tensors are not what it can run. A model has

    run(outputs: Sequence[str], inputs: Mapping[str, ndarray]) -> list[ndarray]

which gives the named outputs, in that order, for one batch: the first dimension of each array is the row. BYTES come
as bytes in arrays of objects, and go as bytes or str. An optional input may be absent. What it raises is told to the
caller.
"""

import json
import os
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as triton

ADAPTERS = {
    "lightgbm": "lightgbm_adapter",
    "onnx": "onnx_adapter",
    "python": "python_adapter",
    "pytorch": "pytorch_adapter",
    "sklearn": "sklearn_adapter",
    "tensorflow": "tensorflow_adapter",
    "xgboost": "xgboost_adapter",
}
"""The module of each framework's adapter."""


class TritonPythonModel:
    """The class that the python backend looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Loads the artifact. Whatever is raised here is what Triton answers to the load."""
        folder = Path(args["model_repository"]) / args["model_version"]
        serving = json.loads((folder / "serving.json").read_text())
        framework = serving["framework"]
        if framework not in ADAPTERS:
            known = ", ".join(sorted(ADAPTERS))
            raise triton.TritonModelException(f"no adapter for framework {framework!r}; there is one for: {known}")
        self._inputs = [one["name"] for one in serving["inputs"]]
        self._types = {one["name"]: _numpy_type(one["datatype"]) for one in serving["outputs"]}
        gpu = int(args["model_instance_device_id"]) if args["model_instance_kind"] == "GPU" else None
        # For models that are Python code and choose their device themselves.
        os.environ["INFERMESH_GPU"] = "" if gpu is None else str(gpu)
        adapter = import_module(ADAPTERS[framework])
        self._model = adapter.open_model(folder / serving["artifact"], serving | {"gpu": gpu})

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answers requests in one run where they fit together; where that run fails, each alone, so blame is precise.

        Behind the batcher there is one request at a time, its rows joined already. Several come only to a Triton that
        batches by itself.
        """
        if len(requests) > 1:
            joined = self._answer_joined(requests)
            if joined is not None:
                return joined
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Lets go of the model."""
        del self._model

    def _answer_joined(self, requests: Sequence[Any]) -> list[Any] | None:
        """None where the requests do not fit together or their run fails."""
        givens = [self._given(request) for request in requests]
        wanted = [self._wanted(request) for request in requests]
        rows = [len(next(iter(given.values()))) for given in givens]
        try:
            together = {name: np.concatenate([given[name] for given in givens]) for name in givens[0]}
            answers = self._model.run(wanted[0], together)
        except Exception:
            return None
        if any(names != wanted[0] for names in wanted) or any(len(answer) != sum(rows) for answer in answers):
            return None
        ends = np.cumsum(rows)
        return [
            self._response(wanted[0], [answer[end - count : end] for answer in answers])
            for end, count in zip(ends, rows, strict=True)
        ]

    def _answer(self, request: Any) -> Any:
        try:
            names = self._wanted(request)
            return self._response(names, self._model.run(names, self._given(request)))
        except Exception as error:
            return triton.InferenceResponse(error=triton.TritonError(f"{type(error).__name__}: {error}"))

    def _given(self, request: Any) -> dict[str, Any]:
        """The inputs that the request has: an optional one may be absent."""
        tensors = ((name, triton.get_input_tensor_by_name(request, name)) for name in self._inputs)
        return {name: tensor.as_numpy() for name, tensor in tensors if tensor is not None}

    def _wanted(self, request: Any) -> list[str]:
        asked = set(request.requested_output_names())
        return [name for name in self._types if name in asked]

    def _response(self, names: Sequence[str], answers: Sequence[Any]) -> Any:
        return triton.InferenceResponse(
            [
                triton.Tensor(name, np.ascontiguousarray(answer, dtype=self._types[name]))
                for name, answer in zip(names, answers, strict=True)
            ]
        )


def _numpy_type(datatype: str) -> Any:
    return np.object_ if datatype == "BYTES" else triton.triton_string_to_numpy(f"TYPE_{datatype}")
