"""What is understood of artifacts that real libraries wrote."""

import io
import json
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.common.schema import DataType
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.readers.zip_walk import zip_entries
from services.registry.domain.schemas import StatedTensor
from services.supervisor.settings import ROOT
from tests.support.registry_reading import ARTIFACTS, folder_files, packed, understood, understood_sample

IRIS = ("sepal length (cm)", "sepal width (cm)", "petal length (cm)", "petal width (cm)")
FP32, FP64, INT64, BYTES = DataType.FP32, DataType.FP64, DataType.INT64, DataType.BYTES


def columns(data_type: DataType) -> tuple[StatedTensor, ...]:
    return tuple(StatedTensor(name, data_type, ()) for name in IRIS)


def classes(count: int, data_type: DataType, label: DataType = INT64) -> tuple[StatedTensor, ...]:
    return StatedTensor("label", label, ()), StatedTensor("probabilities", data_type, (count,))


@pytest.mark.parametrize(
    ("name", "framework", "version", "inputs", "outputs"),
    [
        ("xgboost-iris.json", "xgboost", "3.2.0", columns(FP32), classes(3, FP32)),
        ("xgboost-iris.ubj", "xgboost", "3.2.0", columns(FP32), classes(3, FP32)),
        (
            "xgboost-plain.json",
            "xgboost",
            "3.2.0",
            (StatedTensor("X", FP32, (4,)),),
            (StatedTensor("output", FP32, ()),),
        ),
        (
            "lightgbm-binary.txt",
            "lightgbm",
            "",
            (
                *(StatedTensor(name.removesuffix(" (cm)").replace(" ", "_"), FP64, ()) for name in IRIS),
                StatedTensor("species", BYTES, (), ("other", "setosa")),
            ),
            classes(2, FP64),
        ),
        ("lightgbm-multiclass.txt", "lightgbm", "", (StatedTensor("X", FP64, (4,)),), classes(3, FP64)),
        ("sklearn-iris.skops", "sklearn", "1.9.1", columns(FP64), classes(3, FP64)),
        ("sklearn-pipeline.skops", "sklearn", "1.9.1", (StatedTensor("X", FP64, (4,)),), classes(2, FP64, BYTES)),
        (
            "exported.pt2",
            "pytorch",
            "2.13.0+cpu",
            (StatedTensor("x", FP32, (4,)),),
            (StatedTensor("argmax", INT64, ()), StatedTensor("softmax", FP32, (3,))),
        ),
        (
            "savedmodel",
            "tensorflow",
            "2.21.0",
            (StatedTensor("kind", BYTES, ()), StatedTensor("x", FP32, (4,))),
            (StatedTensor("echo", BYTES, ()), StatedTensor("scores", FP32, (3,))),
        ),
        ("mlflow-sklearn", "sklearn", "1.9.1", columns(FP64), classes(3, FP64)),
        ("mlflow-xgboost", "xgboost", "3.2.0", columns(FP32), classes(3, FP32)),
        (
            "mlflow-pyfunc",
            "python",
            "",
            (StatedTensor("pixels", FP32, (8, 8)),),
            (StatedTensor("digit", INT64, ()),),
        ),
    ],
)
def test_what_libraries_write_is_understood(
    name: str,
    framework: str,
    version: str,
    inputs: tuple[StatedTensor, ...],
    outputs: tuple[StatedTensor, ...],
) -> None:
    seen = understood_sample(name)
    assert (seen.framework, seen.framework_version) == (framework, version)
    assert (seen.stated.inputs, seen.stated.outputs) == (inputs, outputs)
    assert bool(seen.unsafe) is (framework == "python")
    assert (seen.problem, seen.undeclared) == ("", "")


def test_recognition_goes_by_content_and_not_by_name() -> None:
    for path in ARTIFACTS.iterdir():
        if path.is_file() and path.suffix != ".md":
            assert understood(path.read_bytes(), filename="model.onnx").framework != "onnx"
            assert understood(path.read_bytes()).framework == understood_sample(path.name).framework


def test_the_classes_of_scikit_learn_come_with_their_names() -> None:
    assert understood_sample("sklearn-pipeline.skops").class_names == ("other", "setosa")
    assert understood_sample("sklearn-iris.skops").class_names == ("0", "1", "2")


def test_torchscript_states_no_tensors_and_says_what_its_forward_takes() -> None:
    seen = understood_sample("torchscript.pt")
    assert (seen.framework, seen.stated.inputs, seen.unsafe, seen.problem) == ("pytorch", (), "", "")
    assert "forward is (x: Tensor) -> (Tuple[Tensor, Tensor])" in seen.undeclared


def test_weights_alone_are_no_model() -> None:
    seen = understood_sample("state_dict.pt")
    assert "holds weights and no model" in seen.problem
    assert "torch._utils._rebuild_tensor_v2" in seen.unsafe


def changed(name: str, changes: Mapping[str, bytes]) -> bytes:
    """A sample that is a zip, with entries changed or added."""
    made = io.BytesIO()
    with zipfile.ZipFile(ARTIFACTS / name) as before, zipfile.ZipFile(made, "w") as after:
        kept = {entry: before.read(entry) for entry in before.namelist()}
        for entry, content in {**kept, **changes}.items():
            after.writestr(entry, content)
    return made.getvalue()


