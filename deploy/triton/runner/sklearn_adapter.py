"""scikit-learn models: skops files, joblib files and pickles, alone or in an MLflow folder."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from declared_outputs import Answers
from feature_columns import Features
from numpy_pickles import accept_numpy_2
from places import find_model, zip_names
from threadpoolctl import threadpool_limits
from user_code import importable

Array = np.ndarray[Any, Any]
_TRUSTED = re.compile(
    r"sklearn\.[\w.]+|numpy\.\w+|numpy\.(core|_core|random|ma)\.[\w.]+"
    r"|scipy\.(sparse|special|stats|spatial|interpolate|linalg)\.[\w.]+"
)
"""What a skops file may hold beyond what skops itself trusts. Elsewhere in numpy and scipy are functions that run the
text that they are given."""
_NESTED_MAX = 16


class SklearnModel:
    """One fitted estimator, or the pipeline or search around one."""

    def __init__(self, model: Any, serving: Mapping[str, Any]) -> None:
        self._model = model
        self._predict = getattr(model, "predict", None) or getattr(model, "transform", None)
        if self._predict is None:
            raise ValueError(f"the artifact holds {_kind(model)}, which neither predicts nor transforms")
        names = _told(model, "feature_names_in_")
        count = _told(model, "n_features_in_")
        self._features = Features(
            serving["inputs"],
            names=None if names is None else [str(name) for name in names],
            count=None if count is None else int(count),
        )
        if names is not None:
            # Only models that were fitted on a data frame need it.
            import pandas  # noqa: PLC0415

            self._table = pandas.DataFrame
        classes = getattr(model, "classes_", None)
        self._answers = Answers(
            serving["outputs"],
            classifies=classes is not None,
            # With several outputs there is a list of classes for each, and probabilities for each.
            has_probabilities=hasattr(model, "predict_proba") and not isinstance(classes, list),
        )
        words = [one for one in classes if isinstance(one, str)] if isinstance(classes, np.ndarray) else []
        if words:
            self._answers.say_words(words)

    def run(self, outputs: Sequence[str], inputs: Mapping[str, Array]) -> list[Array]:
        """The named outputs for one batch of rows. Raises what the model raises, and ValueError."""
        rows = self._rows(inputs)
        return self._answers.give(
            outputs,
            prediction=lambda: _dense(self._predict(rows)),
            probabilities=lambda: self._model.predict_proba(rows),
        )

    def _rows(self, inputs: Mapping[str, Array]) -> Any:
        """What the model was fitted on: a data frame where its columns had names, else a matrix, else texts alone."""
        if self._features.names is not None:
            return self._table(self._features.columns(inputs))
        matrix = self._features.matrix(inputs)
        # A vectorizer counts no features: it takes a sequence of texts.
        return matrix[:, 0] if self._features.count is None and matrix.dtype == object else matrix


def open_model(path: Path, serving: Mapping[str, Any]) -> SklearnModel:
    """Loads the estimator at `path`.

    Raises ValueError where it is none, where a skops file holds what is not trusted, and where the declared tensors do
    not fit; and what unpickling raises.
    """
    place = find_model(path, "sklearn")
    if place.code is not None:
        importable(place.code)
    threads = int(serving["threads"])
    model = _loaded(place.path)
    if not hasattr(model, "get_params"):
        raise ValueError(f"the artifact holds {_kind(model)}, which is no estimator; save the fitted estimator itself")
    # Those of BLAS and OpenMP, and those that the estimator asks joblib for: a forest often says "all cores".
    threadpool_limits(limits=threads)
    parameters = model.get_params()
    jobs = [name for name, value in parameters.items() if name.endswith("n_jobs") and value is not None]
    if jobs:
        model.set_params(**dict.fromkeys(jobs, threads))
    return SklearnModel(model, serving)


def _loaded(path: Path) -> Any:
    accept_numpy_2()
    if "schema.json" in zip_names(path):
        # Slow to import, and only these files need it.
        import skops.io  # noqa: PLC0415

        unknown = skops.io.get_untrusted_types(file=path)
        foreign = [name for name in unknown if _TRUSTED.fullmatch(name) is None]
        if foreign:
            raise ValueError(
                f"the skops file holds {', '.join(foreign[:5])}, which neither scikit-learn nor skops answers for; "
                "save the model by joblib, if its owner may register pickles"
            )
        return skops.io.load(path, trusted=unknown)
    return joblib.load(path)


def _told(model: Any, attribute: str) -> Any:
    """What a model, or one that it is made around, says of its features. None where none does."""
    return next((value for one in _chain(model) if (value := getattr(one, attribute, None)) is not None), None)


def _chain(model: Any) -> Iterator[Any]:
    """From the outermost inwards, the first step of a pipeline."""
    for _ in range(_NESTED_MAX):
        yield model
        steps = getattr(model, "steps", None)
        model = steps[0][1] if steps else getattr(model, "best_estimator_", None)
        if model is None or isinstance(model, str):
            return


def _dense(answer: Any) -> Any:
    return answer.toarray() if hasattr(answer, "toarray") else answer


def _kind(model: Any) -> str:
    return f"{type(model).__module__}.{type(model).__name__}"
