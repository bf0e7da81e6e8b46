"""The requests that are measured, as bytes; and what must come back."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import orjson
from inference import grpc_service_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2
from numpy.typing import NDArray

from services.supervisor.examples import DIGITS

MODEL, VERSION = "digits", "v1.0.0"
"""What is measured where nothing else is said: the model that every mesh begins with."""
_GRPC_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))
_GRPC_PREFIX_BYTES = 5
_LABEL_BYTES = 8


class WrongAnswerError(Exception):
    """What came back is not what the model says; the message tells both."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one request asks about."""

    rows: NDArray[np.float32]
    """[rows, …], each row as the model takes it."""
    labels: tuple[int, ...]
    """What the version under test makes of each row."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a server, and how its answer is read."""

    path: str
    body: bytes
    """As it is posted; a gRPC message with the prefix of its frame."""
    headers: tuple[tuple[str, str], ...]
    grpc: bool
    """Over HTTP/2 with the outcome in trailers; otherwise HTTP/1.1 with a status."""
    labels_of: Callable[[bytes], tuple[int, ...]]
    """The label of each row, out of an answer's message or body. Raises WrongAnswerError where there are none."""

    @property
    def message(self) -> bytes:
        """The body without the frame's prefix."""
        return self.body[_GRPC_PREFIX_BYTES:] if self.grpc else self.body


def digits(rows: int = 1) -> Sequence[Sample]:
    """The digits that `make setup` keeps out of the training, `rows` of them in each request; all of them occur."""
    kept = orjson.loads((DIGITS / "samples.json").read_bytes())
    pixels = np.array([sample["instance"]["X"] for sample in kept], dtype=np.float32)
    labels = [int(sample["expected"][VERSION]) for sample in kept]
    starts = range(0, len(kept), min(rows, len(kept)))
    chosen = [[(start + place) % len(kept) for place in range(rows)] for start in starts]
    return [Sample(pixels[places], tuple(labels[place] for place in places)) for places in chosen]


def open_inference(model_name: str, sample: Sample, *, version: str = "") -> Call:
    """ModelInfer with raw tensors, as `tritonclient` sends it."""
    request = grpc_service_pb2.ModelInferRequest(
        model_name=model_name,
        model_version=version,
        inputs=[
            grpc_service_pb2.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=sample.rows.shape)
        ],
        raw_input_contents=[sample.rows.astype("<f4").tobytes()],
    )
    path = "/inference.GRPCInferenceService/ModelInfer"
    return Call(path, frame(request.SerializeToString()), _GRPC_HEADERS, grpc=True, labels_of=_tensor_labels)


def typed(model_name: str, sample: Sample) -> Call:
    """Predict with typed features, an instance for each row."""
    instances = [
        instance_pb2.Instance(
            features={"X": instance_pb2.Feature(float_list=instance_pb2.FloatList(values=row.tolist()))}
        )
        for row in sample.rows
    ]
    request = prediction_pb2.PredictRequest(model_name=model_name, instances=instances)
    path = "/infermesh.prediction.v1.PredictionService/Predict"
    return Call(path, frame(request.SerializeToString()), _GRPC_HEADERS, grpc=True, labels_of=_typed_labels)


def rest(model_name: str, sample: Sample) -> Call:
    """The JSON form of a prediction."""
    body = orjson.dumps({"instances": [{"X": row.tolist()} for row in sample.rows]})
    headers = (("content-type", "application/json"),)
    return Call(f"/v1/models/{model_name}/predict", body, headers, grpc=False, labels_of=_rest_labels)


def open_inference_json(model_name: str, sample: Sample) -> Call:
    """The Open Inference Protocol's JSON, which is what Triton speaks over HTTP by itself."""
    tensor = {"name": "X", "datatype": "FP32", "shape": list(sample.rows.shape), "data": sample.rows.ravel().tolist()}
    headers = (("content-type", "application/json"),)
    path = f"/v2/models/{model_name}/infer"
    return Call(path, orjson.dumps({"inputs": [tensor]}), headers, grpc=False, labels_of=_json_labels)


def with_key(call: Call, key: str) -> Call:
    """The same call by somebody with a key; itself for an empty one."""
    return replace(call, headers=(*call.headers, ("authorization", f"Bearer {key}"))) if key else call


def frame(message: bytes) -> bytes:
    """A message as gRPC puts it into an HTTP/2 stream: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def _tensor_labels(message: bytes) -> tuple[int, ...]:
    answer = grpc_service_pb2.ModelInferResponse.FromString(message)
    tensors = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    raw = tensors.get("label", b"")
    if not raw or len(raw) % _LABEL_BYTES:
        raise WrongAnswerError(f"no labels in an answer with {sorted(tensors)}")
    return tuple(np.frombuffer(raw, dtype="<i8").tolist())


def _typed_labels(message: bytes) -> tuple[int, ...]:
    answer = prediction_pb2.PredictResponse.FromString(message)
    if not answer.predictions:
        raise WrongAnswerError("an answer without predictions")
    return tuple(int(one.output.int64_value) for one in answer.predictions)


def _rest_labels(body: bytes) -> tuple[int, ...]:
    try:
        labels = tuple(int(prediction["output"]) for prediction in orjson.loads(body)["predictions"])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswerError(f"no predictions in {body[:200]!r}") from error
    if not labels:
        raise WrongAnswerError(f"no predictions in {body[:200]!r}")
    return labels


def _json_labels(body: bytes) -> tuple[int, ...]:
    try:
        (label,) = [one["data"] for one in orjson.loads(body)["outputs"] if one["name"] == "label"]
        return tuple(int(one) for one in label)
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswerError(f"no labels in {body[:200]!r}") from error
