"""The runner's parts that need no framework: where a model is, code of an artifact, tensors in and out."""

import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

RUNNER = Path(__file__).resolve().parents[3] / "deploy" / "triton" / "runner"
Runner = Callable[[str], ModuleType]


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runner]:
    """Imports a module of the runner as Triton's process does, by its bare name; nothing of it is left behind."""
    monkeypatch.syspath_prepend(str(RUNNER))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = dict(sys.modules)
    yield import_module
    for name in set(sys.modules) - set(before):
        file = getattr(sys.modules[name], "__file__", None) or ""
        if name == "artifact_model" or not file.startswith((sys.prefix, sys.base_prefix)):
            del sys.modules[name]
    sys.path_importer_cache.clear()


def files(folder: Path, contents: Mapping[str, str | bytes]) -> Path:
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def mlmodel(flavor: str, **keys: str) -> str:
    return "".join([f"flavors:\n  {flavor}:\n", *(f"    {key}: {value}\n" for key, value in keys.items())])


def tensor(name: str, datatype: str, *shape: int) -> Mapping[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape)}


def test_a_file_is_the_model_whatever_its_name(runner: Runner, tmp_path: Path) -> None:
    file = files(tmp_path, {"artifact": b"?"}) / "artifact"
    assert runner("places").find_model(file, "xgboost").path == file


@pytest.mark.parametrize(
    ("flavor", "key", "content"),
    [
        ("sklearn", "pickled_model", "model.pkl"),
        ("xgboost", "data", "model.ubj"),
        ("lightgbm", "data", "model.lgb"),
        ("onnx", "data", "model.onnx"),
    ],
)
def test_a_folder_of_mlflow_says_where_the_file_is(
    runner: Runner, tmp_path: Path, flavor: str, key: str, content: str
) -> None:
    files(tmp_path, {"MLmodel": mlmodel(flavor, **{key: content}), content: b"model", "requirements.txt": "mlflow"})
    place = runner("places").find_model(tmp_path, flavor)
    assert (place.path, place.code) == (tmp_path / content, None)


def test_a_folder_of_mlflow_may_name_a_folder_with_the_model_in_it(runner: Runner, tmp_path: Path) -> None:
    files(
        tmp_path / "torch", {"MLmodel": mlmodel("pytorch", model_data="data"), "data/model.pth": b"", "data/info": ""}
    )
    files(tmp_path / "flow", {"MLmodel": mlmodel("tensorflow", saved_model_dir="tf"), "tf/saved_model.pb": b""})
    files(tmp_path / "keras", {"MLmodel": mlmodel("keras", data="data"), "data/model/saved_model.pb": b""})
    find_model = runner("places").find_model
    assert find_model(tmp_path / "torch", "pytorch").path == tmp_path / "torch" / "data" / "model.pth"
    assert find_model(tmp_path / "flow", "tensorflow").path == tmp_path / "flow" / "tf"
    assert find_model(tmp_path / "keras", "tensorflow").path == tmp_path / "keras" / "data" / "model"


def test_modules_that_mlflow_keeps_beside_a_model_are_found(runner: Runner, tmp_path: Path) -> None:
    files(
        tmp_path, {"MLmodel": mlmodel("sklearn", pickled_model="m.pkl", code="code"), "m.pkl": b"", "code/own.py": ""}
    )
    assert runner("places").find_model(tmp_path, "sklearn").code == tmp_path / "code"


@pytest.mark.parametrize("path", ["gone.ubj", "../secret", "/etc/hostname"])
def test_an_mlmodel_cannot_name_what_is_not_in_its_folder(runner: Runner, tmp_path: Path, path: str) -> None:
    files(tmp_path, {"secret": b"{", "folder/MLmodel": mlmodel("xgboost", data=path), "folder/other": b""})
    with pytest.raises(ValueError, match="for xgboost, and that is not there"):
        runner("places").find_model(tmp_path / "folder", "xgboost")


def test_an_mlmodel_of_another_framework_is_refused_with_what_it_names(runner: Runner, tmp_path: Path) -> None:
    files(tmp_path, {"MLmodel": mlmodel("sklearn", pickled_model="model.pkl"), "model.pkl": b""})
    with pytest.raises(ValueError, match="no flavor of lightgbm; it names sklearn"):
        runner("places").find_model(tmp_path, "lightgbm")


