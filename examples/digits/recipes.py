# mypy: ignore-errors
# (the frameworks are installed in the serving environment alone, where mypy does not run)
"""How the two versions of the digits classifier are made: data, training, export, measurement. Files as values.

The same libraries on the same kind of machine give the same bytes: the split and both trainings are seeded and the
numeric libraries run on one thread. That matters because a registered version is immutable: an artifact that changed
from run to run could not be registered twice.
"""

import json
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
import skl2onnx
import sklearn
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from threadpoolctl import threadpool_limits

MODEL_NAME = "digits"
SEED = 20260201
HOLDOUT_FRACTION = 0.25
OPSET = 17
"""An ONNX opset that every runtime since 2022 understands."""
CLASS_NAMES = [str(digit) for digit in range(10)]


@dataclass(frozen=True)
class Recipe:
    """A version: what it is for people, and the untrained estimator."""

    version: str
    description: str
    estimator: object
    hyperparameters: dict[str, object]


@dataclass(frozen=True)
class Data:
    """The digits, split once for all versions so that their accuracies compare."""

    x_train: np.ndarray
    y_train: np.ndarray
    x_holdout: np.ndarray
    y_holdout: np.ndarray


@dataclass(frozen=True)
class Trained:
    """A version as it is served, and what the served form (not the estimator) answers on the held-out data."""

    recipe: Recipe
    onnx_bytes: bytes
    labels: np.ndarray
    accuracy: float


def recipes() -> list[Recipe]:
    """Both versions, oldest first.

    The network's size and penalty were chosen by cross-validation on the training part alone, so the held-out accuracy
    of both versions is an honest estimate.
    """
    linear = {"solver": "lbfgs", "C": 0.1, "max_iter": 1000}
    network = {"hidden_layer_sizes": [128], "alpha": 0.01, "max_iter": 300}
    return [
        Recipe(
            "v1.0.0",
            "logistic regression on standardised pixels",
            make_pipeline(StandardScaler(), LogisticRegression(random_state=SEED, **linear)),
            linear,
        ),
        Recipe(
            "v1.1.0",
            "a neural network with one hidden layer on pixels scaled to [0, 1]",
            make_pipeline(MinMaxScaler(), MLPClassifier(random_state=SEED, **network)),
            network,
        ),
    ]


def load_data() -> Data:
    """The 1797 digits shipped with scikit-learn, a quarter held out, each digit in proportion."""
    x, y = load_digits(return_X_y=True)
    x_train, x_holdout, y_train, y_holdout = train_test_split(
        x.astype(np.float32), y, test_size=HOLDOUT_FRACTION, random_state=SEED, stratify=y
    )
    return Data(x_train, y_train, x_holdout, y_holdout)


def train(recipe: Recipe, data: Data) -> Trained:
    """Fits, exports and measures a version.

    The accuracy is that of the exported model in ONNX Runtime, because that is what callers will meet; an export that
    disagrees with its estimator on more than rounding would be a defect and raises.
    """
    model = recipe.estimator
    model.fit(data.x_train, data.y_train)
    exported = skl2onnx.to_onnx(
        model,
        name=MODEL_NAME,
        initial_types=[("X", FloatTensorType([None, 64]))],
        target_opset=OPSET,
        options={id(model): {"zipmap": False}},
    )
    onnx.checker.check_model(exported)
    onnx_bytes = exported.SerializeToString(deterministic=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    labels, probabilities = session.run(["label", "probabilities"], {"X": data.x_holdout})
    np.testing.assert_allclose(probabilities, model.predict_proba(data.x_holdout), atol=1e-4)
    assert labels.dtype == np.int64
    assert probabilities.dtype == np.float32
    return Trained(recipe, onnx_bytes, labels, float(np.mean(labels == data.y_holdout)))


def metadata(trained: Trained, data: Data, training_date: str) -> dict[str, object]:
    """What registering the version takes beside the artifact, in the words of the REST API."""
    recipe = trained.recipe
    return {
        "name": MODEL_NAME,
        "version": recipe.version,
        "framework": "onnx",
        "framework_version": onnx.__version__,
        "artifact": f"{MODEL_NAME}-{recipe.version}.onnx",
        "metadata": {
            "description": f"Handwritten digits, 8 by 8 pixels: {recipe.description}",
            "class_names": CLASS_NAMES,
            "accuracy": round(trained.accuracy, 4),
            "dataset": "scikit-learn digits",
            "training_date": training_date,
            "training_rows": len(data.y_train),
            "holdout_rows": len(data.y_holdout),
            "hyperparameters": recipe.hyperparameters,
            "trained_with": f"scikit-learn {sklearn.__version__}",
            "tags": ["example", "vision"],
        },
    }


def samples(versions: list[Trained], data: Data) -> list[dict[str, object]]:
    """One instance of each digit that all versions get right, then up to three on which the versions differ."""
    agreed = np.logical_and.reduce([trained.labels == data.y_holdout for trained in versions])
    chosen = [int(np.flatnonzero(agreed & (data.y_holdout == digit))[0]) for digit in range(10)]
    chosen += [int(index) for index in np.flatnonzero(versions[0].labels != versions[-1].labels)[:3]]
    return [
        {
            "instance": {"X": data.x_holdout[index].tolist()},
            "label": int(data.y_holdout[index]),
            "expected": {trained.recipe.version: int(trained.labels[index]) for trained in versions},
        }
        for index in chosen
    ]


def build(training_date: str) -> dict[str, bytes]:
    """Every file but the manifest, by name."""
    data = load_data()
    with threadpool_limits(limits=1), warnings.catch_warnings():
        # The network stops after a fixed number of passes on purpose.
        warnings.simplefilter("ignore", ConvergenceWarning)
        versions = [train(recipe, data) for recipe in recipes()]
    files: dict[str, bytes] = {}
    for trained in versions:
        stem = f"{MODEL_NAME}-{trained.recipe.version}"
        files[f"{stem}.onnx"] = trained.onnx_bytes
        files[f"{stem}.json"] = json_bytes(metadata(trained, data, training_date))
        print(
            f"digits {trained.recipe.version}: {trained.recipe.description}, {trained.accuracy:.1%} of held-out right"
        )
    files["samples.json"] = json_bytes(samples(versions, data))
    rows = (
        {"id": f"row-{index:04d}", "X": pixels.tolist(), "digit": int(digit)}
        for index, (pixels, digit) in enumerate(zip(data.x_holdout, data.y_holdout, strict=True))
    )
    files["holdout.jsonl"] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    return files


def json_bytes(value: object) -> bytes:
    """JSON for people and programs: indented, with a newline at the end."""
    return json.dumps(value, indent=2).encode() + b"\n"
