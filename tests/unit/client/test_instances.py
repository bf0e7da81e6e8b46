"""Instances out of what people type, and precise words when it is none."""

import io
from pathlib import Path

import pytest
import typer
from infermesh.client.cli.instances import parse_instances, read_instances


@pytest.mark.parametrize(
    "text",
    [
        '{"x": 1}',
        '[{"x": 1}]',
        '{"version": "v1.0.0", "instances": [{"x": 1}]}',
        '{"x": 1}\n',
    ],
)
def test_one_instance(text: str) -> None:
    assert parse_instances(text, "it") == [{"x": 1}]


def test_json_lines() -> None:
    assert parse_instances('{"x": 1}\n\n{"x": 2}\n', "it") == [{"x": 1}, {"x": 2}]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("[]", "an empty array"),
        ("5", "a number"),
        ("[1]", "instance 0 of it is a number"),
        ('[{"x": 1}, null]', "instance 1 of it is null"),
        ('{"x": }', "line 1, column 7"),
        ('{\n "x": 1,\n}', "line 3, column 1"),
        ('{"x": 1}\n{"x": \n', "line 2, column 7"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(typer.BadParameter, match=words):
        parse_instances(text, "it")


def test_files_arguments_and_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "instances.jsonl"
    file.write_text('{"x": 1}\n{"x": 2}\n')
    assert len(read_instances(None, file)) == 2
    assert len(read_instances(f"@{file}", None)) == 2
    assert read_instances('{"x": 3}', None) == [{"x": 3}]
    for argument, path in (("-", None), (None, Path("-")), (None, None)):
        monkeypatch.setattr("sys.stdin", io.StringIO('{"x": 4}'))
        assert read_instances(argument, path) == [{"x": 4}]


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"cannot read .*gone.json: no such file"):
        read_instances(None, tmp_path / "gone.json")
    binary = tmp_path / "model.onnx"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(typer.BadParameter, match="not UTF-8"):
        read_instances(None, binary)
    with pytest.raises(typer.BadParameter, match="not both"):
        read_instances("{}", binary)
