"""Every kind of config.pbtxt: each framework by each backend, on CPU and GPU, in each number format."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from services.common.errors import MeshError
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.artifact_facts import Form
from services.deployer.domain.checks import check_runnable
from services.deployer.domain.deployment import Batching, Deployment, NewDeployment, Progress, Resources, Wish
from services.deployer.domain.deployment import ServingOptions as Options
from services.deployer.domain.equipment import CPUS_ALONE, NATIVE_BACKENDS, Equipment
from services.deployer.domain.package import Package, check_gpu, check_precision, package_of
from tests.support.clock import NOON
from tests.support.deployer_fakes import DIGITS_SCHEMA, recipe

_F32, _I64, _TEXT = DataType.FP32, DataType.INT64, DataType.BYTES
_ROW = ModelSchema((TensorSpec("input__0", _F32, (4,)),), (TensorSpec("output__0", _F32, (3,)),))
_NUMBER = replace(_ROW, outputs=(TensorSpec("output__0", _F32, (1,)),))
_COLUMNS = ModelSchema(
    (TensorSpec("age", _F32), TensorSpec('town "old"', _TEXT), TensorSpec("note", _TEXT, optional=True)),
    (TensorSpec("label", _TEXT), TensorSpec("probabilities", DataType.FP64, (2,))),
)
_PICTURES = ModelSchema((TensorSpec("x", _F32, (3, 32, 32)),), (TensorSpec("scores", _F32, (10,)),))
_WORDS = ModelSchema(
    (TensorSpec("tokens", _I64, (-1,)), TensorSpec("mask", _I64, (-1,))),
    (TensorSpec("logits", _F32, (-1, 9)),),
)
_SIGNATURE = ModelSchema((TensorSpec("kind", _TEXT), TensorSpec("x", _F32, (2,))), (TensorSpec("scores", _F32, (2,)),))
_NATIVE = {
    "onnx": "onnxruntime",
    "pytorch": "pytorch",
    "tensorflow": "tensorflow",
    "xgboost": "fil",
    "lightgbm": "fil",
}
SCHEMAS: Mapping[str, tuple[str, ModelSchema]] = {
    "onnx": ("onnx", DIGITS_SCHEMA),
    "onnx-words": ("onnx", _WORDS),
    "onnx-columns": ("onnx", _COLUMNS),
    "pytorch": ("pytorch", _PICTURES),
    "tensorflow": ("tensorflow", _SIGNATURE),
    "xgboost": ("xgboost", _ROW),
    "xgboost-number": ("xgboost", _NUMBER),
    "lightgbm": ("lightgbm", _ROW),
    "lightgbm-number": ("lightgbm", _NUMBER),
    "sklearn": ("sklearn", _COLUMNS),
    "python": ("python", _COLUMNS),
}
"""Versions by name: their framework and what they take and give."""
WISHES: Mapping[str, Wish] = {
    "cpu": Wish(),
    "threads": Wish(serving=Options(threads=4)),
    "instances": Wish(resources=Resources(replicas=2), serving=Options(instances=3)),
    "int8": Wish(serving=Options(precision="int8")),
    "gpu": Wish(resources=Resources(gpu=1)),
    "gpus": Wish(resources=Resources(replicas=2, gpu=1)),
    "shared": Wish(resources=Resources(replicas=5, gpu=1, gpu_sharing="time-slicing")),
    "fp16": Wish(resources=Resources(gpu=1), serving=Options(precision="fp16"), batching=Batching(max_batch_size=64)),
}
GPUS = (0, 1, 2)
_FORMS = {Form.XGBOOST_JSON: "json", Form.XGBOOST_UBJSON: "ubj"}


@dataclass(frozen=True)
class Case:
    """A configuration, by the name of its golden file."""

    name: str
    backend: str
    wish: Wish
    config: str


def cases() -> Iterator[Case | str]:
    """All of them; and of what is refused a line that says how."""
    for version, (framework, schema) in SCHEMAS.items():
        native = _NATIVE.get(framework)
        for backend in ("python", *([native] if native is not None else [])):
            backends = frozenset(NATIVE_BACKENDS if backend != "python" else ())
            for variant, wish in WISHES.items():
                equipment = Equipment(backends, GPUS)
                try:
                    made = package(framework, schema, wish, equipment)
                except MeshError as error:
                    yield f"{version} {backend} {variant}: {error.message}"
                    continue
                yield from _of(f"{version}-{backend}-{variant}", backend, made, wish)


def package(
    framework: str,
    schema: ModelSchema,
    wish: Wish,
    equipment: Equipment = CPUS_ALONE,
    *,
    kind: str = "file",
    runner: str = "r",
) -> Package:
    """The package of a version. Raises where its deployment is refused."""
    of = replace(recipe(framework=framework, artifact_kind=kind), schema=schema, reference_digest="d")
    check_runnable(wish, local_replicas_max=16, equipment=equipment)
    check_precision(wish, of)
    check_gpu(wish, of, equipment)
    new = NewDeployment("digits", "v1.0.0", "main", wish)
    deployment = Deployment("id", new, of, wish, Progress(), 1, NOON, NOON)
    return package_of(deployment, runner_digest=runner, threads_default=1, equipment=equipment)


def _of(name: str, backend: str, made: Package, wish: Wish) -> Iterator[Case | str]:
    if backend == "python":
        yield Case(name, backend, wish, made.config)
    elif made.native is None:
        yield f"{name.replace('-', ' ')}: by the runner, because {made.because}"
    else:
        for choice in made.native.choices:
            form = f"-{_FORMS[choice.form]}" if choice.form in _FORMS else ""
            yield Case(f"{name}{form}", backend, wish, choice.config)
