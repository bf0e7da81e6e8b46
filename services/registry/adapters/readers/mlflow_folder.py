"""MLflow model folders: the MLmodel file says which flavours they have, what they take and give, and which run made
them. The model inside is read by the reader of its own kind."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import yaml

from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor
from services.registry.domain.version import Lineage

_FILE = "MLmodel"
_FILE_BYTES_MAX = 2 * 1024 * 1024
_COLUMNS_MAX = 4096
_FLAVORS: Mapping[str, tuple[str, Sequence[str], str]] = {
    # flavour: framework, where it names its file, where it names its version
    "onnx": ("onnx", ("data",), "onnx_version"),
    "tensorflow": ("tensorflow", ("saved_model_dir", "data"), "tf_version"),
    # Of Keras it names the version, and not that of TensorFlow.
    "keras": ("tensorflow", ("data",), ""),
    "pytorch": ("pytorch", ("model_data",), "pytorch_version"),
    "sklearn": ("sklearn", ("pickled_model",), "sklearn_version"),
    "xgboost": ("xgboost", ("data",), "xgb_version"),
    "lightgbm": ("lightgbm", ("data",), "lgb_version"),
}
_COLUMN_TYPES: Mapping[str, DataType] = {
    "boolean": DataType.BOOL,
    "integer": DataType.INT32,
    "long": DataType.INT64,
    "float": DataType.FP32,
    "double": DataType.FP64,
    "string": DataType.BYTES,
    "binary": DataType.BYTES,
    "datetime": DataType.BYTES,
    "object": DataType.BYTES,
    "map": DataType.BYTES,
}
_TENSOR_TYPES: Mapping[str, DataType] = {
    "bool": DataType.BOOL,
    "str": DataType.BYTES,
    "object": DataType.BYTES,
    "float16": DataType.FP16,
    "float32": DataType.FP32,
    "float64": DataType.FP64,
    **{f"int{bits}": DataType(f"INT{bits}") for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": DataType(f"UINT{bits}") for bits in (8, 16, 32, 64)},
}
Inner = Callable[[Contents], Understood]


class MlflowReader:
    """A `FormatReader` that hands what is inside to `inner`."""

    form = "an MLflow model folder"

    def __init__(self, inner: Inner) -> None:
        self._inner = inner

    def why_not(self, contents: Contents) -> str:
        """A folder with an MLmodel at its top."""
        return "" if contents.packed and _FILE in contents.files else f"no MLflow folder (no folder with {_FILE})"

    def read(self, contents: Contents) -> Understood:
        """The model inside, completed by what the MLmodel says. Raises RefusedError."""
        said = _parsed(contents.files[_FILE].content(_FILE_BYTES_MAX))
        flavors = said.get("flavors")
        if not isinstance(flavors, Mapping) or not flavors:
            raise BrokenError("its MLmodel names no flavors")
        stated = _signature(said.get("signature"))
        run = said.get("run_id")
        lineage = Lineage(training_run=f"mlflow:{run}"[:256]) if isinstance(run, str) and _word(run) else Lineage()
        for flavor, (framework, keys, version_key) in _FLAVORS.items():
            told = flavors.get(flavor)
            if isinstance(told, Mapping):
                inside = self._inside(contents, told, keys, flavor)
                if inside.framework != framework:
                    raise RefusedError(f"its MLmodel says {flavor}, and the model in it is {inside.form}")
                version = inside.framework_version or _plain(told.get(version_key))
                unsafe = inside.unsafe or _own_code(flavors.get("python_function"))
                return replace(_joined(inside, stated, lineage, version), unsafe=unsafe)
        names = ", ".join(str(name) for name in flavors)[:200]
        return Understood(
            "python",
            f"an MLflow model folder with the flavors {names}",
            stated,
            lineage=lineage,
            unsafe="loading it runs the Python code that it names",
            undeclared="" if stated.inputs and stated.outputs else "its MLmodel has no whole signature",
        )

    def _inside(
        self, contents: Contents, told: Mapping[object, object], keys: Sequence[str], flavor: str
    ) -> Understood:
        """What the file or folder is that a flavour names."""
        path = next((_plain(told[key]) for key in keys if key in told), "").strip("/")
        found = contents.single(path)
        inner = found if found is not None else contents.within(path)
        if flavor == "pytorch" and found is None:
            path = f"{path}/model.pth"
            inner = contents.single(path) or inner
        if flavor in ("tensorflow", "keras") and not found and "saved_model.pb" not in inner.files:
            nested = next((name for name in inner.files if name.endswith(("saved_model.pb", ".keras"))), "")
            keras = inner.single(nested) if nested.endswith(".keras") else None
            inner = keras or inner.within(nested.rpartition("/")[0])
        if not path or not inner.files:
            raise RefusedError(f"its MLmodel names {path[:120]!r} for {flavor}, and that is not there")
        return replace(self._inner(inner), model_path=path)


def _own_code(told: object) -> str:
    """Why the folder runs code of its own beside the model, as a clause; empty where it does not."""
    found: Mapping[object, object] = told if isinstance(told, Mapping) else {}
    loader, code = _plain(found.get("loader_module")), _plain(found.get("code"))
    if code or (loader and not loader.startswith("mlflow.")):
        return f"its MLmodel names Python code to load it with ({code or loader:.120})"
    return ""


def _joined(inside: Understood, stated: StatedSchema, lineage: Lineage, version: str) -> Understood:
    """What the model itself states counts; the signature fills the sides that it leaves open."""
    known = StatedSchema(inside.stated.inputs or stated.inputs, inside.stated.outputs or stated.outputs)
    return replace(
        inside,
        form=f"an MLflow model folder with {inside.form}",
        stated=known,
        framework_version=version[:64],
        lineage=lineage,
        undeclared="" if known.inputs and known.outputs else inside.undeclared or "it has no whole signature",
    )


def _parsed(data: bytes) -> Mapping[object, object]:
    """The MLmodel file, every plain value a text: no value of YAML is made into anything."""
    try:
        value = yaml.load(data, Loader=yaml.CBaseLoader)  # noqa: S506 - it makes texts, lists and mappings alone
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        raise BrokenError("its MLmodel is no YAML") from None
    if not isinstance(value, dict):
        raise BrokenError("its MLmodel is no YAML mapping")
    return value


def _signature(told: object) -> StatedSchema:
    if not isinstance(told, Mapping):
        return StatedSchema()
    return StatedSchema(_side(told.get("inputs"), "input"), _side(told.get("outputs"), "output"))


def _side(text: object, side: str) -> tuple[StatedTensor, ...]:
    """The tensors of one side: columns of a data frame, or tensors with their batch dimension."""
    if not isinstance(text, str) or text in ("", "null", "~"):
        return ()
    try:
        specs = json.loads(text)
    except (ValueError, RecursionError):
        raise BrokenError(f"the signature's {side}s in its MLmodel are no JSON") from None
    if not isinstance(specs, list) or not all(isinstance(spec, dict) for spec in specs) or len(specs) > _COLUMNS_MAX:
        raise BrokenError(f"the signature's {side}s in its MLmodel are no list of columns")
    found = tuple(_tensor(spec, side, place, alone=len(specs) == 1) for place, spec in enumerate(specs))
    if len({one.name for one in found}) != len(found):
        raise BrokenError(f"the signature's {side}s in its MLmodel have names twice")
    return found


def _tensor(spec: Mapping[str, object], side: str, place: int, *, alone: bool) -> StatedTensor:
    name = spec.get("name")
    if not isinstance(name, str) or not name:
        name = side if alone else f"{side}_{place}"
    if len(name) > 256 or not name.isprintable():
        raise BrokenError(f"the signature in its MLmodel has the name {name[:60]!r}")
    if spec.get("type") != "tensor":
        kind, dims = spec.get("type"), 0
        inner: Mapping[str, object] = spec
        while kind == "array" and isinstance(nested := inner.get("items"), dict) and dims < 8:
            inner, kind, dims = nested, nested.get("type"), dims + 1
        data_type = _COLUMN_TYPES.get(str(kind))
        if data_type is None:
            raise RefusedError(f"the signature's {side} {name!r} in its MLmodel is of type {str(kind)[:60]!r}")
        return StatedTensor(name, data_type, (-1,) * dims)
    told = spec.get("tensor-spec")
    kind, sizes = (told.get("dtype"), told.get("shape")) if isinstance(told, dict) else (None, None)
    data_type = _TENSOR_TYPES.get(str(kind))
    if data_type is None or not isinstance(sizes, list) or not all(isinstance(size, int) for size in sizes):
        raise RefusedError(f"the signature's {side} {name!r} in its MLmodel has a type or shape that no tensor has")
    if not sizes or sizes[0] not in (-1, 1):
        raise RefusedError(f"the signature's {side} {name!r} in its MLmodel has no first dimension for the batch")
    return StatedTensor(name, data_type, tuple(size if 0 < size < 2**31 else -1 for size in sizes[1:9]))


def _plain(value: object) -> str:
    return value if isinstance(value, str) and value not in ("null", "~") else ""


def _word(text: str) -> bool:
    return bool(text) and text != "null" and len(text) <= 128 and text.isprintable()
