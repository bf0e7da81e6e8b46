"""Writes models that are Python code, with numbers of scikit-learn's digits beside it: a folder, and a zip."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from cases import ROWS, artifact_folder, classified, rows_of, run, valued, write_case
from sklearn.datasets import load_digits

CENTROIDS = '''"""The nearest of ten mean digits."""

import pathlib

import numpy as np
from distances import squared


class Model:
    """Digits by their distance from the mean of each digit."""

    def load(self, folder: pathlib.Path) -> None:
        self.means = np.load(folder / "means.npy")

    def predict(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        distances = squared(inputs["X"].astype(np.float64), self.means)
        closeness = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / 100)
        return {"label": distances.argmin(axis=1), "probabilities": closeness / closeness.sum(axis=1, keepdims=True)}
'''
DISTANCES = '''"""Distances between rows."""


def squared(rows, means):
    return ((rows[:, None, :] - means[None, :, :]) ** 2).sum(axis=2)
'''
WORDS = '''"""Says how dark a picture is, in the words of a file."""

import numpy as np


class Darkness:
    def load(self, folder):
        self.words = (folder / "words.txt").read_text().split()

    def predict(self, inputs):
        place = np.minimum(inputs["X"].mean(axis=1) // 2, len(self.words) - 1).astype(int)
        name = np.array([given.decode() for given in inputs["name"]], dtype=object)
        return np.array([f"{one} is {self.words[at]}" for one, at in zip(name, place)], dtype=object)
'''
PIXELS = {"type": "array", "items": {"type": "number", "format": "float"}, "minItems": 64, "maxItems": 64}


def main(out: Path) -> None:
    """Writes the cases `folder` and `zip`."""
    x, y = load_digits(return_X_y=True)
    folder(out, x, y)
    packed(out, x)


def folder(out: Path, x: Any, y: Any) -> None:
    """A class `Model`, with a module and an array beside it."""
    place = artifact_folder(out, "folder")
    means = np.stack([x[:-ROWS][y[:-ROWS] == digit].mean(axis=0) for digit in range(10)])
    np.save(place / "means.npy", means)
    (place / "model.py").write_text(CENTROIDS)
    (place / "distances.py").write_text(DISTANCES)
    distances = ((x[-ROWS:, None, :] - means[None, :, :]) ** 2).sum(axis=2)
    closeness = np.exp(-(distances - distances.min(axis=1, keepdims=True)) / 100)
    expected = classified(
        distances.argmin(axis=1).tolist(), closeness / closeness.sum(axis=1, keepdims=True), range(10)
    )
    schema = {
        "input_schema": {"X": PIXELS},
        "output_schema": {"label": "int", "probabilities": {**PIXELS, "minItems": 10, "maxItems": 10}},
    }
    write_case(place, "python", rows_of(x[-ROWS:]), expected, schema)


def packed(out: Path, x: Any) -> None:
    """A zip, a class of another name, texts in and out, and one array as the answer."""
    place = artifact_folder(out, "zip")
    source = place.with_name("source")
    source.mkdir(exist_ok=True)
    words = ["bright", "light", "grey", "dark"]
    (source / "model.py").write_text(WORDS)
    (source / "words.txt").write_text(" ".join(words))
    file = Path(shutil.make_archive(str(place / "darkness"), "zip", source))
    shutil.rmtree(source)
    instances = [{"name": f"picture {number} ä", **row} for number, row in enumerate(rows_of(x[-ROWS:]))]
    levels = np.minimum(x[-ROWS:].mean(axis=1) // 2, len(words) - 1).astype(int)
    expected = valued([f"picture {number} ä is {words[level]}" for number, level in enumerate(levels)])
    schema = {"input_schema": {"name": "string", "X": PIXELS}, "output_schema": {"said": "string"}}
    write_case(file, "python", instances, expected, schema)


if __name__ == "__main__":
    run(main)
