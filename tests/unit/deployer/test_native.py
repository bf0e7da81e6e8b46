"""Which backend runs a version, and what is said where that is the runner."""

from dataclasses import replace

import pytest

from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.artifact_facts import Facts, Form
from services.deployer.domain.deployment import Resources, ServingOptions, Wish
from services.deployer.domain.equipment import NATIVE_BACKENDS, Equipment
from services.deployer.domain.native import Native, choose
from tests.support.triton_config_cases import SCHEMAS, package

FULL = Equipment(frozenset(NATIVE_BACKENDS), (0,))
F32 = DataType.FP32
HALF = Wish(resources=Resources(gpu=1), serving=ServingOptions(precision="fp16"))


def schema(inputs: tuple[TensorSpec, ...], *outputs: str) -> ModelSchema:
    return ModelSchema(inputs, tuple(TensorSpec(name, F32, (2,)) for name in outputs or ("y",)))


def x(name: str = "x", data_type: DataType = F32, *, optional: bool = False) -> TensorSpec:
    return TensorSpec(name, data_type, (4,), optional=optional)


def native(framework: str, of: ModelSchema) -> Native:
    made = package(framework, of, Wish(), FULL).native
    assert made is not None
    return made


@pytest.mark.parametrize(
    ("framework", "of", "wish", "because"),
    [
        ("sklearn", SCHEMAS["sklearn"][1], Wish(), "no backend for scikit-learn's files"),
        ("python", SCHEMAS["python"][1], Wish(), "it is Python code"),
        ("pytorch", SCHEMAS["pytorch"][1], HALF, "half precision is the runner's"),
        ("pytorch", schema((x(data_type=DataType.UINT16),)), Wish(), "tensor x is UINT16"),
        ("pytorch", schema((x(data_type=DataType.BYTES),)), Wish(), "tensor x is BYTES"),
        ("pytorch", schema((x(), x("mask", optional=True))), Wish(), "input mask may be left out"),
        ("pytorch", schema((x(),), "y__1", "z__0"), Wish(), "y__1, z__0 are another order"),
        ("tensorflow", schema((x(), x("mask", optional=True))), Wish(), "input mask may be left out"),
        ("xgboost", schema((x("a"), x("b"))), Wish(), "one FP32 tensor input__0"),
        ("xgboost", schema((x("X"),)), Wish(), "one FP32 tensor input__0"),
        ("xgboost", schema((x("input__0", DataType.FP64),)), Wish(), "one FP32 tensor input__0"),
        ("lightgbm", schema((x("input__0"),), "label", "probabilities"), Wish(), "one FP32 tensor output__0"),
    ],
)
def test_what_no_native_backend_can_run_is_the_runners_and_says_why(
    framework: str, of: ModelSchema, wish: Wish, because: str
) -> None:
    made = package(framework, of, wish, FULL)
    assert made.native is None
    assert because in made.because


def test_a_backend_that_the_servers_lack_is_named_and_without_any_nothing_is_said() -> None:
    made = package("onnx", SCHEMAS["onnx"][1], Wish(), Equipment(frozenset({"fil"})))
    assert (made.native, made.because) == (None, "the model servers have no onnxruntime backend")
    plain = package("onnx", SCHEMAS["onnx"][1], Wish())
    assert (plain.native, plain.because) == (None, "")


SCRIPT = native("pytorch", schema((x("a"), x("b")), "y", "z"))
GRAPH = native("tensorflow", schema((x("a"), x("b")), "y"))
BOOST = native("xgboost", SCHEMAS["xgboost"][1])
NUMBER = native("lightgbm", SCHEMAS["lightgbm-number"][1])


