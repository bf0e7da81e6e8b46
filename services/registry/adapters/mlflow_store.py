"""MLflow's registry in a folder, as its file store writes it (mlruns): models, their versions, and the runs."""

import asyncio
import math
from collections.abc import AsyncIterator, Mapping
from urllib.parse import unquote

import yaml

from services.common.errors import MeshError, Reason
from services.registry.adapters.import_tree import Tree
from services.registry.adapters.mlflow_mapping import Run, found_version
from services.registry.adapters.mlflow_place import onnx_file
from services.registry.domain.artifacts import Sender
from services.registry.domain.imports import FoundVersion

_META, _META_BYTES_MAX = "meta.yaml", 256 * 1024
_VALUE_BYTES_MAX = 1024 * 1024
_VALUES_MAX = 1000


class MlflowFolder:
    """A `ModelSource` over a file store; or over one model folder with an MLmodel, of which there is one version."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._experiments: list[str] | None = None

    async def versions(self, prefix: str) -> AsyncIterator[FoundVersion]:
        """The versions of each model."""
        names = [name[:-1] for name in await asyncio.to_thread(self._tree.names, "models") if name.endswith("/")]
        for name in names:
            model = await asyncio.to_thread(self._model, name)
            if not str(model.get("name", name)).startswith(prefix):
                continue
            folders = await asyncio.to_thread(self._tree.names, f"models/{name}")
            numbers = [one[len("version-") : -1] for one in folders if one.startswith("version-") and one.endswith("/")]
            for number in sorted((one for one in numbers if one.isdigit()), key=int):
                yield await asyncio.to_thread(self._version, name, number, model)

    async def artifact_uri(self, found: FoundVersion, *, sender: Sender) -> str:  # noqa: ARG002 - it is read in place
        """The folder of the model, or the ONNX file in it."""
        return await asyncio.to_thread(self._place, found.handle)

    async def close(self) -> None:
        """Holds nothing."""

    def _model(self, name: str) -> Mapping[str, object]:
        model = dict(self._yaml(f"models/{name}/{_META}"))
        folder = f"models/{name}/aliases"
        model["aliases"] = {alias: self._value(f"{folder}/{alias}") for alias in self._tree.names(folder)[:_VALUES_MAX]}
        model["tags"] = self._values(f"models/{name}/tags")
        return model

    def _version(self, name: str, number: str, model: Mapping[str, object]) -> FoundVersion:
        version = dict(self._yaml(f"models/{name}/version-{number}/{_META}"))
        version["tags"] = self._values(f"models/{name}/version-{number}/tags")
        run_id = str(version.get("run_id") or "")
        handle = str(version.get("storage_location") or version.get("source") or "")
        model_id = str(version.get("model_id") or "")
        return found_version(model, {**version, "version": number}, self._run(run_id), handle=f"{model_id}\n{handle}")

    def _run(self, run_id: str) -> Run | None:
        for experiment in self._folders() if run_id.isalnum() else ():
            folder = f"{experiment}/{run_id}"
            meta = self._yaml(f"{folder}/{_META}")
            if meta:
                params, tags = self._values(f"{folder}/params"), self._values(f"{folder}/tags")
                metrics = {name: _last(value) for name, value in self._values(f"{folder}/metrics").items()}
                known = {name: value for name, value in metrics.items() if math.isfinite(value)}
                return Run(run_id, known, params, tags)
        return None

    def _place(self, handle: str) -> str:
        model_id, _, location = handle.partition("\n")
        candidates = [f"{experiment}/models/{model_id}/artifacts" for experiment in self._folders() if model_id]
        # A store that was moved still names its old place; what lies below the experiment is the same.
        tail = unquote(location.partition("://")[2]).strip("/").split("/")
        candidates += ["/".join(tail[begin:]) for begin in range(len(tail)) if ".." not in tail]
        for folder in candidates:
            mlmodel = self._tree.read(f"{folder}/MLmodel", _VALUE_BYTES_MAX)
            if mlmodel is not None:
                alone = onnx_file(mlmodel)
                return self._tree.uri(f"{folder}/{alone}" if alone else folder)
        raise MeshError(
            Reason.ARTIFACT_NOT_FOUND,
            f"the model that is said to be at {location[:200]!r} is not in the store's folder",
        )

    def _folders(self) -> list[str]:
        if self._experiments is None:
            names = self._tree.names("")
            self._experiments = [name[:-1] for name in names if name.endswith("/") and name != "models/"]
        return self._experiments

    def _yaml(self, path: str) -> Mapping[str, object]:
        data = self._tree.read(path, _META_BYTES_MAX)
        try:
            value = yaml.load(data, Loader=yaml.CBaseLoader) if data else {}  # noqa: S506 - it makes texts alone
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise MeshError(Reason.ARTIFACT_INVALID, f"{path} of the store is no YAML") from error
        return {str(key): item for key, item in value.items()} if isinstance(value, dict) else {}

    def _values(self, folder: str) -> Mapping[str, str]:
        return {
            name: self._value(f"{folder}/{name}") for name in self._tree.names(folder)[:_VALUES_MAX] if "/" not in name
        }

    def _value(self, path: str) -> str:
        return (self._tree.read(path, _VALUE_BYTES_MAX) or b"").decode(errors="replace").strip()


def _last(lines: str) -> float:
    """The value of the last line of a metric's file: time, value and step."""
    words = lines.rpartition("\n")[2].split()
    try:
        return float(words[1])
    except (IndexError, ValueError):
        return math.nan
