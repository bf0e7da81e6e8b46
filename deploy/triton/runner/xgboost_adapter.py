"""XGBoost models: boosters in JSON or UBJSON, alone or in an MLflow folder."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xgboost
from declared_outputs import Answers
from feature_columns import Features
from places import find_model

Array = np.ndarray[Any, Any]


class XgboostModel:
    """One booster. What it was trained on and for is in the booster itself."""

    def __init__(self, booster: xgboost.Booster, serving: Mapping[str, Any]) -> None:
        config = json.loads(booster.save_config())["learner"]
        parameters = config["learner_model_param"]
        objective, class_count = str(config["objective"]["name"]), int(parameters["num_class"])
        self._binary = objective == "binary:logistic"
        self._many = objective.startswith("multi:") and class_count > 1
        if self._many:
            # "softmax" answers with the class alone; this is the same model, and tells the probabilities.
            booster.set_param({"objective": "multi:softprob"})
        self._booster = booster
        self._in_place = config["gradient_booster"]["name"] != "gblinear"
        self._range = _iterations(booster)
        kinds = booster.feature_types
        self._features = Features(serving["inputs"], names=booster.feature_names, count=booster.num_features())
        texts = [name for name, type_ in self._features.types.items() if type_ == "BYTES"]
        if texts:
            raise ValueError(
                f"input {texts[0]!r} is a string, and XGBoost takes numbers; declare a category by its code"
            )
        self._kinds = kinds
        self._categories = [place for place, kind in enumerate(kinds or ()) if kind == "c"]
        self._answers = Answers(
            serving["outputs"], classifies=self._binary or self._many, has_probabilities=self._binary or self._many
        )

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows; NaN is a missing value. Raises ValueError."""
        matrix = self._features.matrix(inputs).astype(np.float32)
        for place in self._categories:
            # The code that pandas gives to what is missing.
            matrix[matrix[:, place] < 0, place] = np.nan
        with _plain_errors():
            raw = self._raw(matrix)
        if self._binary:
            raw = np.column_stack([1 - raw, raw])
        # Of two classes the second one needs more than a half, as in XGBClassifier.
        prediction = raw.argmax(axis=1) if self._binary or self._many else raw
        return self._answers.give(outputs, prediction=lambda: prediction, probabilities=lambda: raw)

    def _raw(self, matrix: Array) -> Array:
        if self._in_place:
            return self._booster.inplace_predict(matrix, iteration_range=self._range, validate_features=False)
        data = xgboost.DMatrix(matrix, feature_names=self._booster.feature_names, feature_types=self._kinds)
        return self._booster.predict(data)


def open_model(path: Path, serving: Mapping[str, Any]) -> XgboostModel:
    """Loads the booster at `path`. Raises ValueError where it is none or the declared tensors do not fit."""
    data = find_model(path, "xgboost").path.read_bytes()
    if not data.startswith(b"{"):
        raise ValueError('the artifact is no booster in JSON or UBJSON; save it by booster.save_model("model.ubj")')
    booster = xgboost.Booster({"nthread": int(serving["threads"]), "device": "cpu"})
    # Out of memory and not by its path: XGBoost goes by the ending of a file's name.
    with _plain_errors():
        booster.load_model(bytearray(data))
    booster.set_param({"nthread": int(serving["threads"]), "device": "cpu"})
    return XgboostModel(booster, serving)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What XGBoost says is wrong, without the addresses of its functions."""
    try:
        yield
    except xgboost.core.XGBoostError as error:
        raise ValueError(str(error).partition("Stack trace")[0].strip()) from None


def _iterations(booster: xgboost.Booster) -> tuple[int, int]:
    """The rounds that answer: all, but those up to the best one where XGBClassifier or XGBRegressor wrote the model."""
    best = booster.attr("best_iteration")
    wrapper = booster.attr("scikit_learn") is not None
    return (0, int(best) + 1) if best is not None and wrapper else (0, 0)