@pytest.mark.parametrize(
    ("planned", "facts", "because"),
    [
        (SCRIPT, Facts(None), "is not TorchScript, which Triton's pytorch backend loads"),
        (SCRIPT, Facts(None, "its folder holds 2 models"), "its folder holds 2 models"),
        (SCRIPT, Facts(Form.TORCHSCRIPT, inputs=("a",), outputs=("", "")), "takes 1 tensors, and the schema has 2"),
        (SCRIPT, Facts(Form.TORCHSCRIPT, inputs=("a", "b"), outputs=("",)), "gives 1 tensors, and the schema has 2"),
        (
            native("pytorch", schema((x("a__1"), x("b__0")))),
            Facts(Form.TORCHSCRIPT, inputs=("a", "b"), outputs=("",)),
            "the names a__1, b__0 are another order",
        ),
        (GRAPH, Facts(Form.SAVED_MODEL, inputs=("a", "c"), outputs=("y",)), "takes a, c, and the schema a, b"),
        (GRAPH, Facts(Form.SAVED_MODEL, inputs=("a", "b"), outputs=("q",)), "gives no y, but q"),
        (BOOST, Facts(Form.LIGHTGBM, features=4, classes=3), "in JSON or an XGBoost model in UBJSON"),
        (BOOST, Facts(Form.XGBOOST_JSON, features=5, classes=3), "has 5 features, and input__0 4"),
        (BOOST, Facts(Form.XGBOOST_JSON, features=4, classes=2), "the probabilities of 2 classes"),
        (BOOST, Facts(Form.XGBOOST_UBJSON, features=4), "where the backend gives one"),
        (NUMBER, Facts(Form.LIGHTGBM, features=4, classes=2), "output__0 has 1 numbers a row"),
    ],
)
def test_an_artifact_that_is_not_what_was_planned_for_is_the_runners(
    planned: Native, facts: Facts, because: str
) -> None:
    choice = choose(planned, facts)
    assert isinstance(choice, str)
    assert because in choice


@pytest.mark.parametrize(
    ("planned", "facts", "file"),
    [
        (SCRIPT, Facts(Form.TORCHSCRIPT, inputs=("b", "a"), outputs=("", "")), "model.pt"),
        (SCRIPT, Facts(Form.TORCHSCRIPT, inputs=("u", "v"), outputs=("", "")), "model.pt"),
        (GRAPH, Facts(Form.SAVED_MODEL, inputs=("b", "a"), outputs=("y", "more")), "model.savedmodel"),
        (BOOST, Facts(Form.XGBOOST_JSON, features=4, classes=3), "xgboost.json"),
        (BOOST, Facts(Form.XGBOOST_UBJSON, features=4, classes=3), "xgboost.ubj"),
        (NUMBER, Facts(Form.LIGHTGBM, features=4), "model.txt"),
    ],
)
def test_an_artifact_that_fits_is_called_as_its_backend_wants_it(planned: Native, facts: Facts, file: str) -> None:
    choice = choose(planned, facts)
    assert not isinstance(choice, str)
    assert choice.file == file
    assert f'backend: "{planned.backend}"' in choice.config


def test_a_new_runner_reloads_only_what_it_may_run() -> None:
    def prints(framework: str, equipment: Equipment) -> set[str]:
        return {
            package(framework, SCHEMAS[framework][1], Wish(), equipment, runner=runner).fingerprint
            for runner in ("old", "new")
        }

    assert len(prints("onnx", FULL)) == 1, "a single ONNX file is onnxruntime's for sure"
    assert len(prints("onnx", Equipment())) == 2
    assert len(prints("pytorch", FULL)) == 2, "what the artifact is shows only when it is at hand"


def test_what_the_servers_have_changes_only_the_packages_that_it_concerns() -> None:
    def fingerprint(framework: str, equipment: Equipment, wish: Wish = Wish()) -> str:  # noqa: B008 - a value
        return package(framework, SCHEMAS[framework][1], wish, equipment).fingerprint

    for framework in SCHEMAS:
        if framework in ("sklearn", "python"):
            assert fingerprint(framework, FULL) == fingerprint(framework, Equipment())
    assert fingerprint("onnx", FULL) != fingerprint("onnx", Equipment())
    assert fingerprint("onnx", replace(FULL, gpus=(0, 1))) == fingerprint("onnx", FULL), "on the CPU as before"
    on_gpu = Wish(resources=Resources(gpu=1))
    assert fingerprint("onnx", replace(FULL, gpus=(5,)), on_gpu) != fingerprint("onnx", FULL, on_gpu)
