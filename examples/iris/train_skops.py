"""Trains a classifier of iris flowers and saves it as scikit-learn models are best saved: as data, by skops."""

import argparse
from pathlib import Path

import skops.io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression


def main() -> None:
    """Writes iris.skops into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the file")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    measurements, species = load_iris(return_X_y=True)
    skops.io.dump(LogisticRegression(max_iter=500).fit(measurements, species), out / "iris.skops")


if __name__ == "__main__":
    main()
