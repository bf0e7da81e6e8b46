"""Drives the mesh with NVIDIA's `tritonclient` as it comes, over gRPC and HTTP, and prints what it got as JSON.

A program of its own: the HTTP client brings gevent, which must not reach into the tests' process.
"""

import json
import os
import sys
from typing import Any

import numpy as np
import tritonclient.grpc as over_grpc
import tritonclient.http as over_http
from tritonclient.utils import InferenceServerException

_TIMEOUT_S = 30.0


class _KeyBearer:
    """A plug-in, which is how `tritonclient` is given headers for all that it asks."""

    def __call__(self, request: Any) -> None:
        if key := os.environ.get("INFERMESH_API_KEY"):
            request.headers["authorization"] = f"Bearer {key}"


def _inputs(module: Any, batch: "np.ndarray[Any, np.dtype[np.float32]]", **options: Any) -> list[Any]:
    tensor = module.InferInput("X", list(batch.shape), "FP32")
    tensor.set_data_from_numpy(batch, **options)
    return [tensor]


def _outputs(module: Any, **options: Any) -> list[Any]:
    return [module.InferRequestedOutput(name, **options) for name in ("label", "probabilities")]


def _answer(result: Any) -> dict[str, Any]:
    label, probabilities = result.as_numpy("label"), result.as_numpy("probabilities")
    response = result.get_response()
    version = response["model_version"] if isinstance(response, dict) else response.model_version
    return {
        "label": label.tolist(),
        "label_type": str(label.dtype),
        "probabilities_type": str(probabilities.dtype),
        "shape": list(probabilities.shape),
        "sums": probabilities.sum(axis=1).tolist(),
        "version": version,
    }


def _failure(call: Any) -> dict[str, str]:
    try:
        call()
    except InferenceServerException as error:
        return {"status": str(error.status()), "message": str(error.message())}
    return {"status": "", "message": "it succeeded"}


def grpc_run(gateway: str, batch: Any) -> dict[str, Any]:
    """Everything of the protocol that the mesh serves, over gRPC."""
    with over_grpc.InferenceServerClient(gateway) as client:
        client.register_plugin(_KeyBearer())
        metadata = client.get_model_metadata("digits", client_timeout=_TIMEOUT_S)
        return {
            "live": client.is_server_live(client_timeout=_TIMEOUT_S),
            "ready": client.is_server_ready(client_timeout=_TIMEOUT_S),
            "model_ready": client.is_model_ready("digits", client_timeout=_TIMEOUT_S),
            "other_ready": client.is_model_ready("no-such-model", client_timeout=_TIMEOUT_S),
            "inputs": {item.name: [item.datatype, list(item.shape)] for item in metadata.inputs},
            "outputs": {item.name: [item.datatype, list(item.shape)] for item in metadata.outputs},
            "versions": sorted(metadata.versions),
            "default": _answer(client.infer("digits", _inputs(over_grpc, batch), client_timeout=_TIMEOUT_S)),
            "named": _answer(
                client.infer(
                    "digits",
                    _inputs(over_grpc, batch),
                    model_version="v1.1.0",
                    outputs=_outputs(over_grpc),
                    request_id="mine",
                    client_timeout=_TIMEOUT_S,
                )
            ),
            "request_id": client.infer("digits", _inputs(over_grpc, batch), request_id="mine").get_response().id,
            "unknown_model": _failure(lambda: client.infer("no-such-model", _inputs(over_grpc, batch))),
            "bad_shape": _failure(lambda: client.infer("digits", _inputs(over_grpc, batch[:, :7].copy()))),
        }


def http_run(gateway: str, batch: Any) -> dict[str, Any]:
    """The same over HTTP, with tensors as bytes and as JSON."""
    with over_http.InferenceServerClient(gateway, connection_timeout=_TIMEOUT_S, network_timeout=_TIMEOUT_S) as client:
        client.register_plugin(_KeyBearer())
        metadata = client.get_model_metadata("digits")
        return {
            "live": client.is_server_live(),
            "ready": client.is_server_ready(),
            "model_ready": client.is_model_ready("digits"),
            "other_ready": client.is_model_ready("no-such-model"),
            "inputs": {item["name"]: [item["datatype"], item["shape"]] for item in metadata["inputs"]},
            "outputs": {item["name"]: [item["datatype"], item["shape"]] for item in metadata["outputs"]},
            "versions": sorted(metadata["versions"]),
            "default": _answer(client.infer("digits", _inputs(over_http, batch))),
            "named": _answer(
                client.infer(
                    "digits",
                    _inputs(over_http, batch, binary_data=False),
                    model_version="v1.1.0",
                    outputs=_outputs(over_http, binary_data=False),
                )
            ),
            "mixed": _answer(
                client.infer("digits", _inputs(over_http, batch), outputs=_outputs(over_http, binary_data=False))
            ),
            "request_id": client.infer("digits", _inputs(over_http, batch), request_id="mine").get_response()["id"],
            "unknown_model": _failure(lambda: client.infer("no-such-model", _inputs(over_http, batch))),
            "bad_shape": _failure(lambda: client.infer("digits", _inputs(over_http, batch[:, :7].copy()))),
        }


def main() -> None:
    """Takes the protocol and the gateway as arguments and the pixels as JSON on standard input."""
    protocol, gateway = sys.argv[1:]
    batch = np.array(json.load(sys.stdin), dtype=np.float32)
    run = {"grpc": grpc_run, "http": http_run}[protocol]
    json.dump(run(gateway, batch), sys.stdout)


if __name__ == "__main__":
    main()
