"""Opens a model with an adapter of the runner, in the Python of the model servers or of an environment, and asks it.

    python run_adapter.py RUNNER_FOLDER ADAPTER ARTIFACT SERVING_JSON ARRAY.npy

Prints JSON: what the adapter refused the artifact with, or for each output its element type and its values.
"""

import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np


def main() -> None:
    """Everything by the arguments."""
    runner, adapter, artifact, serving, array = sys.argv[1:]
    sys.path.insert(0, runner)
    sys.dont_write_bytecode = True
    said = json.loads(serving)
    outputs = [one["name"] for one in said["outputs"]]
    try:
        model = import_module(adapter).open_model(Path(artifact), said)
    except ValueError as error:
        print(json.dumps({"refused": str(error)}))
        return
    answers = model.run(outputs, {said["inputs"][0]["name"]: np.load(array)})
    print(json.dumps({name: [one.dtype.name, one.tolist()] for name, one in zip(outputs, answers, strict=True)}))


if __name__ == "__main__":
    main()
