"""The requests: rows of token ids, and the answers that PyTorch itself gave."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

import numpy as np
from inference import grpc_service_pb2
from numpy.typing import NDArray

from benchmarks.load import LoadFailedError
from benchmarks.payloads import Call, Sample, WrongAnswerError, frame

RECIPE = Path(__file__).with_name("model") / "recipe.py"
ERROR_MAX = 0.02
"""Of a row of scores against PyTorch's in single precision: the norm of the difference over the norm."""
_RECIPE_TIMEOUT_S = 120.0
_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))
_PATH = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the network is, its batches at most, and how it is run."""

    layers: int = 12
    hidden: int = 768
    rows_max: int = 128
    graphs: bool = True
    """Each size is recorded as a graph of CUDA's and replayed; otherwise PyTorch launches kernel by kernel."""


@dataclass(frozen=True, slots=True)
class Passage(Sample):
    """Rows of token ids, held as numbers that FP32 has exactly."""

    scores: NDArray[np.float32]
    """What PyTorch says of them in single precision, [rows, 16]."""


def make(python: Path, folder: Path, sizes: Sizes) -> tuple[Sequence[Passage], Mapping[str, object]]:
    """The passages, a row in each, and what PyTorch says of network and card. Raises LoadFailedError with the recipe's
    last words.
    """
    command = [str(python), str(RECIPE), str(folder), *map(str, map(int, astuple(sizes)))]
    run = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_RECIPE_TIMEOUT_S)
    if run.returncode:
        words = run.stderr.strip().splitlines()
        raise LoadFailedError(f"cannot make the encoder: {words[-1] if words else 'it says nothing'}")
    with np.load(folder / "samples.npz") as kept:
        passages = [
            Passage(ids[None].astype(np.float32), (int(label),), scores[None])
            for ids, label, scores in zip(kept["ids"], kept["labels"], kept["scores"], strict=True)
        ]
    return passages, json.loads((folder / "facts.json").read_text())


def infer(model_name: str, sample: Sample, *, version: str = "") -> Call:
    """ModelInfer about a passage, with raw tensors. Its answer's scores are checked as well as its labels."""
    assert isinstance(sample, Passage)
    tensor = grpc_service_pb2.ModelInferRequest.InferInputTensor(name="ids", datatype="INT32", shape=sample.rows.shape)
    request = grpc_service_pb2.ModelInferRequest(
        model_name=model_name,
        model_version=version,
        inputs=[tensor],
        raw_input_contents=[sample.rows.astype("<i4").tobytes()],
    )
    body = frame(request.SerializeToString())
    return Call(_PATH, body, _HEADERS, grpc=True, labels_of=partial(labels_of, sample))


def labels_of(passage: Passage, message: bytes) -> tuple[int, ...]:
    """The labels of an answer. Raises WrongAnswerError where it has none, or scores that are not the passage's."""
    answer = grpc_service_pb2.ModelInferResponse.FromString(message)
    tensors = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    scores = np.frombuffer(tensors.get("scores", b""), dtype="<f4")
    if scores.size != passage.scores.size:
        raise WrongAnswerError(f"{scores.size} scores in an answer with {sorted(tensors)}")
    error = float(np.linalg.norm(scores - passage.scores.ravel()) / np.linalg.norm(passage.scores))
    if not error < ERROR_MAX:
        raise WrongAnswerError(f"scores are {error:.3f} off those of PyTorch, at most {ERROR_MAX}")
    return tuple(np.frombuffer(tensors.get("label", b""), dtype="<i8").tolist())
