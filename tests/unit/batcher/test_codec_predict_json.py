"""The plain JSON of the REST contract: what is read, what is refused, what is written."""

import json
import math

import pytest

from services.batcher.codec import predict_json
from services.batcher.codec.json_wire import JsonWriter
from services.batcher.domain.instances import ROWS_MAX
from services.batcher.domain.outputs import OutputPlan
from services.batcher.domain.request import InferResult
from services.common.errors import MeshError, Reason
from services.common.schema import DataType, PredictionMapping, TensorSpec
from tests.support.batcher_faces_values import LABEL, answer, tensor_of, version_of


def read(**fields: object) -> predict_json.JsonRequest:
    return predict_json.read(json.dumps({"instances": [{"x": 1}], **fields}).encode())


def written(plan: OutputPlan, result: InferResult, rows: int) -> list[dict[str, object]]:
    def refuse(constant: str) -> float:
        raise AssertionError(f"{constant} is no JSON")

    body = JsonWriter(plan).response(result, plan.scores(result, rows), latency_ms=1.5, request_id="r1")
    document = json.loads(body, parse_constant=refuse)
    assert document["request_id"] == "r1"
    assert (document["model_name"], document["model_version"]) == ("digits", "v1.0.0")
    predictions: list[dict[str, object]] = document["predictions"]
    return predictions


def test_every_field_of_the_contract_is_read() -> None:
    request = read(
        version="v2.1.0",
        parameters={"top_k": 5, "temperature": 0.8, "greedy": True, "name": "x"},
        timeout_ms=1000,
        explain=True,
        request_id="req",
    )
    assert request.instances == [{"x": 1}]
    assert (request.version, request.timeout_ms, request.explain, request.request_id) == ("v2.1.0", 1000, True, "req")
    assert request.parameters == (("greedy", True), ("name", "x"), ("temperature", 0.8), ("top_k", 5))


def test_null_is_the_same_as_leaving_a_field_out() -> None:
    nulls = dict.fromkeys(("version", "parameters", "timeout_ms", "explain", "request_id"))
    assert read(**nulls) == read()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("version", 0),
        ("version", False),
        ("version", []),
        ("request_id", 7),
        ("request_id", {}),
        ("timeout_ms", -1),
        ("timeout_ms", True),
        ("timeout_ms", False),
        ("timeout_ms", "1000"),
        ("timeout_ms", ""),
        ("timeout_ms", 2**32),
        ("timeout_ms", 1e300),
        ("explain", 1),
        ("explain", 0),
        ("explain", "true"),
        ("parameters", []),
        ("parameters", ""),
        ("parameters", 0),
        ("parameters.a", {"a": None}),
        ("parameters.a", {"a": [1]}),
        ("instance", []),
        ("__proto__", 1),
    ],
)
def test_a_field_that_is_wrong_or_unknown_is_named(field: str, value: object) -> None:
    with pytest.raises(MeshError) as caught:
        read(**{field.partition(".")[0]: value})
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [item.field for item in caught.value.violations] == [field]
    assert "allowed" in caught.value.message


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b'{"instances": [{"x": NaN}]}',
        b'{"instances": [{"x": 1e999}]}',
        b"\xff",
        b"[" * 5000,
    ],
)
def test_a_body_that_is_no_object_of_json_is_malformed(body: bytes) -> None:
    with pytest.raises(MeshError) as caught:
        predict_json.read(body)
    assert caught.value.reason is Reason.MALFORMED_BODY


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"\x1f\x8b\x08 and so on", "compressed with gzip, which is not taken; send an object such as"),
        (b"{", "the body is no JSON: .*; send an object such as"),
        (b'{"instances": [{}], "timeout_ms": -5}', "timeout_ms is -5; allowed: 0 to 4294967295 milliseconds"),
        (
            json.dumps({"instances": [{}] * (ROWS_MAX + 1)}).encode(),
            "instances has 65537 of them; allowed: 1 to 65536;",
        ),
    ],
)
def test_a_refusal_says_what_is_allowed(body: bytes, words: str) -> None:
    with pytest.raises(MeshError, match=words):
        predict_json.read(body)


@pytest.mark.parametrize(
    ("instances", "field"),
    [
        (None, "instances"),
        ([], "instances"),
        ({}, "instances"),
        ("x", "instances"),
        ([{"x": 1}, 2], "instances[1]"),
        ([[1.0]], "instances[0]"),
        ([None], "instances[0]"),
        ([{}] * (ROWS_MAX + 1), "instances"),
    ],
)
def test_instances_are_one_or_more_objects(instances: object, field: str) -> None:
    with pytest.raises(MeshError) as caught:
        predict_json.read(json.dumps({"instances": instances}).encode())
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.violations[0].field == field


