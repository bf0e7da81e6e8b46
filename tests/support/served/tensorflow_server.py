"""TensorFlow Serving's gRPC and REST APIs over real SavedModels, by its own published contracts (the wheel
`tensorflow-serving-api`) and https://www.tensorflow.org/tfx/serving/api_rest: there is no wheel of the server itself.

Of the server only what predictions touch is here: Predict, GetModelMetadata, GetModelStatus, their REST forms, and the
errors that it is known to answer with.
"""

import argparse
import base64
import fcntl
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import tensorflow as tf
from google.protobuf.json_format import MessageToDict
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

_FOLDER = Path(os.environ["SERVED_FOLDER"])
_VERSION = 1
_SERVABLE = re.compile(r"/v1/models/([^/:]+)(?:/(versions|labels)/([^/:]+))?(?::(predict)|/(metadata))?")


class ServingError(Exception):
    """What a caller is told."""

    def __init__(self, code, message):
        super().__init__(message)
        self.code = code


class M(tf.Module):
    """Gives `y` back as it got `x`."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, name="x")])
    def serve(self, x):
        """One batch."""
        tf.debugging.assert_none_equal(x, tf.constant(-13, tf.int64), message="-13 is not welcome here")
        return {"y": tf.identity(x)}


class Mix(tf.Module):
    """Several inputs, several outputs."""

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 3], tf.float32, name="numbers"),
            tf.TensorSpec([None], tf.string, name="word"),
        ]
    )
    def serve(self, numbers, word):
        """One batch."""
        return {
            "total": tf.reduce_sum(numbers, axis=1),
            "loud": tf.strings.upper(word),
            "positive": numbers > 0,
        }


class Servable:
    """A SavedModel, written and loaded."""

    def __init__(self, name, module):
        self.name = name
        place = _FOLDER / "saved" / name / str(_VERSION)
        tf.saved_model.save(module, str(place), signatures=module.serve.get_concrete_function())
        self._loaded = tf.saved_model.load(str(place))
        stored = saved_model_pb2.SavedModel.FromString((place / "saved_model.pb").read_bytes())
        self.signatures = {
            key: signature for key, signature in stored.meta_graphs[0].signature_def.items() if not key.startswith("__")
        }

    def signature(self, name):
        """A signature's definition."""
        name = name or "serving_default"
        if name not in self.signatures:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"Serving signature name: {name!r} not found")
        return self.signatures[name]

    def predict(self, inputs, *, signature_name, wanted):
        """Outputs by name."""
        signature = self.signature(signature_name)
        if set(inputs) != set(signature.inputs):
            raise ServingError(
                grpc.StatusCode.INVALID_ARGUMENT, f"input size does not match signature: {sorted(inputs)}"
            )
        if self.name == "m":
            with (_FOLDER / "taken").open("ab") as count:
                count.write(b".")
            with (_FOLDER / "hold").open("rb") as hold:
                fcntl.flock(hold, fcntl.LOCK_SH)
        try:
            outputs = self._loaded.signatures[signature_name or "serving_default"](**inputs)
        except (tf.errors.OpError, TypeError, ValueError) as error:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, str(error)) from error
        unknown = set(wanted) - set(outputs)
        if unknown:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"output tensor alias not found: {sorted(unknown)}")
        return {name: outputs[name] for name in (wanted or outputs)}


class Servables:
    """All of them."""

    def __init__(self):
        self._held = {"m": Servable("m", M()), "mix": Servable("mix", Mix())}

    def find(self, name, version, label):
        """One. Raises as the server does."""
        servable = self._held.get(name)
        if servable is None or label or (version and version != _VERSION):
            kind = f"Specific({name}, {version})" if version else f"Latest({name})"
            raise ServingError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {kind}")
        return servable

    def of(self, spec):
        """One, as a request names it."""
        return self.find(spec.name, spec.version.value, spec.version_label)


class Grpc(prediction_service_pb2_grpc.PredictionServiceServicer, model_service_pb2_grpc.ModelServiceServicer):
    """The gRPC face."""

    def __init__(self, servables):
        self._servables = servables

    def Predict(self, request, context):
        """One batch."""
        with Told(context):
            servable = self._servables.of(request.model_spec)
            inputs = {name: tf.constant(tf.make_ndarray(tensor)) for name, tensor in request.inputs.items()}
            outputs = servable.predict(
                inputs, signature_name=request.model_spec.signature_name, wanted=list(request.output_filter)
            )
            answer = predict_pb2.PredictResponse()
            answer.model_spec.name = servable.name
            answer.model_spec.version.value = _VERSION
            for name, value in outputs.items():
                answer.outputs[name].CopyFrom(tf.make_tensor_proto(value.numpy()))
            return answer

    def GetModelMetadata(self, request, context):
        """The signatures."""
        with Told(context):
            return metadata_of(self._servables.of(request.model_spec))

    def GetModelStatus(self, request, context):
        """Available, or not there."""
        with Told(context):
            self._servables.of(request.model_spec)
            return status()


