"""Models saved by pickle, cloudpickle or joblib. Loading one runs whatever it says, so each counts as code."""

import io
import zlib
from typing import BinaryIO, cast

from services.registry.adapters.readers.arrays import elements
from services.registry.adapters.readers.contents import Contents
from services.registry.adapters.readers.estimators import Estimator, facts_of
from services.registry.adapters.readers.pickle_nodes import Made
from services.registry.adapters.readers.pickle_tape import Tape, dtype_of, read_pickle
from services.registry.adapters.readers.refused import RefusedError
from services.registry.adapters.readers.zip_walk import inflated
from services.registry.domain.frameworks import Understood

_SHOWN_MAX = 12
_PROTOCOLS = tuple(bytes((0x80, number)) for number in range(2, 6))
_OLD = (b"ccopy_reg\n", b"c__builtin__\n", b"csklearn", b"ccopyreg\n")
_ZLIB, _GZIP = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"), b"\x1f\x8b"
_PACKED = {b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x04\x22\x4d\x18": "lz4", b"\x5d\x00\x00": "lzma"}
_INFLATED_BYTES_MAX = 256 * 1024 * 1024
_LIST_MAX, _ELEMENTS_MAX, _DEPTH_MAX = 4096, 100_000, 4
_FRAMEWORKS = {"sklearn": "sklearn", "xgboost": "xgboost", "lightgbm": "lightgbm", "torch": "pytorch"}


class PickleReader:
    """A `FormatReader`."""

    form = "a pickle"

    def why_not(self, contents: Contents) -> str:
        """By the first bytes, plain or behind those of a compressed file."""
        head = contents.head
        if contents.packed or not head:
            return "no pickle (it is not one file)"
        if head.startswith((*_PROTOCOLS, *_OLD, *_ZLIB, _GZIP, *_PACKED)):
            return ""
        return "no pickle (it does not begin as one)"

    def read(self, contents: Contents) -> Understood:
        """What it would import, and what of an estimator it holds. Raises RefusedError."""
        entry = contents.sole
        if entry is None:
            raise RefusedError("it is not one file")
        packed = next((name for begins, name in _PACKED.items() if contents.head.startswith(begins)), "")
        if packed:
            raise RefusedError(f"it is packed by {packed}, which is not looked into", "save it without compression")
        stream, size_bytes = entry.buffered(), entry.size_bytes
        if contents.head.startswith((*_ZLIB, _GZIP)):
            bits = zlib.MAX_WBITS + (16 if contents.head.startswith(_GZIP) else 0)
            data = inflated(stream, entry.name, bits, _INFLATED_BYTES_MAX)
            stream, size_bytes = cast("BinaryIO", io.BytesIO(data)), len(data)
        return understood_pickle(read_pickle(stream, size_bytes))


def understood_pickle(tape: Tape) -> Understood:
    """What a tape says of the model."""
    roots = {name.partition(".")[0] for name in tape.imports}
    kind = tape.value.name if isinstance(tape.value, Made) else ""
    root = kind.partition(".")[0]
    framework = _FRAMEWORKS.get(root) or next((_FRAMEWORKS[one] for one in _FRAMEWORKS if one in roots), "python")
    listed = ", ".join(tape.imports[:_SHOWN_MAX]) + (", …" if len(tape.imports) > _SHOWN_MAX else "")
    form = f"a {'joblib file' if tape.joblib else 'pickle'} of {kind or 'an object'}"
    unsafe = f"loading a pickle runs what it says ({listed or 'it imports nothing'})"
    if framework != "sklearn" or not isinstance(tape.value, Made):
        return Understood(framework=framework, form=form, unsafe=unsafe)
    facts = facts_of(_estimator(tape.value, tape))
    return Understood(
        framework=framework,
        form=form,
        stated=facts.stated,
        framework_version=facts.version,
        class_names=facts.class_names,
        undeclared=facts.undeclared,
        unsafe=unsafe,
    )


def _estimator(made: Made, tape: Tape) -> Estimator:
    attributes = made.attributes
    return Estimator(made.name, lambda name: _value(attributes.get(name), tape), tape.imports)


def _value(value: object, tape: Tape, depth: int = 0) -> object:
    """An attribute as `Estimator` promises it. A pickle may describe what holds itself, so this goes few steps deep."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        inner = [one[-1] if isinstance(one, tuple) and one else one for one in value[:_LIST_MAX]]
        return [_value(one, tape, depth + 1) for one in inner] if depth == 0 else None
    if not isinstance(value, Made) or depth > _DEPTH_MAX:
        return None
    if value.name.endswith((".NumpyArrayWrapper", "._reconstruct", "._frombuffer")):
        return _array(value, tape, depth)
    if value.name.endswith(".scalar"):
        found = _array(value, tape, depth)
        return found[0] if isinstance(found, list) and found else None
    return _estimator(value, tape)


def _array(made: Made, tape: Tape, depth: int) -> object:
    """The elements of an array, out of each of the ways in which numpy and joblib pickle one."""
    arguments = made.arguments if isinstance(made.arguments, tuple) else ()
    content: object = None
    kind: object = None
    if made.name.endswith(".NumpyArrayWrapper"):
        kind, content = made.attributes.get("dtype"), made.members.get("content")
    elif made.name.endswith("._reconstruct") and isinstance(made.state, tuple) and len(made.state) == 5:
        kind, content = made.state[2], made.state[4]
    elif made.name.endswith("._frombuffer") and len(arguments) >= 2:
        content, kind = arguments[0], arguments[1]
    elif made.name.endswith(".scalar") and len(arguments) == 2:
        kind, content = arguments
    return _elements(content, kind, tape, depth + 1)


def _elements(content: object, kind: object, tape: Tape, depth: int) -> object:
    if isinstance(content, Made) and content.name.endswith((".encode", ".bytearray", ".bytes")):
        # Protocols below 3 have no bytes: they are written as a text in Latin-1.
        first = content.arguments[0] if isinstance(content.arguments, tuple) and content.arguments else None
        content = first.encode("latin-1", errors="replace") if isinstance(first, str) else first
    if isinstance(content, Made):
        return _value(content, tape, depth)
    if isinstance(content, bytes):
        return list(elements(dtype_of(kind), content))
    if isinstance(content, list):
        return [_value(one, tape, depth) for one in content[:_ELEMENTS_MAX]]
    return None