@pytest.mark.parametrize(
    ("framework", "name", "content"),
    [
        ("xgboost", "deep/er/model", b'{"learner": {}}'),
        ("lightgbm", "model.txt", b"tree\r\nversion=v4\r\n"),
        ("sklearn", "model", b"\x80\x04."),
        ("onnx", "model.onnx", b"\x08\x08"),
    ],
)
def test_of_a_folder_the_one_file_that_is_a_model_counts(
    runner: Runner, tmp_path: Path, framework: str, name: str, content: bytes
) -> None:
    files(tmp_path, {name: content, "README.md": "Trained in May.", "metrics.json": '{"accuracy": 0.9}'})
    assert runner("places").find_model(tmp_path, framework).path == tmp_path / name


def test_several_models_in_a_folder_and_none_are_refused_with_their_names(runner: Runner, tmp_path: Path) -> None:
    files(tmp_path / "two", {"a.txt": b"tree\n", "b.txt": b"tree\n"})
    files(tmp_path / "none", {"a.md": b"", "b.md": b""})
    with pytest.raises(ValueError, match=r"several models \(a.txt, b.txt\)"):
        runner("places").find_model(tmp_path / "two", "lightgbm")
    with pytest.raises(ValueError, match=r"no model of lightgbm; it holds a.md, b.md"):
        runner("places").find_model(tmp_path / "none", "lightgbm")


def test_folders_that_are_models_themselves_also_within_the_one_folder_of_an_archive(
    runner: Runner, tmp_path: Path
) -> None:
    files(tmp_path / "torch", {"model.py": "", "state_dict.pt": b""})
    files(tmp_path / "flow", {"inner/saved_model.pb": b"", "inner/variables/variables.index": b""})
    find_model = runner("places").find_model
    assert find_model(tmp_path / "torch", "pytorch").path == tmp_path / "torch"
    assert find_model(tmp_path / "flow", "tensorflow").path == tmp_path / "flow" / "inner"


CODE = """
import pathlib
import places
from helper import twice

class Other:
    pass

class Tripled(Other):
    def load(self, folder: pathlib.Path) -> None:
        self.factor = int((folder / "factor.txt").read_text())

    def predict(self, inputs):
        return twice(inputs["X"].sum(axis=1)) * self.factor + places.OFFSET
"""
ARTIFACT = {
    "model.py": CODE,
    # The names of two of the runner's own modules.
    "places.py": "OFFSET = 0.5",
    "helper.py": "import model\n\ndef twice(value):\n    return value * 2 if model.Other else None",
    "factor.txt": "3",
}
ONE = {"threads": 1, "inputs": [tensor("X", "FP64", 2)], "outputs": [tensor("y", "FP64")]}


@pytest.mark.parametrize("packed", [False, True])
def test_code_of_an_artifact_has_its_own_modules_and_the_runner_keeps_its_own(
    runner: Runner, tmp_path: Path, packed: bool
) -> None:
    own = runner("places")
    path = files(tmp_path / "artifact", ARTIFACT)
    if packed:
        path = tmp_path / "packed"
        with zipfile.ZipFile(path, "w") as archive:
            for name in ARTIFACT:
                archive.write(tmp_path / "artifact" / name, f"top/{name}")
    model = runner("python_adapter").open_model(path, ONE)
    assert model.run(["y"], {"X": np.array([[1.0, 2.0], [0.0, 1.0]])})[0].tolist() == [18.5, 6.5]
    assert own.find_model(tmp_path / "artifact", "python").path == tmp_path / "artifact"
    assert sorted(one.name for one in (tmp_path / "artifact").iterdir()) == sorted(ARTIFACT), "nothing may be added"


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        ('{"z": inputs["X"]}', "no output 'y'; it gives z"),
        ('{"y": [1.0]}', "1 rows for the output 'y'; the batch has 2 rows"),
        ("7", "one value for the output 'y'"),
    ],
)
def test_what_code_leaves_out_of_its_answer_is_told(runner: Runner, tmp_path: Path, answer: str, problem: str) -> None:
    code = f"class Model:\n    def predict(self, inputs):\n        return {answer}\n"
    model = runner("python_adapter").open_model(files(tmp_path, {"model.py": code}), ONE)
    with pytest.raises(ValueError, match=problem):
        model.run(["y"], {"X": np.zeros((2, 2))})


def test_code_without_one_class_that_predicts_is_refused(runner: Runner, tmp_path: Path) -> None:
    code = "class A:\n    predict = print\n\nclass B:\n    predict = print\n"
    with pytest.raises(ValueError, match=r"a class Model, or one class, with predict.*; it has A, B"):
        runner("python_adapter").open_model(files(tmp_path, {"model.py": code}), ONE)