@pytest.mark.parametrize("rest", [{}, {"version": "v1.0.0"}, {"explain": None}])
def test_a_body_without_instances_says_that_they_are_missing(rest: object) -> None:
    with pytest.raises(MeshError, match="instances is missing; allowed: a list of 1 or more objects") as caught:
        predict_json.read(json.dumps(rest).encode())
    assert [item.field for item in caught.value.violations] == ["instances"]


@pytest.mark.parametrize("rest", [{}, {"version": "v1.0.0"}, {"instances": []}, {"instances": [{"x": 1}]}])
@pytest.mark.parametrize("name", ["instance", "inputs", "Instances", ""])
def test_an_unknown_field_is_named_first_whatever_else_is_there_or_wrong(name: str, rest: dict[str, object]) -> None:
    with pytest.raises(MeshError) as caught:
        predict_json.read(json.dumps({**rest, name: ["value"]}).encode())
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [item.field for item in caught.value.violations] == [name]
    for said in (f"{name} (here ['value']) is no field", "instances (a list of 1 or more objects", "request_id"):
        assert said in caught.value.message


def test_all_unknown_fields_are_named_up_to_a_bound() -> None:
    with pytest.raises(MeshError) as caught:
        read(**{f"x{place}": place for place in range(1000)})
    assert [item.field for item in caught.value.violations] == [f"x{place}" for place in range(8)]


@pytest.mark.parametrize("rows", [1, 2])
def test_what_is_no_number_is_null_and_the_answer_stays_json(rows: int) -> None:
    row = (math.nan, math.inf, 0.5)
    for prediction in written(OutputPlan(version_of()), answer([1] * rows, *[row] * rows), rows):
        assert prediction == {
            "output": 1,
            "confidence": None,
            "class": "one",
            "probabilities": {"zero": None, "one": None, "two": 0.5},
        }


@pytest.mark.parametrize("data_type", [DataType.FP16, DataType.BF16, DataType.FP32, DataType.FP64])
def test_outputs_that_are_no_numbers_are_null_in_every_precision(data_type: DataType) -> None:
    plan = OutputPlan(version_of(outputs=(TensorSpec("y", data_type, (3,)),), mapping=PredictionMapping()))
    result = InferResult((tensor_of("y", data_type, (1, 3), [math.nan, -math.inf, 0.5]),))
    assert written(plan, result, 1) == [{"output": [None, None, 0.5]}]


def test_a_class_name_of_any_letters_is_a_key() -> None:
    names = ('"quoted"', "ünï\n", "")
    plan = OutputPlan(version_of(mapping=PredictionMapping("label", "probabilities", names)))
    (prediction,) = written(plan, answer([0], (0.5, 0.25, 0.25)), 1)
    assert prediction["probabilities"] == dict(zip(names, (0.5, 0.25, 0.25), strict=True))


def test_more_probabilities_than_names_are_numbered() -> None:
    outputs = (LABEL, TensorSpec("probabilities", DataType.FP64, (-1,)))
    plan = OutputPlan(version_of(outputs=outputs, mapping=PredictionMapping("label", "probabilities", ("a",))))
    result = InferResult(
        (
            tensor_of("label", DataType.INT64, (1,), [1]),
            tensor_of("probabilities", DataType.FP64, (1, 2), [0.1, 0.9]),
        )
    )
    (prediction,) = written(plan, result, 1)
    assert prediction == {"output": 1, "confidence": 0.9, "class": "1", "probabilities": {"a": 0.1, "1": 0.9}}


@pytest.mark.parametrize(
    ("body", "key"),
    [
        (b'{"instances": [{"x": 1}], "instances": [{"x": 2}]}', "instances"),
        (b'{"instances": [{"x": 1, "x": 2}]}', "x"),
        (b'{"instances": [{"x": 1}, {"y:": ":", "y:": 2}]}', "y:"),
        (b'{"instances": [{"x": {"deep": 1, "deep": 2}}]}', "deep"),
        (b'{"instances": [{"x\\"": 1, "x\\"": 2}], "parameters": {"a" : ":"}}', 'x"'),
        (b'{"instances": [' + b'[{"a":' * 300 + b'{"k":1,"k":2}' + b"}]" * 300 + b"]}", "k"),
    ],
)
def test_a_key_that_stands_twice_is_refused_by_name(body: bytes, key: str) -> None:
    with pytest.raises(MeshError) as caught:
        predict_json.read(body)
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [(one.field, "allowed: once" in one.description) for one in caught.value.violations] == [(key, True)]


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [{"x": "a:b", "y": "\\":\\\\"}, {"x": ":", "y": ["\\"", ":"]}]}',
        b'{"instances": [{"x": {"x": {"x": 1}}}, {"x": 1}], "parameters": {"x": ":"}}',
        b'{"instances": [{"a": "k", "b": ":"}, {"a" : 12345678901234567890, "b":1e3}], "version": "v1.0.0"}',
    ],
)
def test_keys_that_stand_once_are_taken_whatever_the_texts_hold(body: bytes) -> None:
    assert len(predict_json.read(body).instances) == 2
