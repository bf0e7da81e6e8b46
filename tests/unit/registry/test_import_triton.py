"""Model repositories of Triton, and their configurations."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.adapters.import_tree import LocalTree
from services.registry.adapters.triton_repository import TritonRepository
from services.registry.adapters.triton_repository_config import messages_of, parse_config, text_of
from services.registry.domain.artifacts import MESH
from services.registry.domain.imports import FoundVersion
from tests.support.registry_onnx import model

CONFIG = """
name: "scorer"  # a comment
backend: 'pytorch'
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] }, { name: "kind", data_type: TYPE_STRING, dims: [ -1, 2 ] } ]
output { name: "score" "s" data_type: TYPE_FP64 dims: 1 }
parameters: { key: "a" value: { string_value: "b \\"c\\"" } }
"""


def write(folder: Path, files: dict[str, bytes]) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


@pytest.fixture
def repository(tmp_path: Path) -> TritonRepository:
    onnx = model().SerializeToString()
    write(
        tmp_path,
        {
            "flowers/config.pbtxt": b'platform: "onnxruntime_onnx"',
            "flowers/1/model.onnx": onnx,
            "flowers/10/model.onnx": onnx,
            "flowers/2/model.onnx": onnx,
            "flowers/2/labels.txt": b"a",
            "flowers/notes/readme": b"",
            "scorer/config.pbtxt": CONFIG.encode(),
            "scorer/1/model.pt": b"",
            "Bare/1/thing.json": b"{}",
            "saved/config.pbtxt": b'platform: "tensorflow_savedmodel"',
            "saved/3/model.savedmodel/saved_model.pb": b"",
            "both/config.pbtxt": b'platform: "ensemble"',
            "both/1/empty": b"",
            "broken/config.pbtxt": b"name: { [",
            "broken/1/model.onnx": onnx,
        },
    )
    return TritonRepository(LocalTree(tmp_path))


async def found(repository: TritonRepository, prefix: str = "") -> dict[str, FoundVersion]:
    return {one.source_name: one async for one in repository.versions(prefix)}


async def test_every_version_of_every_model_is_found(repository: TritonRepository, tmp_path: Path) -> None:
    versions = await found(repository)
    assert [name for name in versions if name.startswith("flowers")] == ["flowers/1", "flowers/2", "flowers/10"]
    assert versions["flowers/10"].version == "v10.0.0"
    assert versions["Bare/1"].model_name == "bare"
    assert "ensemble" in versions["both/1"].problem
    assert "config.pbtxt" in versions["broken/1"].problem
    assert set(await found(repository, "sc")) == {"scorer/1"}
    for name, place in (
        ("flowers/2", "flowers/2/model.onnx"),
        ("Bare/1", "Bare/1/thing.json"),
        ("saved/3", "saved/3/model.savedmodel"),
    ):
        assert await repository.artifact_uri(versions[name], sender=MESH) == (tmp_path / place).as_uri()


async def test_the_tensors_of_a_configuration_stand_in_for_what_torchscript_does_not_say(
    repository: TritonRepository,
) -> None:
    versions = await found(repository)
    assert versions["flowers/1"].schema is None
    assert versions["scorer/1"].schema == ModelSchema(
        (TensorSpec("x", DataType.FP32, (4,)), TensorSpec("kind", DataType.BYTES, (-1, 2))),
        (TensorSpec("scores", DataType.FP64, (1,)),),
    )


def test_links_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path, {"secret/1/model.onnx": b"", "repo/real/1/model.onnx": b""})
    (tmp_path / "repo" / "linked").symlink_to(tmp_path / "secret")
    (tmp_path / "repo" / "real" / "config.pbtxt").symlink_to("/etc/hostname")
    tree = LocalTree(tmp_path / "repo")
    assert tree.names("") == ["real/"]
    with pytest.raises(MeshError):
        tree.read("real/config.pbtxt", 100)


def test_a_configuration_is_read_as_text_format() -> None:
    config = parse_config(CONFIG.encode())
    assert (text_of(config, "name"), text_of(config, "backend"), text_of(config, "absent")) == ("scorer", "pytorch", "")
    assert [text_of(one, "name") for one in messages_of(config, "input")] == ["x", "kind"]
    value = messages_of(messages_of(config, "parameters")[0], "value")[0]
    assert text_of(value, "string_value") == 'b "c"'


@pytest.mark.parametrize("text", ["{", "a: [", 'a: "', "a: }", ": 1", "a { b: 1", "a: {" * 100, "a: <" * 40])
def test_what_is_no_text_format_is_refused(text: str) -> None:
    with pytest.raises(MeshError) as caught:
        parse_config(text.encode())
    assert caught.value.reason is Reason.ARTIFACT_INVALID


@given(st.text(alphabet="ab{}[]<>:;,\" '\\\n#1", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    refusals = []
    try:
        parse_config(text.encode())
    except MeshError as error:
        refusals.append(error.reason)
    assert refusals in ([], [Reason.ARTIFACT_INVALID])
