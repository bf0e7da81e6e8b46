"""A typed prediction over gRPC, with nothing but generated stubs.

python -m examples.clients.typed_grpc 127.0.0.1:8080

The mesh's key, where it asks for one, is in INFERMESH_API_KEY.
"""

import os
import sys

import grpc
from infermesh.prediction.v1.instance_pb2 import Feature, FloatList, Instance
from infermesh.prediction.v1.prediction_pb2 import PredictRequest
from infermesh.prediction.v1.prediction_service_pb2_grpc import PredictionServiceStub

from examples.clients.samples import digit, drawn

_TIMEOUT_S = 10.0


def main() -> None:
    """Asks which digit a picture shows."""
    gateway = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8080"
    pixels, truth = digit()
    key = (("authorization", f"Bearer {os.environ.get('INFERMESH_API_KEY', '')}"),)
    instance = Instance(features={"X": Feature(float_list=FloatList(values=pixels))})
    with grpc.insecure_channel(gateway) as channel:
        stub = PredictionServiceStub(channel)
        request = PredictRequest(model_name="digits", instances=[instance])
        answer = stub.Predict(request, timeout=_TIMEOUT_S, metadata=key)
    prediction = answer.predictions[0]
    print(drawn(pixels))
    print(
        f"digits {answer.model_version} says {prediction.class_name} ({prediction.confidence:.1%}); it is a {truth}; "
        f"answered in {answer.latency_ms:.1f} ms as {answer.request_id}"
    )


if __name__ == "__main__":
    main()
