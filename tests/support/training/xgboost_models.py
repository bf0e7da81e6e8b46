"""Trains XGBoost models on scikit-learn's data: boosters in UBJSON and JSON."""

from pathlib import Path

import numpy as np
import xgboost
from cases import ROWS, SEED, artifact_folder, classified, named_rows_of, rows_of, run, valued, write_case
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits

COMMON = {"seed": SEED, "nthread": 2, "max_depth": 4}


def main(out: Path) -> None:
    """Writes the cases `ubj_classifier`, `json_binary` and `json_regressor`."""
    ubj_classifier(out)
    json_binary(out)
    json_regressor(out)


def ubj_classifier(out: Path) -> None:
    """Digits in one row of 64 numbers without names."""
    x, y = load_digits(return_X_y=True)
    parameters = {**COMMON, "objective": "multi:softprob", "num_class": 10}
    booster = xgboost.train(parameters, xgboost.DMatrix(x[:-ROWS], y[:-ROWS]), num_boost_round=8)
    file = artifact_folder(out, "ubj_classifier") / "digits.ubj"
    booster.save_model(file)
    probabilities = booster.predict(xgboost.DMatrix(x[-ROWS:]))
    expected = classified(probabilities.argmax(axis=1).tolist(), probabilities, range(10))
    write_case(file, "xgboost", rows_of(x[-ROWS:]), expected)


def json_binary(out: Path) -> None:
    """Breast cancer by the names of its features, with missing values in training."""
    data = load_breast_cancer()
    x, names = data.data.copy(), [str(name) for name in data.feature_names]
    x[::7, 3] = np.nan
    train = xgboost.DMatrix(x[:-ROWS], data.target[:-ROWS], feature_names=names)
    booster = xgboost.train({**COMMON, "objective": "binary:logistic"}, train, num_boost_round=15)
    file = artifact_folder(out, "json_binary") / "cancer.json"
    booster.save_model(file)
    last = data.data[-ROWS:]
    second = booster.predict(xgboost.DMatrix(last, feature_names=names))
    expected = classified((second > 0.5).astype(int).tolist(), np.column_stack([1 - second, second]), range(2))
    write_case(file, "xgboost", named_rows_of(last, names), expected)


def json_regressor(out: Path) -> None:
    """Diabetes: a number as the answer."""
    x, y = load_diabetes(return_X_y=True)
    booster = xgboost.train(COMMON, xgboost.DMatrix(x[:-ROWS], y[:-ROWS]), num_boost_round=15)
    file = artifact_folder(out, "json_regressor") / "diabetes.json"
    booster.save_model(file)
    write_case(file, "xgboost", rows_of(x[-ROWS:]), valued(booster.predict(xgboost.DMatrix(x[-ROWS:])).tolist()))


if __name__ == "__main__":
    run(main)
