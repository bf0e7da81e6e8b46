# mypy: ignore-errors
# (PyTorch is installed in the models' environment alone, where mypy does not run)
"""What Triton's python backend runs: requests that Triton hands over together are one batch on the GPU.

The batcher hands over one request that is a batch already; a Triton that batches by itself hands over many. Outputs are
`label` INT64, one a row, and `scores` FP32 [16].
"""

import json

import numpy as np
import triton_python_backend_utils as triton
from network import Runner, served


class TritonPythonModel:
    """The class that the python backend looks for."""

    def initialize(self, args):
        """Builds the network and runs every size, so that no caller waits for a kernel to be loaded."""
        config = json.loads(args["model_config"])
        told = {name: int(value["string_value"]) for name, value in config["parameters"].items()}
        self._flat_labels = config["max_batch_size"] == 0
        self._run = Runner(served(told["layers"], told["hidden"]), told["rows_max"], graphs=bool(told["graphs"]))

    def execute(self, requests):
        """One run for all."""
        given = [triton.get_input_tensor_by_name(request, "ids").as_numpy() for request in requests]
        scores = self._run(given[0] if len(given) == 1 else np.concatenate(given))
        labels = scores.argmax(axis=1)
        if not self._flat_labels:
            labels = labels[:, None]
        answers, start = [], 0
        for ids in given:
            end = start + len(ids)
            tensors = [triton.Tensor("label", labels[start:end]), triton.Tensor("scores", scores[start:end])]
            answers.append(triton.InferenceResponse(tensors))
            start = end
        return answers
