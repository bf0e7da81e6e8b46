"""A prediction as plain JSON, as the REST contract states it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import orjson

from services.batcher.domain.explained import Explanation
from services.batcher.domain.instances import ROWS_MAX, Row
from services.batcher.domain.outputs import OutputPlan, Scores, float_rows, single_precision
from services.batcher.domain.request import InferResult, Parameter, Tensor
from services.batcher.domain.schema_check import short_name
from services.common.errors import MeshError, Reason, invalid, shown
from services.common.schema import DataType

TIMEOUT_MS_MAX = 2**32 - 1
_FIELDS = ("version", "instances", "parameters", "timeout_ms", "explain", "request_id")
_EXAMPLE = 'an object such as {"instances": [{"feature1": 0.5}]}'
_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS


@dataclass(slots=True)
class JsonRequest:
    """A request of the REST contract."""

    instances: Sequence[Row]
    version: str = ""
    parameters: tuple[tuple[str, Parameter], ...] = ()
    timeout_ms: float = 0.0
    """0: none stated."""
    explain: bool = False
    request_id: str = ""


def read(body: bytes) -> JsonRequest:
    """The request. Raises MALFORMED_BODY where the body is no such object, INVALID_FIELD where a field is wrong."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MeshError(Reason.MALFORMED_BODY, f"the body is no JSON: {error}; send {_EXAMPLE}") from None
    if not isinstance(document, dict):
        raise MeshError(Reason.MALFORMED_BODY, f"the body is {shown(document, length_max=60)}; send {_EXAMPLE}")
    request = JsonRequest(_instances(document.get("instances")))
    if len(document) > 1:
        _read_options(document, request)
    return request


def check_rows(count: int) -> int:
    """`count` itself. Raises INVALID_FIELD outside 1 to 65536."""
    if not 1 <= count <= ROWS_MAX:
        raise invalid("instances", f"{count} instances", f"1 to {ROWS_MAX}; larger work is for batch jobs")
    return count


def _instances(value: object) -> Sequence[Row]:
    if not isinstance(value, list) or not value:
        raise invalid("instances", value, "a list of 1 or more objects, each with one key for every feature")
    check_rows(len(value))
    for place, item in enumerate(value):
        if type(item) is not dict:
            raise invalid(f"instances[{place}]", item, "an object with one key for every feature")
    return cast("Sequence[Row]", value)


def _read_options(document: Mapping[str, object], request: JsonRequest) -> None:
    for name in document:
        if name not in _FIELDS:
            raise invalid(short_name(name), document[name], f"one of {', '.join(_FIELDS)}")
    # null is the same as leaving a field out; other values of the wrong type are not.
    given = {name: value for name, value in document.items() if value is not None}
    version, request_id = given.get("version", ""), given.get("request_id", "")
    if not isinstance(version, str):
        raise invalid("version", version, 'a text such as "v2.1.0"')
    if not isinstance(request_id, str):
        raise invalid("request_id", request_id, "a text of at most 128 characters")
    timeout_ms, explain = given.get("timeout_ms", 0), given.get("explain", False)
    if isinstance(timeout_ms, bool) or not isinstance(timeout_ms, int | float) or not 0 <= timeout_ms <= TIMEOUT_MS_MAX:
        raise invalid("timeout_ms", timeout_ms, "milliseconds, 0 or more")
    if not isinstance(explain, bool):
        raise invalid("explain", explain, "true or false")
    request.version, request.request_id = version, request_id
    request.timeout_ms, request.explain = timeout_ms, explain
    if "parameters" in given:
        request.parameters = _parameters(given["parameters"])


def _parameters(value: object) -> tuple[tuple[str, Parameter], ...]:
    if not isinstance(value, dict):
        raise invalid("parameters", value, "an object")
    for name, item in value.items():
        if not isinstance(item, str | int | float | bool):
            raise invalid(f"parameters.{short_name(name)}", item, "a text, a number, true or false")
    return tuple(sorted(value.items()))


def write(
    plan: OutputPlan,
    result: InferResult,
    scores: Scores | None,
    *,
    latency_ms: float,
    request_id: str,
    explanations: Sequence[Explanation] = (),
) -> bytes:
    """The answer, with the explanation of each prediction where there are any.

    Single-precision numbers are printed with the digits that they have. Raises ValueError or struct.error where the
    model's output is not what its schema says.
    """
    output = next(tensor for tensor in result.outputs if tensor.name == plan.output)
    values = float_rows(output)
    predictions: list[dict[str, object]] = []
    if scores is None:
        for value in values:
            label = plan.label(value)
            predictions.append({"output": value, "class": label} if label else {"output": value})
    else:
        width = len(scores.probabilities[0])
        names = plan.class_names if len(plan.class_names) == width else [plan.class_name(at) for at in range(width)]
        printed = _printed(result, plan, scores)
        for row, (value, index) in enumerate(zip(values, scores.classes, strict=True)):
            probabilities = printed[row * width : (row + 1) * width]
            predictions.append(
                {
                    "output": value,
                    "confidence": probabilities[index],
                    "class": names[index],
                    "probabilities": dict(zip(names, probabilities, strict=True)),
                }
            )
    if explanations:
        for prediction, one in zip(predictions, explanations, strict=True):
            prediction["explanation"], prediction["explanation_baseline"] = one.values, one.baseline
    served = plan.served
    answer = {
        "predictions": predictions,
        "model_name": served.model_name,
        "model_version": served.version,
        "latency_ms": round(latency_ms, 3),
        "request_id": request_id,
    }
    return orjson.dumps(answer, option=_OPTIONS, default=_other)


def _printed(result: InferResult, plan: OutputPlan, scores: Scores) -> Sequence[object]:
    tensor: Tensor = next(item for item in result.outputs if item.name == plan.probabilities)
    if tensor.data_type is DataType.FP64:
        return [value for row in scores.probabilities for value in row]
    return single_precision(tensor.data_type, tensor.data)


def _other(value: object) -> object:
    if isinstance(value, bytes):  # text was decoded before: these are bytes that no JSON text can hold
        return base64.b64encode(value).decode()
    raise TypeError(f"{type(value).__name__} has no JSON form")
