"""Which of Triton's own backends runs a version in place of the python runner, and why none does where none does.

Two decisions, because a wish is known long before the artifact is at hand: what the schema, the wish and the model
servers allow (`plan_native`), and whether the artifact is what that was planned for (`choose`). A version goes to a
native backend only where its answers are those that the runner would give; all else falls back to the runner.
"""

from dataclasses import dataclass

from services.common.schema import DataType, ModelSchema, TensorSpec
from services.deployer.domain.artifact_facts import Facts, Form
from services.deployer.domain.deployment import Recipe, Wish
from services.deployer.domain.equipment import Equipment, Group
from services.deployer.domain.native_configs import (
    FIL_INPUT,
    FIL_OUTPUT,
    fil_config,
    onnxruntime_config,
    pytorch_config,
    tensorflow_config,
)

QUANTISED = "model.int8.onnx"
"""What runs in place of the artifact where it is quantised."""
BACKENDS = {
    "onnx": "onnxruntime",
    "pytorch": "pytorch",
    "tensorflow": "tensorflow",
    "xgboost": "fil",
    "lightgbm": "fil",
}
"""The backend for each framework that has one."""
_NONE = {
    "sklearn": "Triton has no backend for scikit-learn's files; exported to ONNX the model could be run by one",
    "python": "it is Python code",
}
_TORCH_TYPES = frozenset(
    (
        DataType.BOOL,
        DataType.UINT8,
        DataType.INT8,
        DataType.INT16,
        DataType.INT32,
        DataType.INT64,
        DataType.FP16,
        DataType.FP32,
        DataType.FP64,
    )
)


@dataclass(frozen=True, slots=True)
class Choice:
    """One form that the artifact may have, and what is made of it."""

    form: Form
    file: str
    """What it is called in the folder of the version."""
    config: str
    """config.pbtxt."""


@dataclass(frozen=True, slots=True)
class Native:
    """A version as a native backend would run it."""

    backend: str
    framework: str
    schema: ModelSchema
    choices: tuple[Choice, ...]
    certain: bool = False
    """Whether the artifact is known to be what the one choice is for."""


def plan_native(
    name: str, recipe: Recipe, wish: Wish, *, groups: tuple[Group, ...], threads: int, equipment: Equipment
) -> Native | str:
    """How a native backend would run the version, or why none does, as a clause."""
    framework, schema = recipe.framework, recipe.schema
    backend = BACKENDS.get(framework)
    if backend is None:
        return _NONE.get(framework, f"Triton has no backend for {framework}")
    if backend not in equipment.native_backends:
        return f"the model servers have no {backend} backend"
    half = wish.serving.precision == "fp16"
    if backend == "onnxruntime":
        config = onnxruntime_config(
            name,
            schema,
            groups=groups,
            threads=threads,
            file=QUANTISED if wish.serving.precision == "int8" else "",
            half=half,
            rows_max=wish.batching.max_batch_size,
        )
        one = Choice(Form.ONNX, "model.onnx", config.text())
        return Native(backend, framework, schema, (one,), certain=recipe.artifact_kind == "file")
    if backend == "pytorch":
        problem = "its half precision is the runner's" if half else _pytorch_problem(schema)
        torch = pytorch_config(name, schema, groups=groups, threads=threads)
        return problem or Native(backend, framework, schema, (Choice(Form.TORCHSCRIPT, "model.pt", torch.text()),))
    if backend == "tensorflow":
        problem = _optional_problem(schema, backend)
        graph = tensorflow_config(name, schema, groups=groups, threads=threads, half=half)
        return problem or Native(
            backend, framework, schema, (Choice(Form.SAVED_MODEL, "model.savedmodel", graph.text()),)
        )
    problem = _fil_problem(schema)
    if problem:
        return problem
    forms = (
        ((Form.XGBOOST_JSON, "xgboost.json", "xgboost_json"), (Form.XGBOOST_UBJSON, "xgboost.ubj", "xgboost_ubj"))
        if framework == "xgboost"
        else ((Form.LIGHTGBM, "model.txt", "lightgbm"),)
    )
    classifies = schema.outputs[0].shape != (1,)
    return Native(
        backend,
        framework,
        schema,
        tuple(
            Choice(
                form,
                file,
                fil_config(
                    name, schema, groups=groups, threads=threads, model_type=model_type, classifies=classifies
                ).text(),
            )
            for form, file, model_type in forms
        ),
    )


