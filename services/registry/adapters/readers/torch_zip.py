"""What PyTorch saves: TorchScript, exported programs, and plain pickles, each a zip under one folder."""

import re
from collections.abc import Iterable, Mapping, Sequence

from services.common.schema import DataType
from services.registry.adapters.readers.contents import Contents, single
from services.registry.adapters.readers.json_skim import parsed, skim
from services.registry.adapters.readers.pickle_nodes import Made
from services.registry.adapters.readers.pickle_tape import Tape, read_pickle
from services.registry.adapters.readers.refused import BrokenError, RefusedError
from services.registry.adapters.readers.section import Entry
from services.registry.domain.frameworks import Understood
from services.registry.domain.schemas import StatedSchema, StatedTensor

_DATA = "data.pkl"
_CODE_BYTES_MAX = 1024 * 1024
_SHOWN_MAX = 8
_FORWARD = re.compile(r"def forward\(([^()]{0,4000})\) -> ([^:]{1,1000}):")
_PLAIN = (
    "collections.OrderedDict",
    "torch._utils._rebuild_",
    "torch._tensor._rebuild_from_type_v2",
    "torch.storage.TypedStorage",
    "torch.storage.UntypedStorage",
    "torch.Size",
    "torch.device",
    "torch.serialization._get_layout",
    "torch.nn.parameter.Parameter",
    "_codecs.encode",
)
_STORAGE = re.compile(
    r"torch\.(cuda\.)?[A-Z][A-Za-z0-9]*(Storage|Tensor)"
    r"|torch\.(bool|bits\w*|c?half|short|int|long|float|double|(q?u?int|b?float|complex|chalf|cfloat|cdouble)\d+\w*)"
)
"""Storages, tensors and types of elements; not torch.load, which would read a pickle from wherever it is told."""
_SCRIPT = ("__torch__.", "torch.jit._pickle.")
_PAYLOADS = ("data/weights/", "data/constants/")
_CONFIG = "_config.json"
_CONFIG_BYTES_MAX = 64 * 1024 * 1024
_PROGRAMS = ("models/model.json", "serialized_exported_program.json")
_SCALARS: Mapping[int, DataType] = {
    1: DataType.UINT8,
    2: DataType.INT8,
    3: DataType.INT16,
    4: DataType.INT32,
    5: DataType.INT64,
    6: DataType.FP16,
    7: DataType.FP32,
    8: DataType.FP64,
    12: DataType.BOOL,
    13: DataType.BF16,
    28: DataType.UINT16,
    34: DataType.UINT32,
    35: DataType.UINT64,
}


class TorchScriptReader:
    """A `FormatReader`."""

    form = "a TorchScript file"

    def why_not(self, contents: Contents) -> str:
        """A zip with a description of objects and the code of their classes."""
        files = _files(contents)
        code = any(name.startswith("code/") for name in files)
        return "" if _DATA in files and code else "no TorchScript file (no zip with data.pkl and code/)"

    def read(self, contents: Contents) -> Understood:
        """TorchScript names no tensors: their schema must be declared. Raises RefusedError."""
        files = _files(contents)
        tape = _tape(files[_DATA])
        foreign = [name for name in tape.imports if not name.startswith(_SCRIPT) and not _is_plain(name)]
        if foreign:
            # Its loader would find no such class; who adds one hopes for another loader.
            raise RefusedError(f"its data.pkl names {', '.join(foreign[:_SHOWN_MAX])}", "save it by torch.jit.save")
        forward = _forward(tape, files)
        said = f": its forward is ({forward})" if forward else ""
        return Understood("pytorch", self.form, undeclared=f"TorchScript states no tensors{said}")


class TorchExportReader:
    """A `FormatReader`."""

    form = "a program of torch.export"

    def why_not(self, contents: Contents) -> str:
        """A zip with the program as JSON."""
        files = _files(contents)
        return "" if any(name in files for name in _PROGRAMS) else f"no {self.form[2:]} (no zip with models/model.json)"

    def read(self, contents: Contents) -> Understood:
        """The tensors of the program's signature. Raises RefusedError."""
        files = _files(contents)
        program = next(files[name] for name in _PROGRAMS if name in files)
        graph = skim(program.open(), ("inputs", "outputs", "tensor_values"), inside=("graph_module", "graph"))
        signature = skim(program.open(), ("signature",), inside=("graph_module",)).get("signature")
        values = graph.get("tensor_values")
        if not isinstance(values, Mapping) or not isinstance(signature, Mapping):
            raise BrokenError("its program has no tensors or no signature")
        stated = StatedSchema(
            tuple(_tensors(signature.get("input_specs"), "user_input", "input", values)),
            tuple(_tensors(signature.get("output_specs"), "user_output", "output", values)),
        )
        if not stated.inputs or not stated.outputs:
            raise RefusedError("its program takes or gives no tensors", "export a model that does")
        version = skim(program.open(), ("torch_version",)).get("torch_version")
        pickled = sorted({name for entry in _pickled(files) for name in _imports(entry) if not _is_plain(name)})
        unsafe = f"pickles in it run what they say ({', '.join(pickled[:_SHOWN_MAX])})" if pickled else ""
        return Understood("pytorch", self.form, stated, str(version or "")[:64], unsafe=unsafe)


