"""Predictions: one call, a stream, or tensors."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from inference import grpc_service_pb2_grpc
from infermesh.client.errors import InfermeshError, error_from_rpc, error_from_status
from infermesh.client.features import Instance, to_instance, to_value
from infermesh.client.tensors import request_of, tensors_of
from infermesh.client.transport import Transport
from infermesh.prediction.v1 import prediction_pb2, prediction_service_pb2_grpc

if TYPE_CHECKING:
    import numpy as np

STREAM_TIMEOUT_S = 3600.0
"""A stream lives as long as its caller feeds it, up to this."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """What the model says about one instance."""

    output: object
    """The model's output for the instance: a scalar, or a list in row-major order."""
    label: str
    """The class's name; `class` in REST. Empty where the version has no classes."""
    confidence: float | None
    """The largest probability, 0 to 1; None where the version states no probabilities."""
    probabilities: Mapping[str, float]
    """The probability of each class; empty where the version states none."""
    explanation: Mapping[str, float]
    """How much each feature contributed: with the baseline they add up to the probability of the class, or to the
    output where there are no probabilities. Empty unless it was asked for."""
    explanation_baseline: float | None = None
    """What is explained, on average over the version's reference sample; None unless it was asked for."""

    def to_dict(self) -> dict[str, object]:
        """The prediction as the REST API prints it: what it does not have is left out."""
        shown: dict[str, object] = {"output": self.output}
        if self.confidence is not None:
            shown["confidence"] = self.confidence
        if self.label:
            shown["class"] = self.label
        if self.probabilities:
            shown["probabilities"] = dict(self.probabilities)
        if self.explanation:
            shown["explanation"] = dict(self.explanation)
        if self.explanation_baseline is not None:
            shown["explanation_baseline"] = self.explanation_baseline
        return shown


@dataclass(frozen=True, slots=True)
class Answer:
    """The predictions for a request's instances, in their order, and who made them."""

    predictions: tuple[Prediction, ...]
    model_name: str
    model_version: str
    latency_ms: float
    """Inside the batcher, in milliseconds."""
    request_id: str
    """By this id the prediction log and outcomes know the request."""

    def to_dict(self) -> dict[str, object]:
        """The answer as the REST API prints it."""
        return {
            "predictions": [item.to_dict() for item in self.predictions],
            "model_name": self.model_name,
            "model_version": self.model_version,
            "latency_ms": self.latency_ms,
            "request_id": self.request_id,
        }


class Predictions:
    """Asks models. Call it for a prediction: `mesh.predict("digits", [{"X": pixels}])`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._stub = prediction_service_pb2_grpc.PredictionServiceStub(transport.channel)
        self._tensors = grpc_service_pb2_grpc.GRPCInferenceServiceStub(transport.channel)

    def __call__(
        self,
        model: str,
        instances: Iterable[Instance],
        *,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        explain: bool = False,
        request_id: str = "",
        user_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """Predicts instances with one version: the one named, else the one that the model's traffic rules choose.

        `user_id` keeps a user on one version while a split is sticky. `explain` asks what each feature contributed, of
        at most 32 instances; it takes seconds. Raises InfermeshError, and TypeError for a value that cannot be a
        feature.
        """
        request = _request(model, instances, version, parameters, explain=explain, request_id=request_id)
        response = self._transport.call(
            self._stub.Predict, request, timeout_s=timeout_s, metadata=_metadata(model, version, user_id)
        )
        return _answer(response)

    def stream(
        self,
        model: str,
        instances: Iterable[Instance],
        *,
        version: str = "",
        parameters: Mapping[str, object] | None = None,
        explain: bool = False,
        timeout_s: float = STREAM_TIMEOUT_S,
    ) -> Iterator[Answer | InfermeshError]:
        """Predicts instances one after another over one stream, which saves a call for each.

        Yields for each instance, in order, its answer or the error that it met; the stream goes on after an error of an
        instance. Raises InfermeshError where the stream itself fails. The iterable is read from another thread.
        """
        requests = (_request(model, [item], version, parameters, explain=explain) for item in instances)
        call = self._stub.StreamPredict(requests, timeout=timeout_s, metadata=_metadata(model, version, ""))
        try:
            for answer in call:
                if answer.WhichOneof("result") == "error":
                    yield error_from_status(answer.error)
                else:
                    yield _answer(answer.response)
        except grpc.RpcError as error:
            raise error_from_rpc(error, address=self._transport.address, timeout_s=timeout_s) from error
        finally:
            call.cancel()

    def tensors(
        self,
        model: str,
        inputs: "Mapping[str, np.ndarray]",
        *,
        version: str = "",
        outputs: Sequence[str] = (),
        timeout_s: float | None = None,
    ) -> "dict[str, np.ndarray]":
        """Numpy arrays in, numpy arrays out, over the Open Inference Protocol: the quickest way for many rows.

        `outputs` names the tensors wanted; all where it is empty. Needs numpy.
        """
        request = request_of(model, inputs, version=version, outputs=outputs)
        response = self._transport.call(
            self._tensors.ModelInfer, request, timeout_s=timeout_s, metadata=_metadata(model, version, "")
        )
        return tensors_of(response)


def _metadata(model: str, version: str, user_id: str) -> tuple[tuple[str, str], ...]:
    """What the gateway routes by. Said in headers too, it need not read the message."""
    said = (("x-model-name", model), ("x-model-version", version), ("x-user-id", user_id))
    return tuple((name, value) for name, value in said if value)


def _request(
    model: str,
    instances: Iterable[Instance],
    version: str,
    parameters: Mapping[str, object] | None,
    *,
    explain: bool = False,
    request_id: str = "",
) -> prediction_pb2.PredictRequest:
    if isinstance(instances, Mapping):
        raise TypeError("instances must be a list of mappings; put the one instance into a list")
    return prediction_pb2.PredictRequest(
        model_name=model,
        version=version,
        instances=[to_instance(item, place=place) for place, item in enumerate(instances)],
        parameters={name: _text(value) for name, value in (parameters or {}).items()},
        explain=explain,
        request_id=request_id,
    )


def _text(value: object) -> str:
    """A parameter as the wire has it: numbers as their decimal text, truth values as JSON writes them."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        raise TypeError(f"a parameter cannot be {value}")
    return str(value)


def _answer(response: prediction_pb2.PredictResponse) -> Answer:
    return Answer(
        predictions=tuple(_prediction(item) for item in response.predictions),
        model_name=response.model_name,
        model_version=response.model_version,
        latency_ms=response.latency_ms,
        request_id=response.request_id,
    )


def _prediction(item: prediction_pb2.Prediction) -> Prediction:
    return Prediction(
        output=to_value(item.output),
        label=item.class_name,
        confidence=item.confidence if item.HasField("confidence") else None,
        probabilities=dict(item.probabilities),
        explanation=dict(item.explanation),
        explanation_baseline=item.explanation_baseline if item.HasField("explanation_baseline") else None,
    )