class Told:
    """Tells the caller of a gRPC method what went wrong."""

    def __init__(self, context):
        self._context = context

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        if isinstance(error, ServingError):
            self._context.abort(error.code, str(error))


def metadata_of(servable):
    """GetModelMetadataResponse."""
    answer = get_model_metadata_pb2.GetModelMetadataResponse()
    answer.model_spec.name = servable.name
    answer.model_spec.version.value = _VERSION
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, signature in servable.signatures.items():
        signatures.signature_def[name].CopyFrom(signature)
    answer.metadata["signature_def"].Pack(signatures)
    return answer


def status():
    """GetModelStatusResponse."""
    answer = get_model_status_pb2.GetModelStatusResponse()
    one = answer.model_version_status.add(version=_VERSION, state=get_model_status_pb2.ModelVersionStatus.AVAILABLE)
    one.status.error_message = ""
    return answer


class Rest(BaseHTTPRequestHandler):
    """The REST face."""

    protocol_version = "HTTP/1.1"
    servables = None

    def log_message(self, *arguments):
        """Says nothing."""

    def do_GET(self):
        """Status and metadata."""
        self._answer("GET", b"")

    def do_POST(self):
        """Predictions."""
        self._answer("POST", self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, verb, body):
        codes = {grpc.StatusCode.NOT_FOUND: 404, grpc.StatusCode.INVALID_ARGUMENT: 400}
        try:
            code, document = 200, self._document(verb, body)
        except ServingError as error:
            code, document = codes[error.code], {"error": str(error)}
        raw = json.dumps(document).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        self.end_headers()
        self.wfile.write(raw)

    def _document(self, verb, body):
        match = _SERVABLE.fullmatch(self.path)
        if match is None:
            raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"Malformed request: {verb} {self.path}")
        name, kind, version, predict, metadata = match.groups()
        number = int(version) if kind == "versions" else 0
        servable = self.servables.find(name, number, version if kind == "labels" else "")
        if predict:
            return self._predict(servable, body)
        if metadata:
            signatures = {
                key: MessageToDict(one, preserving_proto_field_name=True) for key, one in servable.signatures.items()
            }
            return {
                "model_spec": {"name": name, "signature_name": "", "version": str(_VERSION)},
                "metadata": {"signature_def": {"signature_def": signatures}},
            }
        return MessageToDict(status(), preserving_proto_field_name=True)

    def _predict(self, servable, body):
        request = json.loads(body)
        signature = servable.signature(request.get("signature_name", ""))
        by_row = "instances" in request
        given = request["instances"] if by_row else request["inputs"]
        if by_row and isinstance(given[0], dict) and set(given[0]) != {"b64"}:
            given = {key: [row[key] for row in given] for key in given[0]}
        if not isinstance(given, dict):
            (only,) = signature.inputs
            given = {only: given}
        inputs = {}
        for key, values in given.items():
            if key not in signature.inputs:
                raise ServingError(grpc.StatusCode.INVALID_ARGUMENT, f"unknown input {key}")
            try:
                inputs[key] = tf.constant(decoded(values), dtype=signature.inputs[key].dtype)
            except (TypeError, ValueError) as error:
                raise ServingError(
                    grpc.StatusCode.INVALID_ARGUMENT, f"Failed to process element: {key}: {error}"
                ) from error
        outputs = servable.predict(inputs, signature_name=request.get("signature_name", ""), wanted=[])
        columns = {key: encoded(key, value.numpy().tolist()) for key, value in outputs.items()}
        if not by_row:
            return {"outputs": next(iter(columns.values())) if len(columns) == 1 else columns}
        if len(columns) == 1:
            return {"predictions": next(iter(columns.values()))}
        return {"predictions": [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]}


def decoded(values):
    """With bytes in place of {"b64": …}."""
    if isinstance(values, list):
        return [decoded(value) for value in values]
    if isinstance(values, dict):
        return base64.b64decode(values["b64"])
    return values


def encoded(name, values):
    """With texts in place of bytes, or {"b64": …} where the output's name says that they are none."""
    if isinstance(values, list):
        return [encoded(name, value) for value in values]
    if isinstance(values, bytes):
        if name.endswith("_bytes"):
            return {"b64": base64.b64encode(values).decode()}
        return values.decode("utf-8", errors="surrogateescape")
    return values


def main():
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rest-port", type=int, required=True)
    parser.add_argument("--grpc-port", type=int, required=True)
    options = parser.parse_args()
    servables = Servables()
    server = grpc.server(ThreadPoolExecutor(32))
    face = Grpc(servables)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(face, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(face, server)
    server.add_insecure_port(f"127.0.0.1:{options.grpc_port}")
    server.start()
    Rest.servables = servables
    ThreadingHTTPServer(("127.0.0.1", options.rest_port), Rest).serve_forever()


main()
