"""Named bad inputs at a whole mesh: each is refused with the field and the rule, and leaves nothing behind."""

import gzip
import io
import json
import secrets
import tarfile
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.driving import MODEL, Rest, reason, registration, violations
from tests.support.fuzz_checks import CALL_TIMEOUT_S, given_away
from tests.support.mesh import Mesh

JSON = {"content-type": "application/json"}
BYTES = {"content-type": "application/octet-stream"}
PREDICT = f"/v1/models/{MODEL}/predict"
DEEP = 2000


@pytest.fixture(scope="module")
def rest(mesh: Mesh) -> Iterator[Rest]:
    made = Rest(mesh.gateway, mesh.key)
    yield made
    made.close()


@pytest.fixture
def name() -> str:
    """What no model is called."""
    return f"refused-{secrets.token_hex(4)}"


def refused(rest: Rest, path: str, content: str | bytes, *, status: int = 400, **options: Any) -> dict[str, Any]:
    """The error body of a POST that must be refused, in time and without a word of the inside."""
    began_s = time.monotonic()
    error = rest.refused(status, "POST", path, content=content, **{"headers": JSON, **options})
    assert time.monotonic() - began_s < CALL_TIMEOUT_S
    sent = content if isinstance(content, str) else content[:1000].decode(errors="replace")
    assert given_away(json.dumps(error), sent=sent) == ""
    return error


def absent(rest: Rest, name: str) -> None:
    """Nothing of a refused registration is there."""
    assert reason(rest.refused(404, "GET", f"/v1/models/{name}")) == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("name", "", "1 to 63 of a-z"),
        ("name", "Capital", "1 to 63 of a-z"),
        ("name", "../../etc/passwd", "1 to 63 of a-z"),
        ("name", "a--b", "without '--'"),
        ("name", "a" * 64, "1 to 63 of a-z"),
        ("name", "e\u0301", "1 to 63 of a-z"),
        ("name", "\u202edohtem", "1 to 63 of a-z"),
        ("name", "'; DROP TABLE models; --", "1 to 63 of a-z"),
        ("name", "model\n", "1 to 63 of a-z"),
        ("name", "model\0", "without the character U+0000"),
        ("version", "", "a semantic version"),
        ("version", "latest", "a semantic version"),
        ("version", "v1", "a semantic version"),
        ("version", "v01.0.0", "a semantic version"),
        ("version", "v1.0.0+build", "without build metadata"),
        ("version", "v9999999999.0.0", "a semantic version"),
        ("version", "v1.0.0-" + "a" * 100, "at most 64 characters"),
        ("version", "v1.0.0' OR '1'='1", "a semantic version"),
        ("artifact_uri", "", "required"),
        ("artifact_uri", "../model.onnx", "an absolute path"),
        ("artifact_uri", "http://169.254.169.254/latest/meta-data", "an absolute path"),
        ("artifact_uri", "ftp://host/model.onnx", "an absolute path"),
        ("artifact_uri", "file://elsewhere/model.onnx", "an absolute path"),
        ("artifact_uri", "s3://", "s3://bucket/key"),
        ("artifact_uri", "s3:///key", "s3://bucket/key"),
        ("artifact_uri", "s3://bucket", "s3://bucket/key"),
        ("artifact_uri", "s3://bucket/../../key", "without empty parts"),
        ("artifact_uri", "gs://UPPER/key", "lower-case"),
        ("artifact_uri", "file:///" + "a" * 5000, "at most 2048 characters"),
        ("artifact_uri", "file:///model\0.onnx", "without the character U+0000"),
        ("input_schema", {"x": {"$ref": "file:///etc/passwd"}}, "in place of a reference"),
        ("input_schema", {"x": {"type": "string", "pattern": "(a+)+$"}}, "enum"),
        ("input_schema", {"x": "array<" * 200}, '"string"'),
        ("input_schema", {"x": "float", "nul\0": "float"}, "without the character U+0000"),
        ("metadata", {"note": "nul\0"}, "without the character U+0000"),
    ],
)
def test_a_field_is_refused_by_name_with_the_rule(rest: Rest, name: str, field: str, value: Any, rule: str) -> None:
    error = refused(rest, "/v1/models", json.dumps({**registration(name, "v1.0.0"), field: value}))
    assert reason(error) == "INVALID_FIELD"
    found = violations(error)
    assert [one for one in found if one == field or one.startswith(f"{field}.")], found
    assert rule in " ".join(found.values())
    absent(rest, name)


@pytest.mark.parametrize(
    ("what", "content", "word"),
    [
        ("a field twice", '{"name": "a", "name": "b"}', "name stands twice"),
        ("a field in both spellings", '{"artifact_uri": "a", "artifactUri": "b"}', "stands twice"),
        ("a key of plain JSON twice", '{"metadata": {"a": 1, "a": 2}}', "'a' is already set"),
        ("a field that nobody knows", '{"nickname": "a"}', "unknown field nickname"),
        ("half a surrogate pair", '{"name": "\\ud800"}', "surrogate"),
        ("bytes that are no UTF-8", b'{"name": "\xff\xfe"}', "UTF-8"),
        ("another encoding", '{"name": "a"}'.encode("utf-16"), "UTF-8"),
        ("half a document", '{"name": ', "end of string"),
        ("a list", "[]", "message"),
        ("nothing", "null", "message"),
        ("objects in objects", '{"metadata":' + '{"a":' * DEEP + "1" + "}" * DEEP + "}", "too deep"),
        ("lists in lists", '{"metadata":{"a":' + "[" * DEEP + "]" * DEEP + "}}", "too deep"),
        (
            "lists that JSON allows and messages do not",
            '{"metadata":{"a":' + "[" * 60 + "]" * 60 + "}}",
            "nested deeper",
        ),
    ],
)
def test_json_that_is_not_taken_is_refused_with_what_is_wrong(rest: Rest, what: str, content: Any, word: str) -> None:
    error = refused(rest, "/v1/models", content)
    assert reason(error) == "MALFORMED_BODY", what
    assert word in error["message"], what


