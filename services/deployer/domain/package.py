"""What the model repository holds of a version: pure text, so that golden files can pin it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.common.errors import MeshError, Reason, invalid
from services.common.schema import DataType, TensorSpec
from services.deployer.domain.deployment import Deployment, Recipe, Wish
from services.deployer.domain.environment import FRAMEWORKS as IN_ENVIRONMENTS
from services.deployer.domain.equipment import CPUS_ALONE, Equipment, Group, place_copies
from services.deployer.domain.native import QUANTISED, Native, plan_native
from services.deployer.domain.native_configs import engine_rows
from services.deployer.domain.triton_config import TritonConfig

FRAMEWORKS: Mapping[str, str] = {"onnx": "model.onnx"} | dict.fromkeys(IN_ENVIRONMENTS, "artifact")
"""The frameworks that the runner has an adapter for, with the name that the file or folder of the artifact gets."""
ENVIRONMENT = "environment"
"""The link in a package to the environment that its model runs in."""

SERVING_FILE = "serving.json"
RUNNER = "python"
"""The backend that runs what no native backend does."""
_ENVIRONMENT_PARAMETERS = {"EXECUTION_ENV_PATH": f"$$TRITON_MODEL_DIRECTORY/{ENVIRONMENT}"}
_ON_CPUS = {
    "sklearn": "scikit-learn computes on CPUs",
    "xgboost": "the runner has XGBoost's build without CUDA",
    "lightgbm": "the runner has LightGBM's build without CUDA",
    "tensorflow": "the runner has TensorFlow's build without CUDA",
}
"""Why the runner has no use for a GPU, for the frameworks where that is so."""
_IN_HALF_PRECISION = ("onnx", "pytorch", "tensorflow")


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
    native: Native | None = None
    """Set: a backend of Triton's own runs it, if the artifact turns out to be of a form that it loads."""
    because: str = ""
    """Why none does, as a clause. Empty where one does, and where the model servers have none."""
    runner_problem: str = ""
    """Why the runner cannot do what is wished, so that without a native backend nothing can; empty where it can."""


@dataclass(frozen=True, slots=True)
class Served:
    """What runs a package that stands."""

    backend: str = RUNNER
    because: str = ""
    """Why that is the runner, as a clause; empty where nothing is to be said of it."""

    @property
    def words(self) -> str:
        """For the condition of the deployment; empty where it goes without saying."""
        if self.backend != RUNNER:
            return f"Triton's {self.backend} backend runs it"
        return f"the python runner runs it: {self.because}" if self.because else ""


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


def package_of(
    deployment: Deployment,
    *,
    runner_digest: str,
    threads_default: int,
    equipment: Equipment = CPUS_ALONE,
    copies: int | None = None,
) -> Package:
    """The package that the wish asks for, with so many replicas on each server; None: with all of them. Raises
    FRAMEWORK_UNSUPPORTED where no adapter runs the framework.

    `runner_digest` is that of the runner's own files, so that a new runner is loaded like any other change; but not
    where a native backend is sure to run the version, which then has none of these files.
    """
    recipe, wish, name = deployment.recipe, deployment.wish, deployment.server_model_name
    check_framework(recipe)
    threads = wish.serving.threads or threads_default
    replicas = copies or deployment.replicas
    groups = place_copies(name, wish.instances(replicas), gpus=replicas * wish.resources.gpu, there=equipment.gpus)
    config = _config(name, recipe, wish, groups)
    serving = _serving(recipe, wish, threads)
    precision = precision_of(deployment)
    proof = f"{precision.answer} {precision.accuracy_drop_max}" if precision is not None else ""
    planned = plan_native(name, recipe, wish, groups=groups, threads=threads, equipment=equipment)
    native = planned if isinstance(planned, Native) else None
    parts = [serving, recipe.artifact_digest]
    if native is None or not native.certain:
        parts = [config, serving, recipe.artifact_digest, runner_digest]
    parts += [proof] if proof else []
    parts += [f"{choice.file} {choice.config}" for choice in native.choices] if native is not None else []
    return Package(
        server_model_name=name,
        config=config,
        serving=serving,
        artifact_path=recipe.artifact_path,
        artifact_digest=recipe.artifact_digest,
        artifact_name=FRAMEWORKS[recipe.framework],
        fingerprint=hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32],
        artifact_kind=recipe.artifact_kind,
        in_environment=recipe.framework in IN_ENVIRONMENTS,
        precision=precision,
        native=native,
        because=planned if isinstance(planned, str) and equipment.native_backends else "",
        runner_problem=_ON_CPUS.get(recipe.framework, "") if wish.resources.gpu else "",
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
    precision = wish.serving.precision
    if precision == "fp16" and recipe.framework not in _IN_HALF_PRECISION:
        allowed = f"empty or fp32, because half precision is for {', '.join(_IN_HALF_PRECISION)}"
        raise invalid("serving.precision", precision, f"{allowed}, and this version is of {recipe.framework}")
    if precision != "int8":
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


def check_gpu(wish: Wish, recipe: Recipe, equipment: Equipment) -> None:
    """Raises INVALID_FIELD where a GPU is wished and nothing could run the version on it.

    Whether the artifact is of a form that a native backend loads is known only when it is at hand.
    """
    problem = _ON_CPUS.get(recipe.framework, "")
    if not wish.resources.gpu or not problem:
        return
    planned = plan_native("", recipe, wish, groups=(Group(1, 0),), threads=1, equipment=equipment)
    if isinstance(planned, str):
        raise invalid("resources.gpu", wish.resources.gpu, f"0, because {problem}, and {planned}")


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


def _config(name: str, recipe: Recipe, wish: Wish, groups: Sequence[Group]) -> str:
    """The configuration for the runner."""
    schema = recipe.schema
    by_tensorrt = recipe.framework == "onnx" and wish.serving.precision == "fp16"
    return TritonConfig(
        name,
        RUNNER,
        schema.inputs,
        schema.outputs,
        groups,
        parameters=_ENVIRONMENT_PARAMETERS if recipe.framework in IN_ENVIRONMENTS else {},
        warmup_rows=engine_rows(schema, wish.batching.max_batch_size) if by_tensorrt else (),
    ).text()


def _serving(recipe: Recipe, wish: Wish, threads: int) -> str:
    precision = wish.serving.precision
    return json.dumps(
        {
            "framework": recipe.framework,
            "artifact": QUANTISED if precision == "int8" else FRAMEWORKS[recipe.framework],
            "threads": threads,
            **({"precision": precision} if precision == "fp16" else {}),
            "inputs": [_described(spec) for spec in recipe.schema.inputs],
            "outputs": [_described(spec) for spec in recipe.schema.outputs],
        },
        indent=1,
    )


def _described(spec: TensorSpec) -> Mapping[str, object]:
    return {"name": spec.name, "datatype": spec.data_type.value, "shape": list(spec.shape)}
