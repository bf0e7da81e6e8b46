"""What the contracts cannot say of the REST API: bodies that are plain JSON, the Open Inference Protocol's own REST
form, health, the one error body, and which paths are open to everybody.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TypeAlias

Json: TypeAlias = "dict[str, object]"
_REF = "#/components/schemas/"

TITLE: Json = {
    "title": "infermesh",
    "version": "v1",
    "description": "Machine-learning models in production: registry, deployments, traffic, predictions, batch jobs, "
    "monitoring and teams. Lists are paginated: page_size 0 means 50, at most 1000; page_token is the next_page_token "
    "of the page before.",
}

OPEN_PATHS = frozenset({"/v1/jwks.json", "/v1/openapi.json"})
"""Routes of contracts that need no credential."""

MEDIA_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "infermesh.registry.v1.TeamService.GetKeySet": "application/jwk-set+json",
        "infermesh.router.v1.RouterService.GetApiDescription": "application/json",
        "infermesh.monitor.v1.MonitorService.ExportTeamUsage": "text/csv",
    }
)
"""Of answers that are no messages; what is not here is bytes."""


def _ref(name: str) -> Json:
    return {"$ref": _REF + name}


JSON_BODIES: Mapping[str, tuple[Json, Json]] = MappingProxyType(
    {
        "infermesh.prediction.v1.PredictionService.PredictJson": (_ref("PredictBody"), _ref("PredictAnswer")),
    }
)
"""Methods whose body and answer are plain JSON, read by the service itself."""

_NUMBERS: Json = {"type": "object", "additionalProperties": {"type": "number"}}
_MODEL_NAME: Json = {
    "name": "model_name",
    "in": "path",
    "required": True,
    "description": "The model.",
    "schema": {"type": "string", "minLength": 1},
}
_VERSION: Json = {**_MODEL_NAME, "name": "version", "description": "The version, with or without its leading v."}

BESIDE_SCHEMAS: Mapping[str, Json] = MappingProxyType(
    {
        "Error": {
            "type": "object",
            "description": "What every refused call is answered with. Details are messages of google.rpc: an ErrorInfo "
            "with the reason; a BadRequest with the fields that are wrong and what is allowed there; a RetryInfo.",
            "required": ["code", "message", "details"],
            "properties": {
                "code": {"type": "integer", "minimum": 1, "maximum": 16, "description": "As google.rpc.Code."},
                "message": {"type": "string", "description": "What is wrong, and what to do about it."},
                "details": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["@type"],
                        "properties": {
                            "@type": {"type": "string"},
                            "reason": {"type": "string", "description": "As infermesh.common.v1.ErrorReason."},
                            "domain": {"type": "string"},
                            "metadata": {"type": "object", "additionalProperties": {"type": "string"}},
                            "field_violations": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "properties": {"field": {"type": "string"}, "description": {"type": "string"}},
                                },
                            },
                        },
                    },
                },
            },
        },
        "InferenceError": {
            "type": "object",
            "description": "What a refused call of the Open Inference Protocol is answered with.",
            "required": ["error"],
            "properties": {"error": {"type": "string"}, "reason": {"type": "string"}},
        },
        "PredictBody": {
            "type": "object",
            "required": ["instances"],
            "additionalProperties": False,
            "properties": {
                "instances": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": 65536,
                    "items": {"type": "object"},
                    "description": "One key for every feature of the version's input schema.",
                },
                "version": {"type": ["string", "null"], "description": "Default: what the traffic rules choose."},
                "parameters": {
                    "type": ["object", "null"],
                    "additionalProperties": {"type": ["string", "number", "boolean"]},
                    "description": "For the model.",
                },
                "timeout_ms": {"type": ["number", "null"], "minimum": 0, "maximum": 4294967295},
                "explain": {"type": ["boolean", "null"], "description": "True: with each feature's importance."},
                "request_id": {"type": ["string", "null"], "maxLength": 128},
            },
        },
        "PredictAnswer": {
            "type": "object",
            "required": ["predictions", "model_name", "model_version", "latency_ms", "request_id"],
            "properties": {
                "predictions": {"type": "array", "items": _ref("JsonPrediction")},
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "latency_ms": {"type": "number", "minimum": 0},
                "request_id": {"type": "string"},
            },
        },
        "JsonPrediction": {
            "type": "object",
            "properties": {
                "output": {"description": "A number, a text, or a list of them."},
                "confidence": {"type": "number"},
                "class": {"type": "string"},
                "probabilities": _NUMBERS,
                "explanation": {"type": "object"},
            },
        },
        "InferBody": {
            "type": "object",
            "description": "As the Open Inference Protocol has it; binary tensors follow the JSON document.",
            "required": ["inputs"],
            "properties": {
                "id": {"type": "string"},
                "parameters": {"type": "object"},
                "inputs": {"type": "array", "minItems": 1, "items": _ref("InferTensor")},
                "outputs": {"type": "array", "items": {"type": "object", "required": ["name"]}},
            },
        },
        "InferTensor": {
            "type": "object",
            "required": ["name", "shape", "datatype"],
            "properties": {
                "name": {"type": "string"},
                "shape": {"type": "array", "items": {"type": "integer", "minimum": 0}},
                "datatype": {"type": "string"},
                "parameters": {"type": "object"},
                "data": {"type": "array"},
            },
        },
        "InferAnswer": {
            "type": "object",
            "required": ["model_name", "outputs"],
            "properties": {
                "model_name": {"type": "string"},
                "model_version": {"type": "string"},
                "id": {"type": "string"},
                "outputs": {"type": "array", "items": _ref("InferTensor")},
            },
        },
    }
)

ERROR_RESPONSES: Mapping[str, Json] = MappingProxyType(
    {
        name: {
            "description": "Refused: 400 bad input, 401 and 403, 404, 409 conflict, 412 failed precondition, 429 with "
            "retry-after, 501 not built yet, 503 unavailable, 504 deadline.",
            "content": {"application/json": {"schema": _ref(schema)}},
        }
        for name, schema in (("Error", "Error"), ("InferenceError", "InferenceError"))
    }
)


def _beside(
    operation_id: str,
    summary: str,
    *,
    verb: str = "get",
    tag: str = "OpenInferenceProtocol",
    answer: Json,
    **more: object,
) -> Json:
    error = "InferenceError" if tag == "OpenInferenceProtocol" else "Error"
    return {
        verb: {
            "operationId": operation_id,
            "tags": [tag],
            "summary": summary,
            "responses": {
                "200": {"description": "The answer.", "content": {"application/json": {"schema": answer}}},
                "default": {"$ref": f"#/components/responses/{error}"},
            },
            **more,
        }
    }


def _infer(parameters: list[Json], suffix: str) -> Json:
    body = {"required": True, "content": {"application/json": {"schema": _ref("InferBody")}}}
    return _beside(
        f"ModelInfer{suffix}",
        "Predicts tensors",
        verb="post",
        answer=_ref("InferAnswer"),
        parameters=parameters,
        requestBody=body,
    )


_OBJECT: Json = {"type": "object"}
_ONE, _BOTH = [_MODEL_NAME], [_MODEL_NAME, _VERSION]
_OF_MODEL = "/v2/models/{model_name}"
_OF_VERSION = f"{_OF_MODEL}/versions/{{version}}"

BESIDE_PATHS: Mapping[str, Json] = MappingProxyType(
    {
        "/health": _beside("Health", "Whether the gateway lives", tag="Health", answer={}, security=[]),
        "/ready": _beside("Ready", "Whether the mesh can predict", tag="Health", answer={}, security=[]),
        "/v2": _beside("ServerMetadata", "Name, version and extensions of the server", answer=_OBJECT),
        "/v2/health/live": _beside("ServerLive", "Whether the server lives", answer=_OBJECT, security=[]),
        "/v2/health/ready": _beside("ServerReady", "Whether the server is ready", answer=_OBJECT, security=[]),
        _OF_MODEL: _beside("ModelMetadata", "A model's tensors", answer=_OBJECT, parameters=_ONE),
        _OF_VERSION: _beside("ModelMetadata_2", "A version's tensors", answer=_OBJECT, parameters=_BOTH),
        f"{_OF_MODEL}/ready": _beside("ModelReady", "Whether a model answers", answer=_OBJECT, parameters=_ONE),
        f"{_OF_VERSION}/ready": _beside("ModelReady_2", "Whether a version answers", answer=_OBJECT, parameters=_BOTH),
        f"{_OF_MODEL}/infer": _infer(_ONE, ""),
        f"{_OF_VERSION}/infer": _infer(_BOTH, "_2"),
    }
)
"""Paths that no contract has."""
