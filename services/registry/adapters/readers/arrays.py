"""Small arrays of numpy as plain lists, out of their raw bytes."""

import ast
import struct
from collections.abc import Sequence

from services.registry.adapters.readers.refused import BrokenError

_MAGIC = b"\x93NUMPY"
_FORMS = {"i": "bhiq", "u": "BHIQ", "f": "efd"}
_COUNT_MAX = 100_000


def elements(dtype: str, data: bytes) -> Sequence[object]:
    """The elements of an array of numpy's short type name, "<i8" for instance; empty where the type is another."""
    order, kind, digits = dtype[:1], dtype[1:2], dtype[2:]
    if not digits.isdigit() or len(data) > 8 * _COUNT_MAX:
        return ()
    endian, size = ">" if order == ">" else "<", int(digits)
    if kind == "U" and size:
        width, codec = 4 * size, "utf-32-be" if order == ">" else "utf-32-le"
        texts = (data[at : at + width] for at in range(0, len(data) // width * width, width))
        return [text.decode(codec, errors="replace").rstrip("\0") for text in texts]
    if kind == "b" and size == 1:
        return [bool(byte) for byte in data]
    form = next((one for one in _FORMS.get(kind, "") if struct.calcsize(f"<{one}") == size), "")
    if not form or len(data) % size:
        return ()
    return [value for (value,) in struct.iter_unpack(f"{endian}{form}", data)]


def npy_elements(data: bytes) -> tuple[str, Sequence[object]]:
    """The type and the elements of a small .npy file. Raises BrokenError."""
    if data[:6] != _MAGIC or len(data) < 12:
        raise BrokenError("it holds an array that is none")
    wide = data[6] >= 2
    begin = 12 if wide else 10
    end = begin + int.from_bytes(data[8:begin], "little")
    if end > len(data) or end > 64 * 1024:
        raise BrokenError("it holds an array that is none")
    try:
        header = ast.literal_eval(data[begin:end].decode("latin-1").strip())
        dtype = header["descr"]
    except (ValueError, SyntaxError, MemoryError, RecursionError, KeyError, TypeError):
        raise BrokenError("it holds an array that is none") from None
    return (dtype, elements(dtype, data[end:])) if isinstance(dtype, str) else ("", ())
