"""What the model repository holds of a version: pure text, so that golden files can pin it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.schema import DataType, TensorSpec
from services.deployer.domain.deployment import Deployment, Recipe, Wish
from services.deployer.domain.environment import FRAMEWORKS as IN_ENVIRONMENTS

FRAMEWORKS: Mapping[str, str] = {"onnx": "model.onnx"} | dict.fromkeys(IN_ENVIRONMENTS, "artifact")
"""The frameworks that the runner has an adapter for, with the name that the file or folder of the artifact gets."""
ENVIRONMENT = "environment"
"""The link in a package to the environment that its model runs in."""

QUANTISED = "model.int8.onnx"
"""What runs in place of the artifact where it is quantised."""
SERVING_FILE = "serving.json"
_ENVIRONMENT_CONFIG = (
    f'parameters {{ key: "EXECUTION_ENV_PATH" value {{ string_value: "$$TRITON_MODEL_DIRECTORY/{ENVIRONMENT}" }} }}\n'
)
_TYPES = {data_type: f"TYPE_{data_type.value}" for data_type in DataType} | {DataType.BYTES: "TYPE_STRING"}


@dataclass(frozen=True, slots=True)
class Package:
    """A version as a model of Triton's repository. Equal fingerprints mean equal contents."""

    server_model_name: str
    config: str
    """config.pbtxt."""
    serving: str
    """serving.json, which the runner reads."""
    artifact_path: str
    artifact_digest: str
    artifact_name: str
    fingerprint: str
    artifact_kind: str = "file"
    """"file"; or "directory" and "tar.gz", which are unpacked to a folder of that name."""
    in_environment: bool = False
    """Whether it runs in an environment of its own, to which its folder gets a link."""
    precision: "Precision | None" = None
    """Set: it is quantised to 8-bit integers, and how."""


@dataclass(frozen=True, slots=True)
class Precision:
    """How a quantised model is proven."""

    answer: str
    """The tensor that holds the answers."""
    accuracy_drop_max: float
    """The largest share of answers on the reference sample that may change."""


@dataclass(frozen=True, slots=True)
class Quantised:
    """What quantising came to."""

    rows: int
    changed: int
    """Rows of the sample whose answer is another one."""
    bytes_before: int
    bytes_after: int


@dataclass(frozen=True, slots=True)
class Stated:
    """What an artifact says of what it needs."""

    requirements: tuple[str, ...]
    """The lines of its requirements.txt."""
    module: bool
    """Whether it is a folder with a model.py and the state dict of the PyTorch module that is defined there."""


def package_of(deployment: Deployment, *, runner_digest: str, threads_default: int) -> Package:
    """The package that the wish asks for. Raises FRAMEWORK_UNSUPPORTED where no adapter runs the framework.

    `runner_digest` is that of the runner's own files, so that a new runner is loaded like any other change.
    """
    recipe = deployment.recipe
    check_framework(recipe)
    config = _config(deployment.server_model_name, recipe, deployment.wish.instances(deployment.replicas))
    serving = _serving(recipe, deployment.wish, threads_default)
    precision = precision_of(deployment)
    proof = f"{precision.answer} {precision.accuracy_drop_max}" if precision is not None else ""
    parts = (config, serving, recipe.artifact_digest, runner_digest, *([proof] if proof else []))
    fingerprint = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    return Package(
        server_model_name=deployment.server_model_name,
        config=config,
        serving=serving,
        artifact_path=recipe.artifact_path,
        artifact_digest=recipe.artifact_digest,
        artifact_name=FRAMEWORKS[recipe.framework],
        fingerprint=fingerprint,
        artifact_kind=recipe.artifact_kind,
        in_environment=recipe.framework in IN_ENVIRONMENTS,
        precision=precision,
    )


def precision_of(deployment: Deployment) -> Precision | None:
    """How the version is quantised, where that is wished."""
    serving, recipe = deployment.wish.serving, deployment.recipe
    if serving.precision != "int8":
        return None
    answer = recipe.mapping.output_tensor or recipe.schema.outputs[0].name
    return Precision(answer, serving.accuracy_drop_max)


def check_precision(wish: Wish, recipe: Recipe) -> None:
    """Raises INVALID_FIELD where the version cannot be run in the number format that is wished."""
    if wish.serving.precision != "int8":
        return
    if recipe.framework != "onnx" or recipe.artifact_kind != "file":
        raise invalid("serving.precision", "int8", "empty or fp32, because only single ONNX files are quantised")
    if not recipe.reference_digest:
        raise invalid(
            "serving.precision",
            "int8",
            "empty or fp32, because the version has no reference sample to prove its answers by; register one with "
            "reference_sample",
        )


def check_framework(recipe: Recipe) -> None:
    """Raises FRAMEWORK_UNSUPPORTED where nothing here can run the version."""
    if recipe.framework not in FRAMEWORKS:
        raise MeshError(
            Reason.FRAMEWORK_UNSUPPORTED,
            f"the version is of framework {recipe.framework!r} and nothing here runs it; "
            f"register it as one of: {', '.join(sorted(FRAMEWORKS))}",
            metadata={"framework": recipe.framework},
        )
    for spec in (*recipe.schema.inputs, *recipe.schema.outputs):
        if spec.data_type is DataType.BF16:
            raise MeshError(
                Reason.FRAMEWORK_UNSUPPORTED,
                f"tensor {spec.name!r} is BF16, which the runner cannot hand over; export the model with FP32 tensors",
            )


def _config(name: str, recipe: Recipe, instances: int) -> str:
    """The model's configuration. Triton batches nothing: the first dimension is the batch that the batcher made."""
    inputs = ",\n".join(_tensor(spec, optional=spec.optional) for spec in recipe.schema.inputs)
    outputs = ",\n".join(_tensor(spec, optional=False) for spec in recipe.schema.outputs)
    return (
        f"name: {json.dumps(name)}\n"
        'backend: "python"\n'
        "max_batch_size: 0\n"
        f"input [\n{inputs}\n]\n"
        f"output [\n{outputs}\n]\n"
        f"instance_group [ {{ kind: KIND_CPU count: {instances} }} ]\n"
        + (_ENVIRONMENT_CONFIG if recipe.framework in IN_ENVIRONMENTS else "")
    )


def _tensor(spec: TensorSpec, *, optional: bool) -> str:
    dims = ", ".join(str(size) for size in (-1, *spec.shape))
    tail = " optional: true" if optional else ""
    name = json.dumps(spec.name, ensure_ascii=False)
    return f"  {{ name: {name} data_type: {_TYPES[spec.data_type]} dims: [ {dims} ]{tail} }}"


def _serving(recipe: Recipe, wish: Wish, threads_default: int) -> str:
    return json.dumps(
        {
            "framework": recipe.framework,
            "artifact": QUANTISED if wish.serving.precision == "int8" else FRAMEWORKS[recipe.framework],
            "threads": wish.serving.threads or threads_default,
            "inputs": [_described(spec) for spec in recipe.schema.inputs],
            "outputs": [_described(spec) for spec in recipe.schema.outputs],
        },
        indent=1,
    )


def _described(spec: TensorSpec) -> Mapping[str, object]:
    return {"name": spec.name, "datatype": spec.data_type.value, "shape": list(spec.shape)}
