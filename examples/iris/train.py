# mypy: ignore-errors
# (the frameworks are installed in the serving environment alone, where mypy does not run)
"""Trains two versions of a classifier of iris flowers and exports them to ONNX.

    .venv-serving/bin/python examples/iris/train.py --out .build/iris

It writes `iris-v1.0.0.onnx` (a simple logistic regression) and `iris-v1.1.0.onnx` (a random forest), each with input
`measurements` FP32 [N, 4] (sepal length and width, petal length and width, in cm) and outputs `label` INT64 [N] and
`probabilities` FP32 [N, 3]; for each version a `.json` with what is worth knowing about it; and `flowers.csv`, the
flowers that no training saw, for a batch job.
"""

import argparse
import csv
import json
from pathlib import Path

import skl2onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED = 20260201
ESTIMATORS = {
    "v1.0.0": LogisticRegression(C=0.01, max_iter=1000, random_state=SEED),
    "v1.1.0": RandomForestClassifier(n_estimators=50, max_depth=3, random_state=SEED),
}


def main() -> None:
    """Parses the arguments, trains, writes."""
    parser = argparse.ArgumentParser(description="Train and export two versions of an iris classifier.")
    parser.add_argument("--out", type=Path, required=True, help="folder for the files")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    iris = load_iris()
    x_train, x_test, y_train, y_test = train_test_split(
        iris.data.astype("float32"), iris.target, test_size=0.3, random_state=SEED, stratify=iris.target
    )
    for version, estimator in ESTIMATORS.items():
        estimator.fit(x_train, y_train)
        # Without "zipmap" the probabilities are a plain tensor, one row an instance.
        model = skl2onnx.to_onnx(
            estimator,
            initial_types=[("measurements", FloatTensorType([None, 4]))],
            options={id(estimator): {"zipmap": False}},
        )
        (out / f"iris-{version}.onnx").write_bytes(model.SerializeToString(deterministic=True))
        known = {
            "description": f"Species of an iris from four measurements: {type(estimator).__name__}",
            "class_names": iris.target_names.tolist(),
            "accuracy": round(float(estimator.score(x_test, y_test)), 4),
            "dataset": "scikit-learn iris",
            "tags": ["example", "flowers"],
        }
        (out / f"iris-{version}.json").write_text(json.dumps(known, indent=2) + "\n")
        print(f"iris {version}: {type(estimator).__name__}, {known['accuracy']:.1%} of held-out flowers right")
    with (out / "flowers.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["flower", "measurements", "species"])
        for place, (row, species) in enumerate(zip(x_test, y_test, strict=True)):
            measurements = [round(float(value), 1) for value in row]
            writer.writerow([f"flower-{place:02d}", json.dumps(measurements), iris.target_names[species]])


if __name__ == "__main__":
    main()
