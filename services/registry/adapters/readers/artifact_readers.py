"""Which kind an artifact is, and what it states."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO, Protocol

from services.registry.adapters.readers.contents import Contents, opened
from services.registry.adapters.readers.known import known
from services.registry.adapters.readers.lightgbm_text import LightgbmReader
from services.registry.adapters.readers.mlflow_folder import MlflowReader
from services.registry.adapters.readers.onnx_model import OnnxModelReader
from services.registry.adapters.readers.pickles import PickleReader
from services.registry.adapters.readers.python_model import PythonReader
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.readers.saved_model import SavedModelReader
from services.registry.adapters.readers.skops_file import SkopsReader
from services.registry.adapters.readers.torch_zip import TorchExportReader, TorchPickleReader, TorchScriptReader
from services.registry.adapters.readers.xgboost_file import XgboostReader
from services.registry.domain.frameworks import Understood, no_reader, refused
from services.registry.domain.version import Artifact
from services.registry.ports import ArtifactStore

_READS_MAX = 2
"""Artifacts that are looked into at one time: it is work of the processor."""
_CANDIDATES_MAX = 64
"""Files of a folder that are looked at to find the one that is the model."""


class FormatReader(Protocol):
    """Reads one kind of artifact."""

    form: str
    """What it is, for sentences: "an ONNX file"."""

    def why_not(self, contents: Contents) -> str:
        """Why it is not of this kind, as "no … (…)"; empty where it is. May raise RefusedError."""
        ...

    def read(self, contents: Contents) -> Understood:
        """What one of this kind states. Raises RefusedError."""
        ...


class ArtifactReaders:
    """An `ArtifactReader` of every kind that is known."""

    def __init__(self, store: ArtifactStore) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(_READS_MAX)

    async def read(self, artifact: Artifact) -> Understood:
        """What the artifact is, read off the event loop."""
        async with self._turns:
            with await self._store.open(artifact.digest) as stream:
                return await asyncio.to_thread(read_artifact, stream, artifact)


def read_artifact(stream: BinaryIO, artifact: Artifact) -> Understood:
    """What the artifact that `stream` holds is and states. Raises ARTIFACT_INVALID. Blocking."""
    form = "a model"
    try:
        with opened(stream, artifact) as contents:
            reader, found, why_not = _recognised(contents)
            if reader is None:
                raise no_reader(artifact, why_not)
            form = reader.form
            return found if found is not None else reader.read(contents)
    except RefusedError as error:
        raise refused(artifact, form, error.problem, error.advice) from error
    except (RecursionError, OverflowError, MemoryError) as error:
        raise refused(artifact, form, "it nests or counts beyond all measure", "save the model again") from error


def _readers() -> Sequence[FormatReader]:
    """In the order in which they are asked: what says most of itself first."""
    inner: Sequence[FormatReader] = (
        SavedModelReader(),
        TorchScriptReader(),
        TorchExportReader(),
        SkopsReader(),
        TorchPickleReader(),
        XgboostReader(),
        LightgbmReader(),
        PickleReader(),
        OnnxModelReader(),
        PythonReader(),
    )
    return (MlflowReader(_inside), *inner)


def _recognised(contents: Contents) -> tuple[FormatReader | None, Understood | None, Sequence[str]]:
    """The reader of an artifact, what it found if it was asked already, and why the others are not it."""
    reader, why_not = _first(contents)
    if reader is not None or not contents.packed:
        return reader, None, why_not
    if len(contents.files) > _CANDIDATES_MAX:
        return None, None, [*why_not, f"and more than {_CANDIDATES_MAX} files to find a model among"]
    found: list[tuple[str, FormatReader, Contents]] = []
    for path in contents.files:
        alone = contents.single(path)
        inner = _first(alone)[0] if alone is not None else None
        if inner is not None and alone is not None:
            found.append((path, inner, alone))
    if len(found) > 1:
        paths = ", ".join(path for path, _, _ in found)[:300]
        raise RefusedError(f"it holds several models ({paths})", "register each by itself")
    if not found:
        return None, None, [*why_not, "and none of its files is a model by itself"]
    path, inner, alone = found[0]
    return inner, replace(inner.read(alone), model_path=path), ()


def _first(contents: Contents) -> tuple[FormatReader | None, Sequence[str]]:
    kind = known(contents)
    if kind is not None:
        raise RefusedError(f"it is {kind.form}", kind.advice)
    why_not: list[str] = []
    for reader in _readers():
        why = reader.why_not(contents)
        if not why:
            return reader, ()
        why_not.append(why)
    return None, why_not


def _inside(contents: Contents) -> Understood:
    """What lies in an MLflow folder, which may be no such folder itself."""
    reader, found, why_not = _recognised(contents)
    if isinstance(reader, MlflowReader):
        raise RefusedError("it holds an MLflow folder within one", "register the inner one")
    if reader is None:
        raise RefusedError("the model that its MLmodel names is of no kind that is known: " + "; ".join(why_not))
    return found if found is not None else reader.read(contents)
