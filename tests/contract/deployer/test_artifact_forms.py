"""What is seen of artifacts that the frameworks themselves wrote, and of those that only look like them."""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from services.deployer.adapters.artifact_forms import look_at
from services.deployer.domain.artifact_facts import Facts, Form

ARTIFACTS = Path(__file__).resolve().parents[2] / "data" / "artifacts"


@pytest.mark.parametrize(
    ("file", "framework", "facts"),
    [
        ("torchscript.pt", "pytorch", Facts(Form.TORCHSCRIPT, inputs=("x",), outputs=("", ""))),
        ("exported.pt2", "pytorch", Facts(None)),
        ("state_dict.pt", "pytorch", Facts(None)),
        ("savedmodel", "tensorflow", Facts(Form.SAVED_MODEL, inputs=("kind", "x"), outputs=("echo", "scores"))),
        ("xgboost-iris.json", "xgboost", Facts(Form.XGBOOST_JSON, features=4, classes=3)),
        ("xgboost-iris.ubj", "xgboost", Facts(Form.XGBOOST_UBJSON, features=4, classes=3)),
        ("xgboost-plain.json", "xgboost", Facts(Form.XGBOOST_JSON, features=4)),
        ("mlflow-xgboost", "xgboost", Facts(Form.XGBOOST_UBJSON, features=4, classes=3)),
        ("lightgbm-multiclass.txt", "lightgbm", Facts(Form.LIGHTGBM, features=4, classes=3)),
        ("lightgbm-multiclass.txt", "xgboost", Facts(None)),
        ("xgboost-iris.json", "lightgbm", Facts(None)),
        ("xgboost-iris.json", "pytorch", Facts(None)),
    ],
)
def test_what_frameworks_wrote_is_known(file: str, framework: str, facts: Facts) -> None:
    assert look_at(ARTIFACTS / file, framework)[1] == facts


def test_the_model_in_a_folder_is_found_wherever_it_is(tmp_path: Path) -> None:
    deep = tmp_path / "artifact" / "export" / "saved"
    shutil.copytree(ARTIFACTS / "savedmodel", deep)
    assert look_at(tmp_path / "artifact", "tensorflow")[0] == deep
    assert look_at(ARTIFACTS / "mlflow-xgboost", "xgboost")[0].name == "model.ubj"


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (("a.onnx", "b/c.onnx"), "its folder holds 2 models (a.onnx, b/c.onnx)"),
        (("weights.bin",), "its folder holds no file of a model"),
    ],
)
def test_a_folder_with_several_models_or_none_is_not_understood(
    tmp_path: Path, names: tuple[str, ...], problem: str
) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert look_at(tmp_path, "onnx") == (tmp_path, Facts(None, problem))


def replaced(*pairs: tuple[bytes, bytes]) -> Callable[[bytes], bytes]:
    def change(content: bytes) -> bytes:
        for old, new in pairs:
            assert old in content, old
            content = content.replace(old, new)
        return content

    return change


_SIZE = b"L" + bytes(7)


@pytest.mark.parametrize(
    ("file", "change", "problem"),
    [
        ("xgboost-iris.json", replaced((b'"attributes":{', b'"attributes":{"best_iteration":"3",')), "stopped early"),
        (
            "xgboost-iris.ubj",
            replaced((b"attributes{", b"attributes{" + _SIZE + b"\x0ebest_iterationS" + _SIZE + b"\x013")),
            "stopped early",
        ),
        ("xgboost-plain.json", replaced((b'"name":"gbtree"', b'"name":"gblinear"')), "booster is gblinear"),
        (
            "xgboost-plain.json",
            replaced((b'"name":"gbtree"', b'"gbtree":{"name":"gbtree"},"name":"dart"')),
            "booster is dart",
        ),
        ("xgboost-iris.json", replaced((b'"feature_types":["float"', b'"feature_types":["c"')), "it has categories"),
        (
            "xgboost-iris.ubj",
            replaced((b"S" + _SIZE + b"\x05float", b"S" + _SIZE + b"\x01c")),
            "it has categories",
        ),
        ("xgboost-plain.json", replaced((b'"num_target":"1"', b'"num_target":"2"')), "predicts several numbers"),
        ("xgboost-plain.json", replaced((b"reg:squarederror", b"survival:cox")), "objective is survival:cox"),
        ("xgboost-plain.json", replaced((b'"num_feature"', b'"other"')), "does not say what it predicts"),
        ("lightgbm-multiclass.txt", replaced((b"is_linear=0", b"is_linear=1")), "linear models"),
        ("lightgbm-multiclass.txt", replaced((b"decision_type=2 2", b"decision_type=2 6")), "zeros for missing"),
        ("lightgbm-multiclass.txt", replaced((b"multiclass num", b"multiclassova num")), "objective is multiclassova"),
        ("lightgbm-multiclass.txt", replaced((b"\ntree_sizes", b"\naverage_output\ntree_sizes")), "averages its trees"),
        ("lightgbm-multiclass.txt", replaced((b"num_class=", b"classes=")), "cannot be read (KeyError: 'num_class')"),
        ("lightgbm-binary.txt", replaced(), "it has categories"),
    ],
)
def test_trees_that_the_fil_backend_would_answer_otherwise_have_a_problem(
    tmp_path: Path, file: str, change: Callable[[bytes], bytes], problem: str
) -> None:
    path = tmp_path / file
    path.write_bytes(change((ARTIFACTS / file).read_bytes()))
    assert problem in look_at(path, file.partition("-")[0])[1].problem


