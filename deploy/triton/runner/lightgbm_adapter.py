"""LightGBM models: text files, alone or in an MLflow folder."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightgbm
import numpy as np
from declared_outputs import Answers
from feature_columns import Features
from places import find_model

Array = np.ndarray[Any, Any]
_CLASSES = ("multiclass", "multiclassova", "softmax", "ova")
_PARAMETER = re.compile(r"^\[categorical_feature: ([0-9,]+)\]$", re.MULTILINE)


class LightgbmModel:
    """One booster, with what its text says of features and classes."""

    def __init__(self, text: str, serving: Mapping[str, Any]) -> None:
        header = _header(text)
        self._booster = lightgbm.Booster(model_str=text)
        self._threads = int(serving["threads"])
        words = (header.get("objective") or "").split() or [""]
        self._many = words[0] in _CLASSES and int(header["num_class"]) > 1
        self._binary = words[0] == "binary"
        names = header["feature_names"].split(" ")
        given = any(name != f"Column_{number}" for number, name in enumerate(names))
        self._features = Features(serving["inputs"], names=names if given else None, count=len(names))
        self._codes = self._words(names, _categories(text, header))
        self._answers = Answers(
            serving["outputs"], classifies=self._binary or self._many, has_probabilities=self._binary or self._many
        )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows; NaN and unknown words are missing values.

        Raises ValueError, and what LightGBM raises.
        """
        raw = np.asarray(self._booster.predict(self._matrix(inputs), num_threads=self._threads))
        if self._binary:
            raw = np.column_stack([1 - raw, raw])
        prediction = raw.argmax(axis=1) if self._binary or self._many else raw
        return self._answers.give(outputs, prediction=lambda: prediction, probabilities=lambda: raw)

    def _matrix(self, inputs: Mapping[str, Array]) -> Array:
        if not self._codes:
            return self._features.matrix(inputs).astype(np.float64)
        columns = self._features.columns(inputs)
        for name, codes in self._codes.items():
            columns[name] = np.array([codes.get(one, np.nan) for one in columns[name]], dtype=np.float64)
        return np.column_stack([column.astype(np.float64) for column in columns.values()])

    def _words(
        self, names: Sequence[str], categories: Mapping[int, Sequence[object]]
    ) -> Mapping[str, Mapping[object, float]]:
        """For each feature that comes as a word, the code that each word had in training."""
        texts = [name for name, type_ in self._features.types.items() if type_ == "BYTES"]
        if self._features.row is not None and texts and len(names) > 1:
            raise ValueError(f"input {texts[0]!r} holds strings; declare one scalar for each feature, by its name")
        found = {}
        for name in texts:
            own = name if self._features.row is None else names[0]
            words = categories.get(names.index(own), ())
            if not words:
                raise ValueError(f"input {name!r} is a string, and the model has no words for it; declare a number")
            found[own] = {str(word): float(code) for code, word in enumerate(words)}
        return found


def open_model(path: Path, serving: Mapping[str, Any]) -> LightgbmModel:
    """Loads the booster at `path`. Raises ValueError where it is none or the declared tensors do not fit."""
    data = find_model(path, "lightgbm").path.read_bytes().replace(b"\r\n", b"\n")
    if not data.startswith(b"tree\n"):
        raise ValueError('the artifact is no booster in text; save it by booster.save_model("model.txt")')
    return LightgbmModel(data.decode(), serving)


def _header(text: str) -> Mapping[str, str]:
    lines = text.partition("\n\n")[0].split("\n")
    pairs = (line.partition("=") for line in lines)
    return {name: value for name, equals, value in pairs if equals}


def _categories(text: str, header: Mapping[str, str]) -> Mapping[int, Sequence[object]]:
    """The values of each category of the data frame that the model was trained with, by the place of its feature.

    The model lists them in the order of the columns, without saying which columns: those that its parameter names, else
    those whose infos are codes ("0:1:2", where numbers have "[low:high]"). Where neither are as many, one of them is an
    ordered category, which LightGBM takes as a number: then nothing tells which, and all come as their codes.
    """
    line = re.search(r"^pandas_categorical:(.*)$", text, re.MULTILINE)
    lists = json.loads(line.group(1)) if line else None
    if not lists:
        return {}
    infos = header.get("feature_infos", "").split(" ")
    coded = [place for place, info in enumerate(infos) if ":" in info and not info.startswith("[")]
    said = _PARAMETER.search(text)
    listed = [int(one) for one in said.group(1).split(",")] if said else []
    places = next((one for one in (listed, coded) if len(one) == len(lists)), [])
    found = dict(zip(places, lists, strict=False))
    # A code beyond the words shows that the lists belong to other columns.
    return found if all(_code_max(infos[place]) < len(words) for place, words in found.items()) else {}


def _code_max(info: str) -> int:
    """The highest code of a category's info; -1 where it has none."""
    return max((int(code) for code in info.split(":") if code.isdigit()), default=-1)