class TorchPickleReader:
    """A `FormatReader`."""

    form = "a file of torch.save"

    def why_not(self, contents: Contents) -> str:
        """A zip with a pickle in it, and neither code nor a program."""
        return "" if _DATA in _files(contents) else f"no {self.form[2:]} (no zip with data.pkl)"

    def read(self, contents: Contents) -> Understood:
        """What it would import. Raises RefusedError."""
        tape = _tape(_files(contents)[_DATA])
        imports = ", ".join(tape.imports[:_SHOWN_MAX])
        weights = isinstance(tape.value, dict) or (
            isinstance(tape.value, Made) and tape.value.name == "collections.OrderedDict"
        )
        return Understood(
            "pytorch",
            self.form,
            unsafe=f"loading a pickle runs what it says ({imports})",
            problem="it holds weights and no model: export the model with torch.onnx.export or torch.export.save"
            if weights
            else "",
            undeclared="a pickled module states no tensors",
        )


def _files(contents: Contents) -> Mapping[str, Entry]:
    """The files of a zip by their paths below its one folder."""
    entries = contents.zip()
    tops = {name.partition("/")[0] for name in entries}
    if len(tops) != 1:
        return entries
    top = f"{tops.pop()}/"
    return {name.removeprefix(top): one for name, one in entries.items() if name.startswith(top)}


def _tape(entry: Entry) -> Tape:
    return read_pickle(entry.buffered(), entry.size_bytes)


def _is_plain(name: str) -> bool:
    """Whether loading weights needs it and it does nothing else."""
    return name.startswith(_PLAIN) or _STORAGE.fullmatch(name) is not None


def _pickled(files: Mapping[str, Entry]) -> Iterable[Entry]:
    """What loading the program hands to torch.load: by its name, or because the list of weights says so."""
    for name, entry in files.items():
        if name.endswith((".pt", ".pkl")):
            yield entry
        elif name.startswith(_PAYLOADS) and name.endswith(_CONFIG):
            for path in _listed_as_pickles(entry):
                payload = files.get(f"{name.rpartition('/')[0]}/{path}")
                if payload is None:
                    raise BrokenError(f"it lacks {path[:120]!r}, which it lists")
                yield payload


def _listed_as_pickles(entry: Entry) -> Iterable[str]:
    found = parsed(entry.content(_CONFIG_BYTES_MAX), parts_max=1_000_000)
    config = found.get("config") if isinstance(found, dict) else None
    for payload in config.values() if isinstance(config, dict) else ():
        if not isinstance(payload, dict):
            raise BrokenError("its list of weights is broken")
        if payload.get("use_pickle"):
            yield str(payload.get("path_name"))


def _imports(entry: Entry) -> Sequence[str]:
    """What a file of torch.save inside a program would import. One that is no zip is several pickles, read by none."""
    files = _files(single(entry))
    if _DATA in files:
        return _tape(files[_DATA]).imports
    return (f"whatever {entry.name.rpartition('/')[2][:80]!r} says",) if entry.size_bytes else ()


def _forward(tape: Tape, files: Mapping[str, Entry]) -> str:
    """What the root module's forward takes and gives, as its code says; "" where that is not found."""
    root = tape.value.name if isinstance(tape.value, Made) else ""
    module, _, name = root.rpartition(".")
    entry = files.get(f"code/{module.replace('.', '/')}.py")
    if entry is None or entry.size_bytes > _CODE_BYTES_MAX:
        return ""
    code = entry.content(_CODE_BYTES_MAX).decode(errors="replace")
    found = _FORWARD.search(code, code.find(f"class {name}("))
    if found is None:
        return ""
    arguments = re.sub(r"\s+", " ", found.group(1)).split(", ")[1:]
    return f"{', '.join(arguments)}) -> ({found.group(2)}"[:400]


def _tensors(specs: object, kind: str, side: str, values: Mapping[str, object]) -> Iterable[StatedTensor]:
    """The tensors of callers, in order: parameters and buffers are none of theirs."""
    for spec in specs if isinstance(specs, list) else ():
        user = spec.get(kind) if isinstance(spec, Mapping) else None
        argument = user.get("arg") if isinstance(user, Mapping) else None
        if argument is None:
            continue
        tensor = argument.get("as_tensor") if isinstance(argument, Mapping) else None
        name = tensor.get("name") if isinstance(tensor, Mapping) else None
        if not isinstance(name, str) or not 0 < len(name) <= 256 or not name.isprintable():
            raise RefusedError(f"an {side} of it is no tensor", "export it with tensors only")
        yield _tensor(name, values.get(name), side)


def _tensor(name: str, meta: object, side: str) -> StatedTensor:
    kind = meta.get("dtype") if isinstance(meta, Mapping) else None
    sizes = meta.get("sizes") if isinstance(meta, Mapping) else None
    data_type = _SCALARS.get(kind) if isinstance(kind, int) else None
    if data_type is None or not isinstance(sizes, list):
        raise RefusedError(f"its {side} {name!r} has elements of a type that no tensor has", "export it with others")
    shape = [_size(size) for size in sizes[:16]]
    if not shape or shape[0] not in (-1, 1):
        raise RefusedError(
            f"its {side} {name!r} has the fixed shape {shape}, without a first dimension for the batch",
            "export it with a dynamic first dimension (dynamic_shapes)",
        )
    return StatedTensor(name, data_type, tuple(shape[1:]))


def _size(size: object) -> int:
    number = size.get("as_int") if isinstance(size, Mapping) else None
    return number if isinstance(number, int) and 0 < number < 2**31 else -1
