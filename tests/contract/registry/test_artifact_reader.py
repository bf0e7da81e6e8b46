"""What every `ArtifactReader` promises: the tensors of a model, or why it is none."""

import hashlib
from pathlib import Path

import pytest

from services.common.errors import MeshError, Reason
from services.registry.adapters.readers.artifact_readers import ArtifactReaders
from services.registry.domain.artifact_uri import ArtifactPlace
from services.registry.ports import ArtifactReader
from tests.support.clock import FakeClock
from tests.support.registry_fakes import STATED, FakeReader, MemoryArtifactStore
from tests.support.registry_onnx import model

FLOWERS = model().SerializeToString()
BROKEN = b"not a model"


class FolderStore(MemoryArtifactStore):
    """Files by their digest in one folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(FakeClock(), {"/flowers.onnx": FLOWERS, "/broken.onnx": BROKEN})
        self._folder = folder
        for content in self.files.values():
            (folder / hashlib.sha256(content).hexdigest()).write_bytes(content)

    def path_of(self, digest: str) -> str:
        return str(self._folder / digest)


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path)


@pytest.fixture(params=["fake", "real"])
def reader(request: pytest.FixtureRequest, store: FolderStore) -> ArtifactReader:
    return ArtifactReaders(store) if request.param == "real" else FakeReader(hashlib.sha256(BROKEN).hexdigest())


async def test_a_model_states_its_tensors(reader: ArtifactReader, store: FolderStore) -> None:
    seen = await reader.read(await store.keep(ArtifactPlace(path="/flowers.onnx")))
    assert (seen.framework, seen.form, seen.stated, seen.unsafe) == ("onnx", "an ONNX file", STATED, "")


async def test_what_is_no_model_is_refused_by_its_name(reader: ArtifactReader, store: FolderStore) -> None:
    with pytest.raises(MeshError) as caught:
        await reader.read(await store.keep(ArtifactPlace(path="/broken.onnx")))
    assert caught.value.reason is Reason.ARTIFACT_INVALID
    assert "broken.onnx" in caught.value.message
