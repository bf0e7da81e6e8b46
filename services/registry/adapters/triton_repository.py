"""Model repositories of Triton: a folder for each model, with its configuration and a folder for each version."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from services.common.errors import MeshError, Reason
from services.common.schema import DataType, ModelSchema, TensorSpec
from services.registry.adapters.import_tree import Tree
from services.registry.adapters.triton_repository_config import Message, messages_of, parse_config, text_of
from services.registry.domain.artifacts import Sender
from services.registry.domain.imports import FoundVersion, name_here, version_here

_CONFIG, _CONFIG_BYTES_MAX = "config.pbtxt", 1024 * 1024
_FILES: Mapping[str, str] = {"onnxruntime": "model.onnx", "pytorch": "model.pt", "tensorflow": "model.savedmodel"}
_PLATFORMS: Mapping[str, str] = {
    "onnxruntime_onnx": "onnxruntime",
    "pytorch_libtorch": "pytorch",
    "tensorflow_savedmodel": "tensorflow",
}
_TYPES: Mapping[str, DataType] = {
    **{f"TYPE_{one.value}": one for one in DataType},
    "TYPE_STRING": DataType.BYTES,
}


class TritonRepository:
    """A `ModelSource`."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    async def versions(self, prefix: str) -> AsyncIterator[FoundVersion]:
        """A version for each folder with a number of each model."""
        folders = [name[:-1] for name in await asyncio.to_thread(self._tree.names, "") if name.endswith("/")]
        for model in (name for name in folders if name.startswith(prefix)):
            for found in await asyncio.to_thread(self._model, model):
                yield found

    async def artifact_uri(self, found: FoundVersion, *, sender: Sender) -> str:  # noqa: ARG002 - it is read in place
        """The file or folder that Triton loads."""
        return await asyncio.to_thread(self._place, found.handle)

    async def close(self) -> None:
        """Holds nothing."""

    def _model(self, model: str) -> Sequence[FoundVersion]:
        numbers = [name[:-1] for name in self._tree.names(model) if name.endswith("/") and version_here(name[:-1])]
        numbers.sort(key=int)
        config: Message = {}
        problem = "" if name_here(model) else "its name cannot be made into one of a model"
        try:
            content = self._tree.read(f"{model}/{_CONFIG}", _CONFIG_BYTES_MAX)
            config = parse_config(content) if content is not None else {}
        except MeshError as error:
            problem = problem or error.message
        if text_of(config, "platform") == "ensemble":
            problem = problem or "it is an ensemble of other models, and no artifact"
        schema, wrong = (None, "") if problem else _schema(config, _backend(config))
        filename = text_of(config, "default_model_filename") or _FILES.get(_backend(config), "")
        return [
            FoundVersion(
                source_name=f"{model}/{number}",
                model_name=name_here(model),
                version=version_here(number),
                handle=f"{model}/{number}/{filename}",
                problem=problem or wrong,
                schema=schema,
            )
            for number in numbers
        ]

    def _place(self, handle: str) -> str:
        """The file that the configuration names where it is there, else the only file, else the version's folder."""
        folder, _, named = handle.rpartition("/")
        names = self._tree.names(folder)
        if named and {named, f"{named}/"} & set(names):
            return self._tree.uri(handle)
        if not names:
            raise MeshError(Reason.ARTIFACT_NOT_FOUND, f"{folder} of the repository holds nothing to register")
        alone = len(names) == 1
        return self._tree.uri(f"{folder}/{names[0]}".rstrip("/")) if alone else self._tree.uri(folder)


def _backend(config: Message) -> str:
    platform = text_of(config, "platform")
    return text_of(config, "backend") or _PLATFORMS.get(platform, platform)


def _schema(config: Message, backend: str) -> tuple[ModelSchema | None, str]:
    """The tensors of a configuration, for kinds that do not state their own; else why they cannot be read."""
    if backend not in ("pytorch", "python") or "input" not in config:
        return None, ""
    batched = text_of(config, "max_batch_size") not in ("", "0")
    try:
        sides = [
            tuple(_spec(one, batched=batched) for one in messages_of(config, side)) for side in ("input", "output")
        ]
    except ValueError as error:
        return None, str(error)
    return ModelSchema(*sides), ""


def _spec(told: Message, *, batched: bool) -> TensorSpec:
    name, data_type = text_of(told, "name"), _TYPES.get(text_of(told, "data_type"))
    if data_type is None:
        raise ValueError(f"its configuration gives {name!r} the type {text_of(told, 'data_type')!r}")
    try:
        dims = [int(str(size)) for size in told.get("dims", ())]
    except ValueError:
        raise ValueError(f"its configuration gives {name!r} sizes that are no numbers") from None
    if not batched:
        if not dims or dims[0] not in (-1, 1):
            raise ValueError(f"its configuration gives {name!r} the shape {dims}, without a dimension for the batch")
        dims = dims[1:]
    return TensorSpec(name, data_type, tuple(size if size > 0 else -1 for size in dims))
