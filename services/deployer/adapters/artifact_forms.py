"""Looks at an artifact: of which form it is, where in a folder the model is, and what native backends must know of it.

Nothing of it is run. What is not understood, or could be understood in two ways, is for the runner.
"""

import pickletools
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from services.deployer.adapters.tree_forms import lightgbm_facts, xgboost_facts
from services.deployer.domain.artifact_facts import Facts, Form

_HEAD_BYTES = 512
_PICKLE_HEAD_BYTES = 64 * 1024
_CODE_BYTES_MAX = 4 * 1024 * 1024
_GRAPH_BYTES_MAX = 256 * 1024 * 1024
_SAVED_MODEL = "saved_model.pb"
_SERVING = "serving_default"
_SIGN: Mapping[str, Callable[[Path], bool]] = {
    "onnx": lambda path: path.suffix == ".onnx",
    "pytorch": lambda path: zipfile.is_zipfile(path),
    "tensorflow": lambda path: path.name == _SAVED_MODEL,
    "xgboost": lambda path: path.suffix != ".py" and _head(path)[:1] == b"{" and b"learner" in _head(path)[:256],
    "lightgbm": lambda path: _head(path).replace(b"\r\n", b"\n").startswith(b"tree\n"),
}
"""Whether a file of a folder is a model of the framework, or the sign of one."""
_FORWARD = re.compile(r"^  def forward\((.*?)\) -> (.*?):$", re.MULTILINE | re.DOTALL)
_TUPLE = re.compile(r"Tuple\[(Tensor(?:, Tensor)*)\]")


def look_at(path: Path, framework: str) -> tuple[Path, Facts]:
    """The model in the artifact at `path`, a file or a folder, and what is known of it."""
    found = _model_in(path, framework)
    if isinstance(found, str):
        return path, Facts(None, found)
    try:
        return found, _FACTS[framework](found)
    except (zipfile.BadZipFile, DecodeError, ValueError, KeyError) as error:
        return path, Facts(None, f"its artifact cannot be read ({type(error).__name__}: {error})")


def _model_in(path: Path, framework: str) -> Path | str:
    """The file, or of a SavedModel the folder; else why it is not known which."""
    if path.is_file():
        return path
    files = sorted(one for one in path.rglob("*") if one.is_file() and not one.is_symlink())
    found = [one for one in files if _SIGN[framework](one)]
    if len(found) != 1:
        names = ", ".join(str(one.relative_to(path)) for one in found[:3])
        return f"its folder holds {len(found)} models ({names})" if found else "its folder holds no file of a model"
    return found[0].parent if framework == "tensorflow" else found[0]


def _onnx(_path: Path) -> Facts:
    return Facts(Form.ONNX)


def _torch(path: Path) -> Facts:
    """TorchScript whose forward takes and gives tensors alone."""
    if not zipfile.is_zipfile(path):
        return Facts(None)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        data = next((name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")), "")
        top = data.removesuffix("data.pkl")
        if not data or not any(name.startswith(f"{top}code/") for name in names):
            return Facts(None)
        with archive.open(data) as stream:
            module, _, kind = _first_global(stream.read(_PICKLE_HEAD_BYTES)).partition(" ")
        place = f"{top}code/{module.replace('.', '/')}.py"
        if not kind or place not in names or archive.getinfo(place).file_size > _CODE_BYTES_MAX:
            return Facts(Form.TORCHSCRIPT, "its forward cannot be found")
        code = archive.read(place).decode()
    body = re.search(rf"^class {re.escape(kind)}\(Module\):\n(.*?)(?=^class |\Z)", code, re.MULTILINE | re.DOTALL)
    forward = _FORWARD.search(body.group(1)) if body else None
    if forward is None:
        return Facts(Form.TORCHSCRIPT, "its forward cannot be found")
    taken = [one.strip().partition(": ") for one in _split(forward.group(1))][1:]
    others = [f"{name} is {kind}" for name, _, kind in taken if kind != "Tensor"]
    if others:
        return Facts(Form.TORCHSCRIPT, f"its forward takes more than tensors ({others[0]})")
    given = "Tensor" if forward.group(2) == "Tensor" else _tuple(forward.group(2))
    if not given:
        return Facts(Form.TORCHSCRIPT, f"its forward gives {forward.group(2)[:60]} and not tensors in an order")
    return Facts(Form.TORCHSCRIPT, inputs=tuple(name for name, _, _ in taken), outputs=("",) * given.count("Tensor"))


def _first_global(head: bytes) -> str:
    """The class of the object that a pickle makes first: "module name". Empty where the head has none."""
    try:
        for opcode, argument, _ in pickletools.genops(head):
            if opcode.name == "GLOBAL":
                return str(argument)
    except ValueError:
        # The head ends within an operation.
        return ""
    return ""


def _tuple(text: str) -> str:
    found = _TUPLE.fullmatch(text)
    return found.group(1) if found else ""


def _split(arguments: str) -> Sequence[str]:
    """Arguments at the commas that are in no brackets."""
    parts, depth = [""], 0
    for letter in arguments:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return parts


def _graph(folder: Path) -> Facts:
    """The tensors of the signature `serving_default`, by the field numbers of TensorFlow's own protos."""
    file = folder / _SAVED_MODEL
    if not file.is_file():
        return Facts(None)
    if file.stat().st_size > _GRAPH_BYTES_MAX:
        return Facts(Form.SAVED_MODEL, f"its {_SAVED_MODEL} is too large to look at")
    for graph in _parts(file.read_bytes(), 2):
        tags = [tag for info in _parts(graph, 1) for tag in _parts(info, 4)]
        signature = _map(graph, 5).get(_SERVING)
        if b"serve" in tags and signature is not None:
            return Facts(Form.SAVED_MODEL, inputs=tuple(_map(signature, 1)), outputs=tuple(_map(signature, 2)))
    return Facts(Form.SAVED_MODEL, f"it has no signature {_SERVING!r} to serve")


def _parts(message: bytes, number: int) -> list[bytes]:
    """The texts, bytes and messages that a message has under that number."""
    fields = UnknownFieldSet(Empty.FromString(message))
    every = (fields[place] for place in range(len(fields)))
    return [field.data for field in every if field.field_number == number]


def _map(message: bytes, number: int) -> Mapping[str, bytes]:
    entries = {_parts(entry, 1)[0].decode(): b"".join(_parts(entry, 2)) for entry in _parts(message, number)}
    return dict(sorted(entries.items()))


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(_HEAD_BYTES)


_FACTS: Mapping[str, Callable[[Path], Facts]] = {
    "onnx": _onnx,
    "pytorch": _torch,
    "tensorflow": _graph,
    "xgboost": xgboost_facts,
    "lightgbm": lightgbm_facts,
}