def saved_by_torch(content: bytes) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", content)
    return made.getvalue()


HARMLESS = b"\x80\x02}."
RUNS = b"\x80\x02cos\ngetcwd\n)R."
CONFIG = "exported/data/weights/model_weights_config.json"
SAMPLES = "exported/data/sample_inputs/model.pt"


@pytest.mark.parametrize(
    "changes",
    [
        # A weight that the list says to unpickle, under a name that says nothing.
        {CONFIG: b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}',
         "exported/data/weights/weight_0": saved_by_torch(RUNS)},
        {CONFIG: b'{"config": {"w": {"path_name": "weight_0", "use_pickle": true}}}',
         "exported/data/weights/weight_0": HARMLESS + RUNS},
        # What torch.save wrote before it wrote zips: several pickles, of which the first is harmless.
        {SAMPLES: HARMLESS + RUNS},
        {SAMPLES: b"cos\ngetcwd\n(tR."},
        # A pickle within one, unpickled by a function of torch itself.
        {SAMPLES: saved_by_torch(b"ctorch.storage\n_load_from_bytes\n(S'x'\ntR.")},
        {SAMPLES: saved_by_torch(b"ctorch\nload\n(S'/srv/x.pt'\ntR.")},
    ],
)  # fmt: skip
def test_pickles_that_hide_in_an_exported_program_are_found(changes: Mapping[str, bytes]) -> None:
    assert understood_sample("exported.pt2").unsafe == ""
    seen = understood(changed("exported.pt2", changes), filename="model.pt2")
    assert "pickles in it run what they say" in seen.unsafe


def test_two_archives_in_one_are_refused() -> None:
    halves = []
    for content in (b"good", b"evil"):
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr(zipfile.ZipInfo("schema.json"), content)
        halves.append(made.getvalue())
    both = b"".join(halves)
    assert zipfile.ZipFile(io.BytesIO(both)).read("schema.json") == b"evil"
    with pytest.raises(RefusedError, match="something before or between"):
        zip_entries(io.BytesIO(both))
    assert zip_entries(io.BytesIO(halves[0]))["schema.json"].content(9) == b"good"


@pytest.mark.parametrize("told", ["loader_module: evil", "code: code"])
def test_code_beside_the_model_of_an_mlflow_folder_is_told(told: str) -> None:
    files = dict(folder_files(ARTIFACTS / "mlflow-xgboost"))
    assert understood_sample("mlflow-xgboost").unsafe == ""
    begin, end = files["MLmodel"].split(b"flavors:\n", 1)
    own = f"  python_function:\n    {told}\n".encode()
    # Of a key that is there twice the last one counts, so the folder's own is renamed.
    files["MLmodel"] = begin + b"flavors:\n" + own + end.replace(b"python_function:", b"former:")
    assert told.rpartition(" ")[2] in understood(packed(files), kind="directory").unsafe


@pytest.mark.parametrize("function", ["os.system", "numpy.testing._private.utils.runstring"])
def test_a_function_in_a_skops_file_is_judged_by_its_own_name(function: str) -> None:
    tree = json.loads(zipfile.ZipFile(ARTIFACTS / "sklearn-iris.skops").read("schema.json"))
    module, _, name = function.rpartition(".")
    hidden = {
        "__class__": "ufunc",
        "__module__": "numpy",
        "__loader__": "FunctionNode",
        "content": {"module_path": module, "function": name},
    }
    tree["content"]["content"]["hidden"] = hidden
    seen = understood(changed("sklearn-iris.skops", {"schema.json": json.dumps(tree).encode()}), filename="m.skops")
    assert function in seen.unsafe


@pytest.mark.parametrize("kind", ["directory", "tar.gz"])
@pytest.mark.parametrize("top", ["", "model"])
def test_a_folder_is_read_however_it_is_packed(kind: str, top: str) -> None:
    files = folder_files(ARTIFACTS / "savedmodel")
    content = packed(files, mode="w" if kind == "directory" else "w:gz", top=top)
    assert understood(content, kind=kind).stated == understood_sample("savedmodel").stated


def test_the_one_model_of_a_folder_is_found_and_several_are_refused() -> None:
    model = (ARTIFACTS / "xgboost-iris.ubj").read_bytes()
    seen = understood(packed({"notes.txt": b"about it", "model/booster": model}), kind="directory")
    assert (seen.framework, seen.model_path) == ("xgboost", "model/booster")
    with pytest.raises(MeshError) as caught:
        understood(packed({"a.ubj": model, "b.ubj": model}), kind="directory")
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert "a.ubj, b.ubj" in caught.value.message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89HDF\r\n\x1a\n" + bytes(64), ("HDF5", "model.export")),
        (b"binf" + bytes(64), ("XGBoost", "save_model")),
        (b"CBM1" + bytes(64), ("CatBoost", "onnx")),
        (b"\0\0\0\0TFL3" + bytes(64), ("TensorFlow Lite", "tf2onnx")),
        (b"BZh91AY" + bytes(64), ("bzip2", "without compression")),
        (b"notes about a model", ("no ONNX file", "no LightGBM model", "no Python model")),
        (b"", ("no ONNX file",)),
    ],
)
def test_what_cannot_be_taken_says_what_to_do(content: bytes, words: tuple[str, ...]) -> None:
    with pytest.raises(MeshError) as caught:
        understood(content, filename="thing")
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert all(word in caught.value.message for word in ("thing", *words)), caught.value.message


