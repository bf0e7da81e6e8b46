"""Writes TensorFlow SavedModels of scikit-learn's digits: one by itself, and one that also takes a text."""

from pathlib import Path
from typing import Any

import tensorflow as tf
from cases import ROWS, artifact_folder, classified, rows_of, run, valued, write_case
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression


def main(out: Path) -> None:
    """Writes the cases `saved_model` and `texts`."""
    x, y = load_digits(return_X_y=True)
    # Trained by scikit-learn: what is tried is the SavedModel, and its training takes no time so.
    trained = LogisticRegression(max_iter=200).fit(x[:-ROWS] / 16, y[:-ROWS])
    weights = tf.Variable(trained.coef_.T, dtype=tf.float32)
    offsets = tf.Variable(trained.intercept_, dtype=tf.float32)
    saved_model(out, x[-ROWS:], weights, offsets)
    texts(out, x[-ROWS:], weights, offsets)


def saved_model(out: Path, x: Any, weights: Any, offsets: Any) -> None:
    """Two outputs by their names."""
    module = tf.Module()
    module.weights, module.offsets = weights, offsets

    @tf.function(input_signature=[tf.TensorSpec([None, 64], tf.float32, name="X")])  # type: ignore[untyped-decorator]
    def answer(pixels: Any) -> Any:
        probabilities = tf.nn.softmax(pixels / 16 @ weights + offsets)
        return {"label": tf.argmax(probabilities, axis=1), "probabilities": probabilities}

    place = artifact_folder(out, "saved_model")
    tf.saved_model.save(module, str(place), signatures={"serving_default": answer})
    direct = answer(tf.constant(x, tf.float32))
    expected = classified(direct["label"].numpy().tolist(), direct["probabilities"].numpy().tolist(), range(10))
    write_case(place, "tensorflow", rows_of(x), expected)


def texts(out: Path, x: Any, weights: Any, offsets: Any) -> None:
    """A text in and a text out."""
    module = tf.Module()
    module.weights, module.offsets = weights, offsets
    signature = [tf.TensorSpec([None, 64], tf.float32, name="X"), tf.TensorSpec([None], tf.string, name="name")]

    @tf.function(input_signature=signature)  # type: ignore[untyped-decorator]
    def answer(pixels: Any, name: Any) -> Any:
        digits = tf.argmax(pixels / 16 @ weights + offsets, axis=1)
        return {"said": tf.strings.join([name, " is ", tf.strings.as_string(digits)])}

    place = artifact_folder(out, "texts")
    tf.saved_model.save(module, str(place), signatures={"serving_default": answer})
    names = [f"picture {number} ä" for number in range(ROWS)]
    said = answer(tf.constant(x, tf.float32), tf.constant(names))["said"].numpy().tolist()
    instances = [{"name": name, **row} for name, row in zip(names, rows_of(x), strict=True)]
    write_case(place, "tensorflow", instances, valued([one.decode() for one in said]))


if __name__ == "__main__":
    run(main)
