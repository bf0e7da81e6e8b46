"""Models that are Python code: a folder or a zip with a model.py, in which a class answers.

    class Model:
        def load(self, folder: pathlib.Path) -> None: ...
        def predict(self, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]: ...

The class is called `Model`, or is the only one of the file that has `predict`; it is made without arguments. `load` is
called once where there is one, with the artifact's folder. `predict` gets one batch: the first dimension of each array
is the row, texts are bytes in arrays of objects, and an optional input that the caller left out is absent. It gives all
declared outputs by their names, or the array alone where one output is declared; texts as str or bytes. What it raises
is told to the caller. Modules beside model.py can be imported.
"""

import os
import shutil
import tempfile
import weakref
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from places import MLMODEL, find_model
from user_code import load_module, own_classes

Array = np.ndarray[Any, Any]
_FILE = "model.py"


class PythonModel:
    """One instance of the artifact's class."""

    def __init__(self, model: Any, outputs: Sequence[str]) -> None:
        self._model, self._outputs = model, list(outputs)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows.

        Raises what the code raises, and ValueError where it leaves an output or a row out.
        """
        rows = len(next(iter(inputs.values()))) if inputs else None
        answer = self._model.predict(dict(inputs))
        if not isinstance(answer, Mapping):
            if len(self._outputs) != 1:
                raise ValueError(
                    f"predict gives {type(answer).__name__}; it must give a dict of {', '.join(self._outputs)}"
                )
            answer = {self._outputs[0]: answer}
        return [_output(answer, name, rows) for name in outputs]


def open_model(path: Path, serving: Mapping[str, Any]) -> PythonModel:
    """Loads the code at `path`. Raises ValueError where it has no such class, and what the code raises."""
    # What the code imports reads it at that time; a choice of the code's own or of the operator counts more.
    os.environ.setdefault("OMP_NUM_THREADS", str(serving["threads"]))
    if path.is_dir() and (path / MLMODEL).is_file() and not (path / _FILE).is_file():
        raise ValueError(f"a folder of MLflow with this flavor needs mlflow; put a {_FILE} with a class Model there")
    found = find_model(path, "python").path
    if found.is_dir():
        return _of_folder(found, serving)
    unpacked = _unpacked(found)
    try:
        model = _of_folder(find_model(unpacked, "python").path, serving)
    except BaseException:
        shutil.rmtree(unpacked, ignore_errors=True)
        raise
    # It may read more of its files for as long as it lives.
    weakref.finalize(model, shutil.rmtree, unpacked, ignore_errors=True)
    return model


def _of_folder(folder: Path, serving: Mapping[str, Any]) -> PythonModel:
    model = _class(load_module(folder / _FILE))()
    if hasattr(model, "load"):
        model.load(folder)
    return PythonModel(model, [str(one["name"]) for one in serving["outputs"]])


def _unpacked(path: Path) -> Path:
    """A zip as a folder. The registry looked at its entries; what leads out of the folder is left out all the same."""
    if not zipfile.is_zipfile(path):
        raise ValueError(f"the artifact is neither a folder nor a zip with {_FILE}")
    folder = Path(tempfile.mkdtemp(prefix="infermesh-model-"))
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder)
    return folder


def _class(code: ModuleType) -> type:
    named = getattr(code, "Model", None)
    if isinstance(named, type) and hasattr(named, "predict"):
        return named
    found = [one for one in own_classes(code) if hasattr(one, "predict")]
    if len(found) == 1:
        return found[0]
    has = ", ".join(one.__name__ for one in found) or "none"
    raise ValueError(f"{_FILE} must have a class Model, or one class, with predict(self, inputs); it has {has}")


def _output(answer: Mapping[str, Any], name: str, rows: int | None) -> Array:
    if name not in answer:
        raise ValueError(f"predict gives no output {name!r}; it gives {', '.join(map(str, answer)) or 'nothing'}")
    array = np.asarray(answer[name])
    if array.ndim == 0 or (rows is not None and len(array) != rows):
        got = "one value" if array.ndim == 0 else f"{len(array)} rows"
        raise ValueError(f"predict gives {got} for the output {name!r}; the batch has {rows} rows")
    return array