def test_python_code_is_recognised_and_never_safe() -> None:
    seen = understood(packed({"model.py": b"class Model: ...\n", "weights.bin": b"\1\2"}), kind="directory")
    assert (seen.framework, seen.model_path) == ("python", "model.py")
    assert "model.py" in seen.unsafe


@pytest.mark.parametrize("state", ["state_dict.pt", "state_dict.pth", "state_dict.safetensors"])
def test_code_beside_a_state_dict_is_a_pytorch_module(state: str) -> None:
    seen = understood(packed({"model.py": b"def build(): ...\n", state: b"\1\2"}), kind="directory")
    assert (seen.framework, seen.form) == ("pytorch", f"a PyTorch module with its {state}")
    assert "model.py" in seen.unsafe


def test_an_mlflow_folder_brings_its_run() -> None:
    files = dict(folder_files(ARTIFACTS / "mlflow-xgboost"))
    files["MLmodel"] = b"run_id: 8f3a\n" + files["MLmodel"]
    seen = understood(packed(files), kind="directory")
    assert seen.lineage.training_run == "mlflow:8f3a"
    assert seen.model_path == "model.ubj"


@pytest.mark.parametrize(
    ("mlmodel", "words"),
    [
        (b"flavors:\n  onnx:\n    data: model.ubj\n", "says onnx"),
        (b"flavors:\n  xgboost:\n    data: other.ubj\n", "'other.ubj'"),
        (b"flavors:\n  xgboost:\n    data: ../../etc/passwd\n", "is not there"),
        (b"flavors: [", "no YAML"),
        (b"- a\n- b\n", "no YAML mapping"),
        (b"run_id: x\n", "no flavors"),
        (b"a: &a [x]\nb: &b [*a, *a]\nflavors: !!python/object:os.system {}\n", "flavors"),
        (b"flavors:\n  xgboost:\n    data: model.ubj\nsignature:\n  inputs: 'nonsense'\n", "no JSON"),
    ],
)
def test_mlmodel_files_that_do_not_hold(mlmodel: bytes, words: str) -> None:
    files = {**folder_files(ARTIFACTS / "mlflow-xgboost"), "MLmodel": mlmodel}
    with pytest.raises(MeshError) as caught:
        understood(packed(files), kind="directory")
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert words in caught.value.message


PICKLING = """
import pickle, sys
import joblib, numpy as np
from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
folder = sys.argv[1]
X, y = load_iris(return_X_y=True)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X, np.array(["a", "b", "c"])[y])
for protocol in (0, 2, 5):
    with open(f"{folder}/plain-{protocol}.pkl", "wb") as stream:
        pickle.dump(model, stream, protocol=protocol)
objects = make_pipeline(StandardScaler(), LogisticRegression(max_iter=200)).fit(X, np.array(["a", "b", "c"], object)[y])
joblib.dump(model, f"{folder}/plain.joblib")
joblib.dump(objects, f"{folder}/objects.joblib")
joblib.dump(model, f"{folder}/packed.joblib", compress=3)
joblib.dump(RandomForestRegressor(2).fit(X, y), f"{folder}/forest.joblib")
"""


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pickles of the real scikit-learn, written by a process of the serving environment."""
    python = ROOT / ".venv-serving" / "bin" / "python"
    if not python.exists():
        pytest.skip("the serving environment is not installed: make setup")
    folder = tmp_path_factory.mktemp("pickled")
    subprocess.run([python, "-c", PICKLING, folder], check=True, timeout=120)
    return folder


def test_pickles_are_read_without_being_run(pickled: Path) -> None:
    paths = sorted(pickled.iterdir())
    assert len(paths) == 7
    for path in paths:
        seen = understood(path.read_bytes(), filename=path.name)
        assert (seen.framework, seen.stated.inputs) == ("sklearn", (StatedTensor("X", FP64, (4,)),)), path.name
        assert "sklearn." in seen.unsafe
        if path.name == "forest.joblib":
            assert seen.stated.outputs == (StatedTensor("output", FP64, ()),)
        else:
            assert (seen.stated.outputs, seen.class_names) == (classes(3, FP64, BYTES), ("a", "b", "c")), path.name


def test_what_a_pickle_would_run_is_named() -> None:
    seen = understood(b"\x80\x04\x8c\x05posix\x94\x8c\x06system\x94\x93\x94\x8c\x02id\x94\x85\x94R\x94.")
    assert (seen.framework, seen.form) == ("python", "a pickle of posix.system")
    assert "(posix.system)" in seen.unsafe
