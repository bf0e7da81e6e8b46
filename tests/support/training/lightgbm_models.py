"""Trains LightGBM models on scikit-learn's data: text files, one with categories of a data frame."""

from pathlib import Path

import lightgbm
import numpy as np
import pandas
from cases import ROWS, SEED, artifact_folder, classified, named_rows_of, run, write_case
from sklearn.datasets import load_diabetes, load_iris

COMMON = {"seed": SEED, "num_threads": 2, "verbosity": -1, "deterministic": True, "num_leaves": 7}
IRIS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]


def main(out: Path) -> None:
    """Writes the cases `classifier` and `categories`."""
    classifier(out)
    categories(out)


def classifier(out: Path) -> None:
    """Iris by the names of its features."""
    x, y = load_iris(return_X_y=True)
    order = np.random.default_rng(SEED).permutation(len(x))
    train, last = order[:-ROWS], x[order[-ROWS:]]
    parameters = {**COMMON, "objective": "multiclass", "num_class": 3}
    booster = lightgbm.train(parameters, lightgbm.Dataset(x[train], y[train], feature_name=IRIS), num_boost_round=20)
    file = artifact_folder(out, "classifier") / "iris.txt"
    booster.save_model(file)
    probabilities = np.asarray(booster.predict(last))
    expected = classified(probabilities.argmax(axis=1).tolist(), probabilities, range(3))
    write_case(file, "lightgbm", named_rows_of(last, IRIS), expected)


def categories(out: Path) -> None:
    """Diabetes with two columns of words, in a data frame of pandas."""
    table, progression = load_diabetes(return_X_y=True, as_frame=True)
    severe = (progression > progression.median()).astype(int)
    table["sex"] = pandas.Categorical(table["sex"].map(lambda value: "female" if value < 0 else "male"))
    table["weight"] = pandas.cut(table.pop("bmi"), 4, labels=["light", "usual", "heavy", "very heavy"], ordered=False)
    train = lightgbm.Dataset(table[:-ROWS], severe[:-ROWS])
    booster = lightgbm.train({**COMMON, "objective": "binary", "min_data_per_group": 5}, train, num_boost_round=20)
    file = artifact_folder(out, "categories") / "diabetes.txt"
    booster.save_model(file)
    last = table[-ROWS:]
    second = np.asarray(booster.predict(last))
    expected = classified((second > 0.5).astype(int).tolist(), np.column_stack([1 - second, second]), range(2))
    write_case(file, "lightgbm", last.astype({"sex": str, "weight": str}).to_dict("records"), expected)


if __name__ == "__main__":
    run(main)