def choose(native: Native, facts: Facts) -> Choice | str:
    """What is made of the artifact that `facts` tell of; or why the runner must run it, as a clause."""
    if facts.problem:
        return facts.problem
    choice = next((one for one in native.choices if one.form is facts.form), None)
    if choice is None:
        wanted = " or ".join(str(one.form) for one in native.choices)
        return f"its artifact is not {wanted}, which Triton's {native.backend} backend loads"
    return _mismatch(native.schema, facts) or choice


def _mismatch(schema: ModelSchema, facts: Facts) -> str:
    """Why the tensors of the schema are not those of the artifact; empty where they are."""
    inputs, outputs = [one.name for one in schema.inputs], [one.name for one in schema.outputs]
    if facts.form is Form.TORCHSCRIPT:
        if len(facts.inputs) != len(inputs):
            return f"its forward takes {len(facts.inputs)} tensors, and the schema has {len(inputs)}"
        if len(facts.outputs) != len(outputs):
            return f"its forward gives {len(facts.outputs)} tensors, and the schema has {len(outputs)}"
        # Where all are the names of forward they go by them, in whatever order; else by their places.
        return "" if set(inputs) <= set(facts.inputs) else _numbered_problem(inputs)
    if facts.form is Form.SAVED_MODEL:
        if set(inputs) != set(facts.inputs):
            return f"its signature takes {', '.join(facts.inputs)}, and the schema {', '.join(inputs)}"
        unknown = [name for name in outputs if name not in facts.outputs]
        return f"its signature gives no {unknown[0]}, but {', '.join(facts.outputs)}" if unknown else ""
    if facts.form in (Form.XGBOOST_JSON, Form.XGBOOST_UBJSON, Form.LIGHTGBM):
        width, classes = schema.inputs[0].shape[0], schema.outputs[0].shape[0]
        if width != facts.features:
            return f"it has {facts.features} features, and {FIL_INPUT} {width}"
        if classes != (facts.classes or 1):
            return f"{FIL_OUTPUT} has {classes} numbers a row, where the backend gives " + (
                f"the probabilities of {facts.classes} classes" if facts.classes else "one"
            )
    return ""


def _optional_problem(schema: ModelSchema, backend: str) -> str:
    optional = next((one.name for one in schema.inputs if one.optional), "")
    return f"its input {optional} may be left out, which Triton's {backend} backend does not allow" if optional else ""


def _pytorch_problem(schema: ModelSchema) -> str:
    other = next((one for one in (*schema.inputs, *schema.outputs) if one.data_type not in _TORCH_TYPES), None)
    if other is not None:
        return f"its tensor {other.name} is {other.data_type}, which Triton's pytorch backend does not take"
    return _optional_problem(schema, "pytorch") or _numbered_problem([one.name for one in schema.outputs])


def _numbered_problem(names: list[str]) -> str:
    """Tensors whose names all end in "__" and a number go by it, where the runner goes by their order."""
    tails = [name.partition("__")[2] if "__" in name else "?" for name in names]
    if not all(not tail or tail.isdecimal() for tail in tails):
        return ""
    if [int(tail or 0) for tail in tails] == list(range(len(names))):
        return ""
    return f"the numbers in the names {', '.join(names)} are another order than the schema's"


def _fil_problem(schema: ModelSchema) -> str:
    if not (len(schema.inputs) == 1 and _is_row(schema.inputs[0], FIL_INPUT)):
        return (
            f"Triton's fil backend takes one FP32 tensor {FIL_INPUT} with all features of a row; "
            "register the version with that schema to have it run there"
        )
    if not (len(schema.outputs) == 1 and _is_row(schema.outputs[0], FIL_OUTPUT)):
        return (
            f"Triton's fil backend gives one FP32 tensor {FIL_OUTPUT}, the probabilities or the number; "
            "register the version with that schema to have it run there"
        )
    return ""


def _is_row(spec: TensorSpec, name: str) -> bool:
    fixed = len(spec.shape) == 1 and spec.shape[0] > 0
    return spec.name == name and spec.data_type is DataType.FP32 and fixed and not spec.optional
