"""Where the model is in an artifact: a file by itself, a folder that is a model, an MLflow folder, or a folder with one
file that is a model. The registry recognised it by the same rules, which are told in docs/architecture/registry.md."""

import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MLMODEL = "MLmodel"
_FLAVORS: Mapping[str, Sequence[tuple[str, Sequence[str]]]] = {
    # framework: MLflow's flavours of it, each with the keys that name its file
    "onnx": (("onnx", ("data",)),),
    "tensorflow": (("tensorflow", ("saved_model_dir", "data")), ("keras", ("data",))),
    "pytorch": (("pytorch", ("model_data",)),),
    "sklearn": (("sklearn", ("pickled_model",)),),
    "xgboost": (("xgboost", ("data",)),),
    "lightgbm": (("lightgbm", ("data",)),),
}
_WHOLE = {"tensorflow": "saved_model.pb", "pytorch": "model.py", "python": "model.py"}
"""The file that makes a whole folder the model."""
_PICKLES = (b"\x80", b"ccopy_reg\n", b"ccopyreg\n", b"c__builtin__\n", b"csklearn", b"\x78", b"\x1f\x8b")
_HEAD_BYTES = 512
_SHOWN_MAX = 8


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is."""

    path: Path
    """Its file or folder."""
    code: Path | None = None
    """A folder of modules that loading it may import, where MLflow keeps one beside it."""


def find_model(path: Path, framework: str) -> Place:
    """The model of that framework at `path`, a file or a folder.

    Raises ValueError where a folder holds none or several, or where its MLmodel names what is not there.
    """
    if path.is_file():
        return Place(path)
    if not path.is_dir():
        raise ValueError(f"there is no file and no folder {path.name!r}")
    top = _innermost(path)
    if (top / MLMODEL).is_file():
        return _of_mlflow(top, framework)
    return Place(_of_folder(top, framework))


def zip_names(path: Path) -> frozenset[str]:
    """The files in a zip by their paths below its one folder, if it has one; none where the file is no zip."""
    if not zipfile.is_zipfile(path):
        return frozenset()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
    tops = {name.partition("/")[0] for name in names}
    top = f"{tops.pop()}/" if len(tops) == 1 else ""
    return frozenset(name.removeprefix(top) for name in names)


def _innermost(folder: Path) -> Path:
    """Archives often hold one folder with everything in it."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _of_folder(folder: Path, framework: str) -> Path:
    """The folder itself, the one below that is a model, or the one file in it that is."""
    sign = _WHOLE.get(framework)
    if sign is not None and (folder / sign).is_file():
        return folder
    if framework == "tensorflow":
        # MLflow's folder of Keras has the SavedModel one level down.
        nested = [one.parent for one in folder.glob(f"*/{sign}")]
        return _only(nested, folder, "SavedModel (a folder with saved_model.pb)")
    files = sorted(one for one in folder.rglob("*") if one.is_file() and not one.is_symlink())
    recognises = _RECOGNISERS.get(framework)
    found = [one for one in files if recognises(one)] if recognises is not None else []
    wanted = f"model of {framework}" + (f" and no {sign}" if sign else "")
    return _only(found or (files if len(files) == 1 and not sign else []), folder, wanted)


def _only(found: Sequence[Path], folder: Path, wanted: str) -> Path:
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(one.relative_to(folder)) for one in found[:_SHOWN_MAX])
        raise ValueError(f"the folder holds several models ({names}); register each by itself")
    names = ", ".join(sorted(one.name for one in folder.iterdir())[:_SHOWN_MAX]) or "nothing"
    raise ValueError(f"the folder holds no {wanted}; it holds {names}")


def _of_mlflow(top: Path, framework: str) -> Place:
    # Only this needs it: the environment of ONNX models is without.
    import yaml  # noqa: PLC0415

    said = yaml.load((top / MLMODEL).read_bytes(), Loader=yaml.BaseLoader)  # noqa: S506 - it makes plain texts alone
    flavors = _mapping(_mapping(said).get("flavors"))
    for flavor, keys in _FLAVORS.get(framework, ()):
        told = _mapping(flavors.get(flavor))
        path = next((told[key] for key in keys if told.get(key)), "")
        if path:
            return Place(_named(top, str(path), framework), _code(top, told, _mapping(flavors.get("python_function"))))
    has = ", ".join(sorted(flavors)) or "none"
    raise ValueError(f"its MLmodel names no flavor of {framework}; it names {has}")


def _named(top: Path, path: str, framework: str) -> Path:
    """What the MLmodel names, which is a file, or a folder with the model in it."""
    target = top / path.strip("/")
    if not target.exists() or not target.resolve().is_relative_to(top.resolve()):
        raise ValueError(f"its MLmodel names {path!r} for {framework}, and that is not there")
    if target.is_file():
        return target
    pickled = target / "model.pth"
    return pickled if framework == "pytorch" and pickled.is_file() else _of_folder(target, framework)


def _code(top: Path, *tolds: Mapping[str, Any]) -> Path | None:
    """MLflow's folder of modules, named by the flavour or by the one for Python."""
    names = [str(told["code"]).strip("/") for told in tolds if told.get("code") not in (None, "", "null", "~")]
    folders = [top / name for name in names if (top / name).is_dir()]
    inside = [folder for folder in folders if folder.resolve().is_relative_to(top.resolve())]
    return inside[0] if inside else None


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


def _in_zip(*names: str) -> Callable[[Path], bool]:
    wanted: Iterable[str] = names
    return lambda path: not zip_names(path).isdisjoint(wanted)


_RECOGNISERS: Mapping[str, Callable[[Path], bool]] = {
    "onnx": lambda path: path.suffix == ".onnx",
    "sklearn": lambda path: _in_zip("schema.json")(path) or _head(path).startswith(_PICKLES),
    "xgboost": lambda path: _head(path)[:1] == b"{" and b"learner" in _head(path)[:256],
    "lightgbm": lambda path: _head(path).replace(b"\r\n", b"\n").startswith(b"tree\n"),
    "pytorch": _in_zip("data.pkl", "models/model.json", "serialized_exported_program.json"),
    "python": _in_zip("model.py"),
}
"""Whether a file of a folder is a model of the framework."""
