"""What a model predicts as the output tensors that its version declares, for models that classify or give numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
PREDICTION, PROBABILITIES = "prediction", "probabilities"
_BY_NAME = {
    "label": PREDICTION,
    "output_label": PREDICTION,
    "output": PREDICTION,
    "probabilities": PROBABILITIES,
    "probability": PROBABILITIES,
    "output_probability": PROBABILITIES,
}
"""The names that the registry gives, and those that it takes for the same where others were declared."""


class Answers:
    """Which declared output is the prediction and which the probabilities."""

    def __init__(self, outputs: Sequence[Mapping[str, Any]], *, classifies: bool, has_probabilities: bool) -> None:
        """`outputs` as serving.json has them. Raises ValueError where it is not clear which is which."""
        self._specs = {str(one["name"]): one for one in outputs}
        self._roles = {name: _role(spec) if classifies else PREDICTION for name, spec in self._specs.items()}
        roles = list(self._roles.values())
        if len(set(roles)) != len(roles):
            gives = "'label' and 'probabilities'" if classifies else "one output, 'output'"
            raise ValueError(f"the model gives {gives}, and the version declares {', '.join(self._specs)}")
        for name, role in self._roles.items():
            if role == PROBABILITIES and not has_probabilities:
                raise ValueError(f"the model gives no probabilities; leave the output {name!r} out")

    def say_words(self, classes: Sequence[str]) -> None:
        """Says that the classes are words. Raises ValueError where the prediction is declared as a number."""
        for name, role in self._roles.items():
            if role == PREDICTION and self._specs[name]["datatype"] != "BYTES":
                some = ", ".join(classes[:5])
                raise ValueError(f"the model's classes are words ({some}); declare output {name!r} as a string")

    def give(
        self, wanted: Sequence[str], *, prediction: Callable[[], Any], probabilities: Callable[[], Any]
    ) -> list[Array]:
        """The wanted outputs; only what is wanted is computed. Raises ValueError where one is not what was declared."""
        made = {PREDICTION: prediction, PROBABILITIES: probabilities}
        return [fitted(made[self._roles[name]](), self._specs[name]) for name in wanted]


def fitted(answer: Any, spec: Mapping[str, Any]) -> Array:
    """The answer in the declared shape and kind of element.

    Raises ValueError where it has another number of elements in a row, or would lose what it says: texts and fractions
    are no whole numbers.
    """
    name, datatype, shape = spec["name"], spec["datatype"], tuple(spec["shape"])
    array = np.asarray(answer)
    if datatype == "BYTES":
        array = np.vectorize(lambda one: one if isinstance(one, bytes) else str(one), otypes=[object])(array)
    elif array.dtype.kind not in "biuf":
        array = _numbers(array, name, datatype)
    if datatype.startswith(("INT", "UINT")) and array.dtype.kind == "f" and not (array == np.trunc(array)).all():
        raise ValueError(f"output {name!r} is declared as {datatype}, and the model gives fractions; declare a float")
    if array.ndim == len(shape) + 1:
        return array
    try:
        return array.reshape(len(array), *shape) if array.ndim else array.reshape(1, *shape)
    except ValueError:
        raise ValueError(
            f"output {name!r} is declared with rows of shape {list(shape)}, "
            f"and the model gives rows of shape {list(array.shape[1:])}"
        ) from None


def _numbers(array: Array, name: str, datatype: str) -> Array:
    try:
        return array.astype(np.float64)
    except (ValueError, TypeError):
        some = next(iter(array.ravel().tolist()), None)
        raise ValueError(
            f"output {name!r} is declared as {datatype}, and the model gives {some!r}; declare a string"
        ) from None


def _role(spec: Mapping[str, Any]) -> str:
    """What an output of a classifier is, by its name, else by its shape and type."""
    name, fractions = str(spec["name"]), str(spec["datatype"]).startswith(("FP", "BF"))
    if name in _BY_NAME:
        return _BY_NAME[name]
    if len(spec["shape"]) == 1 and fractions:
        return PROBABILITIES
    if not spec["shape"] and not fractions:
        return PREDICTION
    raise ValueError(
        f"output {name!r} is neither the class nor the probabilities of the model; "
        "declare 'label' (an int or a string) or 'probabilities' (array<float>)"
    )
