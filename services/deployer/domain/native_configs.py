"""Configurations of Triton's native backends. Each writes the parameters that the backend's own documentation names."""

from collections.abc import Sequence

from services.common.schema import ModelSchema
from services.deployer.domain.equipment import Group
from services.deployer.domain.triton_config import Accelerator, TritonConfig

FIL_INPUT, FIL_OUTPUT = "input__0", "output__0"
"""The only tensors that the fil backend knows."""
_FIL_ROWS_MAX = 65_536
"""The fil backend wants some limit, with Triton to add the batch dimension; this is the most that a deployment may ask
for, so that a change of its batch size is no change of the model."""


def onnxruntime_config(
    name: str,
    schema: ModelSchema,
    *,
    groups: Sequence[Group],
    threads: int,
    file: str,
    half: bool,
    rows_max: int,
) -> TritonConfig:
    """By onnxruntime. In half precision TensorRT computes what it can, and CUDA the rest."""
    return TritonConfig(
        name,
        "onnxruntime",
        schema.inputs,
        schema.outputs,
        groups,
        file=file,
        accelerator=Accelerator("tensorrt", {"precision_mode": "FP16"}) if half else None,
        parameters={"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"},
        warmup_rows=engine_rows(schema, rows_max) if half else (),
    )


def engine_rows(schema: ModelSchema, rows_max: int) -> tuple[int, ...]:
    """The batches to compute while a model is loaded that TensorRT runs.

    It builds an engine for the range of sizes that it has seen, which takes long and must not happen to a caller: so it
    sees the most rows and one. For dimensions of any size that cannot be done.
    """
    fixed = all(size > 0 for spec in schema.inputs for size in spec.shape)
    return tuple(dict.fromkeys((rows_max, 1))) if fixed else ()


def pytorch_config(name: str, schema: ModelSchema, *, groups: Sequence[Group], threads: int) -> TritonConfig:
    """TorchScript by LibTorch. Its threads are the whole server's: those of the first model that states any."""
    return TritonConfig(
        name,
        "pytorch",
        schema.inputs,
        schema.outputs,
        groups,
        platform="pytorch_libtorch",
        parameters={"INTRA_OP_THREAD_COUNT": str(threads), "INTER_OP_THREAD_COUNT": "1"},
    )


def tensorflow_config(
    name: str, schema: ModelSchema, *, groups: Sequence[Group], threads: int, half: bool
) -> TritonConfig:
    """A SavedModel's `serving_default` by TensorFlow, in half precision where TensorFlow deems that safe."""
    return TritonConfig(
        name,
        "tensorflow",
        schema.inputs,
        schema.outputs,
        groups,
        platform="tensorflow_savedmodel",
        accelerator=Accelerator("auto_mixed_precision") if half else None,
        parameters={
            "TF_NUM_INTRA_THREADS": str(threads),
            "TF_NUM_INTER_THREADS": "1",
            "TF_USE_PER_SESSION_THREADS": "1",
        },
    )


def fil_config(
    name: str, schema: ModelSchema, *, groups: Sequence[Group], threads: int, model_type: str, classifies: bool
) -> TritonConfig:
    """Trees by the Forest Inference Library: the probabilities of all classes, or one number."""
    is_classifier = "true" if classifies else "false"
    parameters = {
        "model_type": model_type,
        # The same under its name since 25.09 and the one before: each is required where it is known.
        "is_classifier": is_classifier,
        "output_class": is_classifier,
        "predict_proba": is_classifier,
        **({"threshold": "0.5"} if classifies else {}),
        "cpu_nthread": str(threads),
    }
    return TritonConfig(
        name, "fil", schema.inputs, schema.outputs, groups, max_batch_size=_FIL_ROWS_MAX, parameters=parameters
    )