@pytest.mark.parametrize(
    ("content", "why", "word"),
    [
        ('{"instances": [{"X": 1}], "instances": [{"X": 2}]}', "INVALID_FIELD", "stands twice"),
        ('{"instances": [{"X": 1, "X": 2}]}', "INVALID_FIELD", "stands twice"),
        ('{"instances": [{"X": [1e999]}]}', "MALFORMED_BODY", "infinity"),
        ('{"instances": [{"X": [NaN]}]}', "MALFORMED_BODY", "JSON"),
        ('{"instances": [{"\\ud800": 1}]}', "MALFORMED_BODY", "surrogate"),
        ('{"instances": ' + "[" * 100_000 + "]" * 100_000 + "}", "MALFORMED_BODY", "depth"),
        ('{"instances": [{"X": 1}], "timeout_ms": -1}', "INVALID_FIELD", "0 to 4294967295"),
        ('{"instances": []}', "INVALID_FIELD", "1 or more"),
    ],
)
def test_a_prediction_that_is_not_taken_is_refused_with_what_is_wrong(
    rest: Rest, content: str, why: str, word: str
) -> None:
    error = refused(rest, PREDICT, content)
    assert reason(error) == why
    assert word in json.dumps(error)


@pytest.mark.parametrize("value", ["99999999999999999999", "1.5", '"many"', "-1", "1e400", "1001"])
def test_numbers_beyond_their_range_are_refused_by_the_fields_name(rest: Rest, value: str) -> None:
    error = refused(rest, "/v1/models:search", f'{{"page_size": {value}}}')
    assert "page_size" in error["message"] or "infinity" in error["message"] or "number" in error["message"], error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("input_schema", {f"feature_{number}": "float" for number in range(400_000)}),
        ("input_schema", {"x": {"type": "string", "enum": ["v" * 100] * 95_000}}),
        ("metadata", {"x": "a" * 10_000_000}),
    ],
)
def test_ten_megabytes_of_schema_are_refused_with_the_bound_while_others_are_answered(
    rest: Rest, name: str, field: str, value: Any
) -> None:
    error = refused(rest, "/v1/models", json.dumps({**registration(name, "v1.0.0"), field: value}))
    assert "1048576" in violations(error)[field]
    absent(rest, name)


def test_more_than_twelve_megabytes_are_refused_with_the_limit(rest: Rest) -> None:
    error = refused(rest, "/v1/models", b'{"name": "' + b"a" * 13_000_000 + b'"}', status=413)
    assert reason(error) == "MESSAGE_TOO_LARGE"
    assert "12 MB" in error["message"]


def archive(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "", count: int = 1) -> bytes:
    """A tar.gz with entries of that name."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for _ in range(count):
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = kind, link
            tar.addfile(entry)
    return packed.getvalue()


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (archive("../../escape"), "leads out of the folder"),
        (archive("/etc/evil"), "absolute path"),
        (archive("a\\..\\..\\b"), "backslash"),
        (archive("link", kind=tarfile.SYMTYPE, link="/etc/passwd"), "is a link"),
        (archive("link", kind=tarfile.LNKTYPE, link="../../etc/passwd"), "is a hard link"),
        (archive("device", kind=tarfile.CHRTYPE), "is a device"),
        (archive("pipe", kind=tarfile.FIFOTYPE), "m.tar.gz"),
        (archive("same", count=2), "same"),
        (gzip.compress(b"\0" * 300_000_000, 1), "times its size"),
    ],
    # Archives hold the second of their making, which must not be part of a test's name.
    ids=["up", "absolute", "backslash", "link", "hard link", "device", "pipe", "twice", "bomb"],
)
def test_an_archive_that_would_do_harm_is_refused_with_its_entry(rest: Rest, content: bytes, rule: str) -> None:
    error = refused(rest, "/v1/artifacts", content, params={"filename": "m.tar.gz"}, headers=BYTES)
    assert reason(error) == "ARTIFACT_INVALID"
    assert rule in error["message"]


@pytest.mark.parametrize("filename", ["../../etc/x", "a/b.onnx", "a\0.onnx", "a\n.onnx", "a" * 5000])
def test_a_file_is_refused_by_a_name_that_leads_elsewhere(rest: Rest, filename: str) -> None:
    error = refused(rest, "/v1/artifacts", b"bytes", params={"filename": filename}, headers=BYTES)
    assert list(violations(error)) == ["filename"]


@pytest.mark.parametrize(
    "path",
    ["/v1/models/%2e%2e%2f%2e%2e%2fetc", "/v1/models/'%3B%20DROP%20TABLE%20models%3B--", "/v1/models/%F0%9F%98%80"],
)
def test_what_is_no_name_in_a_path_is_refused_as_what_is_not_there(rest: Rest, path: str) -> None:
    answer = rest.call("GET", path)
    assert answer.status_code in (400, 404), answer.text
    assert given_away(answer.text, sent=path) == ""


def test_the_mesh_is_well_afterwards(mesh: Mesh, rest: Rest) -> None:
    assert mesh.complete()
    assert rest.predict({"instances": [mesh.samples[0]["instance"]]})["model_name"] == MODEL
