"""Quantises an ONNX model to 8-bit integers and says how many answers on a sample that changes.

    python quantize.py --model IN.onnx --out OUT.onnx --serving serving.json --sample sample.json --answer label

It runs in the model servers' environment, as a process of its own: weights are quantised once, activations at run time
(dynamic quantisation, onnxruntime). The last line that it prints is JSON:

    {"rows": 100, "changed": 1, "bytes_before": 4000000, "bytes_after": 1000000}

Answers are those of the tensor `--answer`. Of floats a row is the class of the largest number where it has several, and
where it has one it has changed where it moved by more than 1 % of the range of all answers.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnxruntime.quantization import QuantType, quantize_dynamic

Array = np.ndarray[Any, Any]
_NEAR = 0.01
_QUANTISED = ("MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "QLinearMatMul")
_TYPES = {
    "BOOL": np.bool_,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
    **{f"{sign}INT{bits}": np.dtype(f"{sign.lower()}int{bits}").type for sign in ("", "U") for bits in (8, 16, 32, 64)},
}


def main() -> None:
    """Ends with a sentence on standard error where nothing can be quantised."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    for name in ("model", "out", "serving", "sample"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--answer", required=True)
    told = parser.parse_args()
    logging.disable(logging.WARNING)
    try:
        quantize_dynamic(str(told.model), str(told.out), weight_type=QuantType.QInt8)
    except ValueError as error:
        sys.exit(f"onnxruntime cannot quantise it: {error}")
    if not any(node.op_type in _QUANTISED for node in onnx.load(told.out, load_external_data=False).graph.node):
        sys.exit("it has no product of matrices that could be quantised")
    serving = json.loads(told.serving.read_text())
    inputs = arrays(serving["inputs"], json.loads(told.sample.read_text())["instances"])
    before, after = (answers(path, inputs, told.answer) for path in (told.model, told.out))
    said = {
        "rows": len(before),
        "changed": int(changed(before, after).sum()),
        "bytes_before": told.model.stat().st_size,
        "bytes_after": told.out.stat().st_size,
    }
    sys.stdout.write(json.dumps(said) + "\n")


def arrays(specs: Sequence[Mapping[str, Any]], instances: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
    """The sample as one batch. An input that an instance leaves out is left out of all."""
    made = {}
    for spec in specs:
        name = spec["name"]
        if all(name in one for one in instances):
            shape = (len(instances), *spec["shape"])
            made[name] = np.array([one[name] for one in instances], dtype=_TYPES[spec["datatype"]]).reshape(shape)
    return made


def answers(path: Path, inputs: Mapping[str, Array], name: str) -> Array:
    """What a model answers for the sample."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    known = {one.name for one in session.get_inputs()}
    given = {each: value for each, value in inputs.items() if each in known}
    return np.asarray(session.run([name], given)[0])


def changed(before: Array, after: Array) -> Array:
    """Of each row, whether its answer is another one."""
    if before.dtype.kind != "f":
        return np.any((before != after).reshape(len(before), -1), axis=1)
    if before.ndim > 1 and before.shape[-1] > 1:
        return np.asarray(
            before.reshape(len(before), -1).argmax(axis=1) != after.reshape(len(after), -1).argmax(axis=1)
        )
    flat, moved = before.reshape(len(before)), after.reshape(len(after))
    scale = max(float(np.ptp(flat)), float(np.abs(flat).max()), 1e-12)
    return np.asarray(np.abs(flat - moved) > _NEAR * scale)


if __name__ == "__main__":
    main()
