"""TensorFlow SavedModels, alone or in an MLflow folder: the signature `serving_default`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from places import find_model

Array = np.ndarray[Any, Any]
_SIGNATURE = "serving_default"


class TensorflowModel:
    """One signature, called with its tensors by name."""

    def __init__(self, folder: Path, serving: Mapping[str, Any]) -> None:
        # The signature lives as long as what was loaded.
        self._loaded = tf.saved_model.load(str(folder))
        signatures = self._loaded.signatures
        if _SIGNATURE not in signatures:
            has = ", ".join(signatures) or "none"
            raise ValueError(f"the SavedModel has no signature {_SIGNATURE!r}; it has {has}")
        self._signature = signatures[_SIGNATURE]
        self._specs = dict(self._signature.structured_input_signature[1])
        self._inputs = _names([str(one["name"]) for one in serving["inputs"]], list(self._specs), "input")
        outputs = list(self._signature.structured_outputs)
        self._outputs = _names([str(one["name"]) for one in serving["outputs"]], outputs, "output")

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows. Raises what TensorFlow raises, and ValueError."""
        missing = [name for name in self._inputs if name not in inputs]
        if missing:
            raise ValueError(f"input {missing[0]!r} is missing")
        own = {self._inputs[name]: value for name, value in inputs.items()}
        answer = self._signature(
            **{name: tf.constant(own[name], dtype=spec.dtype) for name, spec in self._specs.items()}
        )
        return [answer[self._outputs[name]].numpy() for name in outputs]


def open_model(path: Path, serving: Mapping[str, Any]) -> TensorflowModel:
    """Loads the SavedModel at `path`, a folder.

    Raises ValueError where it is none or the declared tensors do not fit, and what TensorFlow raises.
    """
    threads = int(serving["threads"])
    # Before the first tensor: TensorFlow fixes its pools then.
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for device in tf.config.list_physical_devices("GPU"):
        # Other models share the device.
        tf.config.experimental.set_memory_growth(device, True)
    found = find_model(path, "tensorflow").path
    if not found.is_dir():
        raise ValueError("the artifact is no SavedModel folder; save it by model.export(folder)")
    return TensorflowModel(found, serving)


def _names(declared: Sequence[str], own: Sequence[str], side: str) -> Mapping[str, str]:
    """The signature's name of each declared tensor: the same, but where both have one alone."""
    if len(declared) == len(own) == 1:
        return {declared[0]: own[0]}
    unknown = [name for name in declared if name not in own]
    missing = [name for name in own if name not in declared] if side == "input" else []
    if unknown or missing:
        raise ValueError(
            f"the signature's {side}s are {', '.join(sorted(own))}; the version declares {', '.join(declared)}"
        )
    return {name: name for name in declared}