def test_trees_with_lines_of_another_system_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "model.txt"
    path.write_bytes((ARTIFACTS / "lightgbm-multiclass.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert look_at(path, "lightgbm")[1] == Facts(Form.LIGHTGBM, features=4, classes=3)


def script(path: Path, forward: str, *, module: str = "__torch__.models", kind: str = "Net") -> Path:
    """TorchScript as torch.jit.save writes it, with this forward."""
    body = "  def forward(self: __torch__.models.Net,\n    "
    code = f"class Other(Module):\n{body}q: int) -> int:\n    return q\n"
    code += f"class Net(Module):\n  w : Tensor\n{body}{forward}:\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("net/data.pkl", f"\x80\x02c{module}\n{kind}\nq\x00)".encode("latin-1") + b"\x81}.")
        archive.writestr("net/code/__torch__/models.py", code + "    return 1\n")
    return path


@pytest.mark.parametrize(
    ("forward", "facts"),
    [
        ("x: Tensor) -> Tensor", Facts(Form.TORCHSCRIPT, inputs=("x",), outputs=("",))),
        (
            "a: Tensor,\n    b: Tensor) -> Tuple[Tensor, Tensor, Tensor]",
            Facts(Form.TORCHSCRIPT, inputs=("a", "b"), outputs=("", "", "")),
        ),
        (
            "a: Tensor, b: Optional[Tensor]=None) -> Tensor",
            Facts(Form.TORCHSCRIPT, "its forward takes more than tensors (b is Optional[Tensor]=None)"),
        ),
        (
            "a: Dict[str, Tensor], b: int) -> Tensor",
            Facts(Form.TORCHSCRIPT, "its forward takes more than tensors (a is Dict[str, Tensor])"),
        ),
        (
            "a: Tensor) -> Dict[str, Tensor]",
            Facts(Form.TORCHSCRIPT, "its forward gives Dict[str, Tensor] and not tensors in an order"),
        ),
        (
            "a: Tensor) -> Tuple[Tensor, int]",
            Facts(Form.TORCHSCRIPT, "its forward gives Tuple[Tensor, int] and not tensors in an order"),
        ),
    ],
)
def test_torchscript_is_known_by_its_own_forward(tmp_path: Path, forward: str, facts: Facts) -> None:
    assert look_at(script(tmp_path / "model.pt", forward), "pytorch")[1] == facts


def test_torchscript_without_a_forward_to_be_found_is_not_understood(tmp_path: Path) -> None:
    for number, wrong in enumerate(({"module": "__torch__.elsewhere"}, {"kind": "Missing"})):
        path = script(tmp_path / f"{number}.pt", "x: Tensor) -> Tensor", **wrong)
        assert look_at(path, "pytorch")[1] == Facts(Form.TORCHSCRIPT, "its forward cannot be found")


def test_damaged_files_are_not_understood_and_break_nothing(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes((ARTIFACTS / "savedmodel" / "saved_model.pb").read_bytes()[:-40])
    assert "cannot be read" in look_at(tmp_path, "tensorflow")[1].problem
    (tmp_path / "empty").write_bytes(b"")
    for framework in ("xgboost", "lightgbm"):
        assert "cannot be read" in look_at(tmp_path / "empty", framework)[1].problem
    assert look_at(tmp_path / "empty", "pytorch")[1] == Facts(None)
    signed = tmp_path / "other"
    signed.mkdir()
    graph = (ARTIFACTS / "savedmodel" / "saved_model.pb").read_bytes()
    (signed / "saved_model.pb").write_bytes(graph.replace(b"serving_default", b"serving_another"))
    assert "no signature 'serving_default'" in look_at(signed, "tensorflow")[1].problem
