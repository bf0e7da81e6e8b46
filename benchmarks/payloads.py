"""The requests that are measured, one row of digits each, as bytes; and what must come back."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import orjson
from inference import grpc_service_pb2
from infermesh.prediction.v1 import instance_pb2, prediction_pb2

from services.supervisor.examples import DIGITS

MODEL, VERSION = "digits", "v1.0.0"
"""What is measured: the model that every mesh begins with."""
_GRPC_HEADERS = (("content-type", "application/grpc"), ("te", "trailers"))
_GRPC_PREFIX_BYTES = 5


class WrongAnswerError(Exception):
    """What came back is not what the model says; the message tells both."""


@dataclass(frozen=True, slots=True)
class Digit:
    """A held-out digit."""

    pixels: tuple[float, ...]
    label: int
    """What the version under test makes of it."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request for a server, and how its answer is read."""

    path: str
    body: bytes
    """As it is posted; a gRPC message with the prefix of its frame."""
    headers: tuple[tuple[str, str], ...]
    grpc: bool
    """Over HTTP/2 with the outcome in trailers; otherwise HTTP/1.1 with a status."""
    label_of: Callable[[bytes], int]
    """The predicted digit in an answer's message or body. Raises WrongAnswerError where there is none."""

    @property
    def message(self) -> bytes:
        """The body without the frame's prefix."""
        return self.body[_GRPC_PREFIX_BYTES:] if self.grpc else self.body


def digits() -> Sequence[Digit]:
    """The samples that `make setup` keeps out of the training."""
    samples = orjson.loads((DIGITS / "samples.json").read_bytes())
    return [Digit(tuple(sample["instance"]["X"]), sample["expected"][VERSION]) for sample in samples]


def open_inference(model_name: str, digit: Digit) -> Call:
    """ModelInfer with raw tensors, as `tritonclient` sends it."""
    request = grpc_service_pb2.ModelInferRequest(
        model_name=model_name,
        inputs=[
            grpc_service_pb2.ModelInferRequest.InferInputTensor(name="X", datatype="FP32", shape=[1, len(digit.pixels)])
        ],
        raw_input_contents=[struct.pack(f"<{len(digit.pixels)}f", *digit.pixels)],
    )
    path = "/inference.GRPCInferenceService/ModelInfer"
    return Call(path, frame(request.SerializeToString()), _GRPC_HEADERS, grpc=True, label_of=_tensor_label)


def typed(model_name: str, digit: Digit) -> Call:
    """Predict with typed features."""
    feature = instance_pb2.Feature(float_list=instance_pb2.FloatList(values=digit.pixels))
    request = prediction_pb2.PredictRequest(
        model_name=model_name, instances=[instance_pb2.Instance(features={"X": feature})]
    )
    path = "/infermesh.prediction.v1.PredictionService/Predict"
    return Call(path, frame(request.SerializeToString()), _GRPC_HEADERS, grpc=True, label_of=_typed_label)


def rest(model_name: str, digit: Digit) -> Call:
    """The JSON form of a prediction."""
    body = orjson.dumps({"instances": [{"X": digit.pixels}]})
    headers = (("content-type", "application/json"),)
    return Call(f"/v1/models/{model_name}/predict", body, headers, grpc=False, label_of=_json_label)


def frame(message: bytes) -> bytes:
    """A message as gRPC puts it into an HTTP/2 stream: not compressed, its length, itself."""
    return struct.pack(">BI", 0, len(message)) + message


def _tensor_label(message: bytes) -> int:
    answer = grpc_service_pb2.ModelInferResponse.FromString(message)
    tensors = dict(zip((output.name for output in answer.outputs), answer.raw_output_contents, strict=True))
    if len(tensors.get("label", b"")) != 8:
        raise WrongAnswerError(f"no label of one row in an answer with {sorted(tensors)}")
    return int(struct.unpack("<q", tensors["label"])[0])


def _typed_label(message: bytes) -> int:
    answer = prediction_pb2.PredictResponse.FromString(message)
    if len(answer.predictions) != 1:
        raise WrongAnswerError(f"{len(answer.predictions)} predictions where one was asked for")
    return int(answer.predictions[0].output.int64_value)


def _json_label(body: bytes) -> int:
    try:
        (prediction,) = orjson.loads(body)["predictions"]
        return int(prediction["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise WrongAnswerError(f"no prediction in {body[:200]!r}") from error
