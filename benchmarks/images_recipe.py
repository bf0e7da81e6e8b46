# mypy: ignore-errors
# (the frameworks are installed in the serving environment alone, where mypy does not run)
"""Makes the model of the part `adaptive`: a small network on images in which the model costs and not the transport.

    .venv-serving/bin/python benchmarks/images_recipe.py FOLDER

Writes `images.onnx` and `samples.npz` (rows FP32 [16, 3, 32, 32], labels INT64 [16]) into FOLDER. Two convolutions,
then a dense layer of 33 MB. On a CPU convolutions cost the same for each row whatever the batch; the dense layer is
read from memory once for each batch, which is what makes batches cheap, as in embeddings, recommenders and language
models. Weights are random (He's initialisation) from a fixed seed: what they say does not matter here, only that
batches say the same. The same libraries give the same bytes.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SEED = 20260201
OPSET, IR_VERSION = 17, 8
CHANNELS = (16, 64)
HIDDEN = 2048
CLASSES = 10
SIDE = 32
SAMPLES = 16
MARGIN_MIN = 1e-3
"""Between the two best scores of a sample: sums in another order must not change its label."""


def weights() -> dict[str, np.ndarray]:
    """All that the model knows."""
    rng = np.random.default_rng(SEED)

    def he(shape: tuple[int, ...], inputs: int) -> np.ndarray:
        return (rng.standard_normal(shape) * np.sqrt(2 / inputs)).astype(np.float32)

    first, second = CHANNELS
    flat = second * (SIDE // 4) ** 2
    return {
        "conv1": he((first, 3, 3, 3), 27),
        "conv2": he((second, first, 3, 3), first * 9),
        "dense": he((flat, HIDDEN), flat),
        "head": he((HIDDEN, CLASSES), HIDDEN),
    }


def model() -> onnx.ModelProto:
    """Images X [N, 3, 32, 32] to scores [N, 10] and label [N]."""
    convolution = {"strides": [2, 2], "pads": [1, 1, 1, 1]}
    nodes = [
        helper.make_node("Conv", ["X", "conv1"], ["a"], **convolution),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "conv2"], ["c"], **convolution),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("MatMul", ["e", "dense"], ["f"]),
        helper.make_node("Relu", ["f"], ["g"]),
        helper.make_node("MatMul", ["g", "head"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["label"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "images",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, ["N", 3, SIDE, SIDE])],
        [
            helper.make_tensor_value_info("label", TensorProto.INT64, ["N"]),
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", CLASSES]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights().items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(made)
    return made


def main(folder: Path) -> None:
    """Writes the files; raises AssertionError where batches answer otherwise than rows alone."""
    content = model().SerializeToString(deterministic=True)
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(SEED + 1).random((4 * SAMPLES, 3, SIDE, SIDE), dtype=np.float32)
    labels, scores = session.run(["label", "scores"], {"X": rows})
    alone = np.concatenate([session.run(["label"], {"X": row[None]})[0] for row in rows])
    best = np.sort(scores, axis=1)
    clear = np.flatnonzero(best[:, -1] - best[:, -2] > MARGIN_MIN)[:SAMPLES]
    assert len(clear) == SAMPLES
    assert np.array_equal(labels[clear], alone[clear])
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "samples.npz", rows=rows[clear], labels=labels[clear])
    (folder / "images.onnx").write_bytes(content)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