def test_named_scalars_come_in_the_order_of_the_model_and_one_row_as_it_is(runner: Runner) -> None:
    features = runner("feature_columns").Features
    named = features([tensor("b", "FP64"), tensor("a", "INT64"), tensor("c", "FP32")], names=["a", "b", "c"])
    given = {"b": np.array([0.5]), "a": np.array([7])}
    assert named.matrix(given).tolist()[0][:2] == [7.0, 0.5]
    assert np.isnan(named.matrix(given)[0, 2]), "what was left out is missing"
    row = features([tensor("X", "FP32", 3)], names=["a", "b", "c"])
    assert {name: column.tolist() for name, column in row.columns({"X": np.array([[1, 2, 3]])}).items()} == {
        "a": [1],
        "b": [2],
        "c": [3],
    }


def test_texts_of_a_table_are_str(runner: Runner) -> None:
    features = runner("feature_columns").Features([tensor("t", "BYTES"), tensor("n", "FP64")], names=["t", "n"])
    given = {"t": np.array(["ä".encode()], dtype=object), "n": np.array([1.0])}
    assert features.columns(given)["t"].tolist() == ["ä"]
    with pytest.raises(ValueError, match="input 't' holds bytes that are no text"):
        features.columns({**given, "t": np.array([b"\xff"], dtype=object)})


@pytest.mark.parametrize(
    ("inputs", "names", "count", "problem"),
    [
        ([tensor("a", "FP64"), tensor("b", "FP64")], None, 2, "one input with a row of 2 features"),
        ([tensor("a", "FP64"), tensor("z", "FP64")], ["a", "b"], None, "features a, b; missing: b; unknown: z"),
        ([tensor("a", "FP64"), tensor("b", "FP64", 3)], ["a", "b"], None, "input 'b' is no scalar"),
        ([tensor("X", "FP64", 5)], None, 4, "input 'X' has 5 features a row; the model has 4"),
    ],
)
def test_inputs_that_are_not_clearly_the_features_are_refused(
    runner: Runner, inputs: list[Mapping[str, Any]], names: list[str] | None, count: int | None, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        runner("feature_columns").Features(inputs, names=names, count=count)


@pytest.mark.parametrize(
    "outputs",
    [
        [tensor("label", "INT64"), tensor("probabilities", "FP32", 2)],
        [tensor("chances", "FP64", -1), tensor("kind", "BYTES")],
    ],
)
def test_outputs_of_a_classifier_are_found_by_their_names_or_their_shapes(
    runner: Runner, outputs: list[Mapping[str, Any]]
) -> None:
    answers = runner("declared_outputs").Answers(outputs, classifies=True, has_probabilities=True)
    names = [one["name"] for one in outputs]
    made = answers.give(names, prediction=lambda: np.array([1]), probabilities=lambda: np.array([[0.25, 0.75]]))
    by_name = {name: value.tolist() for name, value in zip(names, made, strict=True)}
    assert by_name in ({"label": [1], "probabilities": [[0.25, 0.75]]}, {"kind": ["1"], "chances": [[0.25, 0.75]]})


@pytest.mark.parametrize(
    ("outputs", "classifies", "problem"),
    [
        ([tensor("a", "INT64"), tensor("b", "INT64")], True, "gives 'label' and 'probabilities'"),
        ([tensor("score", "FP32")], True, "'score' is neither the class nor the probabilities"),
        ([tensor("a", "FP32"), tensor("b", "FP32")], False, "gives one output, 'output'"),
        ([tensor("probabilities", "FP32", 2)], True, "gives no probabilities; leave the output 'probabilities' out"),
    ],
)
def test_outputs_that_a_model_does_not_have_are_refused(
    runner: Runner, outputs: list[Mapping[str, Any]], classifies: bool, problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        runner("declared_outputs").Answers(outputs, classifies=classifies, has_probabilities=False)


def test_an_answer_is_never_cut_to_what_was_declared(runner: Runner) -> None:
    fitted = runner("declared_outputs").fitted
    assert fitted(np.array([[1.5], [2.5]]), tensor("y", "FP32")).tolist() == [1.5, 2.5]
    assert fitted([1.0, 2.0], tensor("y", "INT64")).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="the model gives fractions; declare a float"):
        fitted([1.5], tensor("y", "INT64"))
    with pytest.raises(ValueError, match="the model gives 'cat'; declare a string"):
        fitted(np.array(["cat"]), tensor("y", "FP64"))
    with pytest.raises(ValueError, match=r"rows of shape \[\], and the model gives rows of shape \[2\]"):
        fitted([[1.0, 2.0]], tensor("y", "FP64"))
