"""Pickles read as a tape: what loading one would import and make, without importing or making any of it.

The opcodes are followed on inert values. joblib writes the bytes of arrays between the opcodes, behind the object that
describes each; they are stepped over. A pickle that is made to confuse this reader gains nothing: pickles count as
code whatever is read of them.
"""

import pickletools
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import BinaryIO

from services.registry.adapters.readers.pickle_nodes import Global, Made, Mark, Opaque
from services.registry.adapters.readers.refused import BrokenError, RefusedError

_OPCODES: Mapping[int, pickletools.OpcodeInfo] = {ord(one.code): one for one in pickletools.opcodes}
_OPS_MAX = 2_000_000
_STACK_MAX = 500_000
_MEMO_MAX = 1_000_000
_GLOBALS_MAX = 1000
_NESTED_MAX = 64
_LINE_BYTES_MAX = 64 * 1024
_KEPT_BYTES_MAX = 64 * 1024
"""Longer texts and bytes are stepped over: names and classes are short."""
_KEPT_TOTAL_BYTES_MAX = 64 * 1024 * 1024
_BROKEN = "it is no pickle, or the end of it is missing"
_LENGTHS = {
    pickletools.TAKEN_FROM_ARGUMENT1: 1,
    pickletools.TAKEN_FROM_ARGUMENT4: 4,
    pickletools.TAKEN_FROM_ARGUMENT4U: 4,
    pickletools.TAKEN_FROM_ARGUMENT8U: 8,
}
_ARRAY_WRAPPER = "NumpyArrayWrapper"
_TEXTS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8", "BYTEARRAY8"}


@dataclass(frozen=True, slots=True)
class Tape:
    """What a pickle describes, what loading it would import, and whether joblib wrote it."""

    value: object
    imports: tuple[str, ...]
    joblib: bool


def read_pickle(stream: BinaryIO, size_bytes: int) -> Tape:
    """Reads the first pickle of a file. Raises RefusedError."""
    stream.seek(0)
    machine = _Machine(stream, size_bytes, {})
    value = machine.run()
    return Tape(value, tuple(sorted(machine.imports)), machine.joblib)


class _Machine:
    def __init__(self, stream: BinaryIO, size_bytes: int, imports: dict[str, None], *, depth: int = 0) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._depth = depth
        self._stack: list[object] = []
        self._memo: dict[int, object] = {}
        self.imports = imports
        self.joblib = False
        self._kept_bytes = 0

    def run(self) -> object:
        """Follows the tape to its end."""
        try:
            for _ in range(_OPS_MAX):
                code = self._stream.read(1)
                opcode = _OPCODES.get(code[0]) if code else None
                if opcode is None:
                    raise BrokenError(_BROKEN)
                argument = self._argument(opcode)
                if opcode.name == "STOP":
                    return self._stack.pop()
                self._do(opcode.name, argument)
                if len(self._stack) > _STACK_MAX or len(self._memo) > _MEMO_MAX:
                    break
        except (IndexError, KeyError, TypeError, ValueError, struct.error):
            raise BrokenError(_BROKEN) from None
        raise RefusedError("it is a pickle of too many parts to be read")

    def _argument(self, opcode: pickletools.OpcodeInfo) -> bytes | None:
        """The raw bytes behind an opcode; None where they are too long to be of interest."""
        if opcode.arg is None:
            return b""
        length = opcode.arg.n
        if length == pickletools.UP_TO_NEWLINE:
            lines = 2 if opcode.name in ("GLOBAL", "INST") else 1
            return b"\n".join(self._line() for _ in range(lines))
        if length < 0:
            length = int.from_bytes(self._read(_LENGTHS[length]), "little")
        return self._kept(length)

    def _kept(self, length: int) -> bytes | None:
        """So many bytes; None where they are stepped over."""
        self._kept_bytes += length if length <= _KEPT_BYTES_MAX else 0
        if length > _KEPT_BYTES_MAX or self._kept_bytes > _KEPT_TOTAL_BYTES_MAX:
            self._step(length)
            return None
        return self._read(length)

    def _line(self) -> bytes:
        line = self._stream.readline(_LINE_BYTES_MAX)
        self._kept_bytes += len(line)
        if not line.endswith(b"\n") or self._kept_bytes > _KEPT_TOTAL_BYTES_MAX:
            raise BrokenError(_BROKEN)
        return line[:-1]

    def _read(self, count: int) -> bytes:
        data = self._stream.read(count)
        if len(data) < count:
            raise BrokenError(_BROKEN)
        return data

    def _step(self, count: int) -> None:
        at = self._stream.tell() + count
        if at > self._size_bytes:
            raise BrokenError(_BROKEN)
        self._stream.seek(at)

    def _do(self, name: str, raw: bytes | None) -> None:
        action = _ACTIONS.get(name)
        if action is not None:
            action(self)
        elif name in _TEXTS:
            self.push(Opaque("a long text") if raw is None else _text(name, raw))
        elif name in _BYTES:
            self.push(Opaque("bytes") if raw is None else raw)
        elif raw is None:
            self.push(Opaque("a long value"))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
            self._memo[_index(name, raw)] = self._stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            self.push(self._memo[_index(name, raw)])
        elif name in ("GLOBAL", "INST"):
            module, _, member = raw.decode(errors="replace").partition("\n")
            self.push(self.imported(module, member))
            if name == "INST":
                maker = self._stack.pop()
                self.push(Made(maker, tuple(self.group())))
        elif name not in ("PROTO", "FRAME"):
            self.push(_number(name, raw))

    def push(self, value: object) -> None:
        """Puts a value on the stack."""
        self._stack.append(value)

    def pop(self) -> object:
        """Takes the topmost value; a mark is none."""
        value = self._stack.pop()
        if isinstance(value, Mark):
            raise BrokenError(_BROKEN)
        return value

    def group(self) -> list[object]:
        """Takes everything down to the last mark."""
        found: list[object] = []
        while not isinstance(value := self._stack.pop(), Mark):
            found.append(value)
        return found[::-1]

    def top(self) -> object:
        """The topmost value."""
        return self._stack[-1]

    def imported(self, module: object, name: object) -> Global:
        """Notes an import."""
        known = isinstance(module, str) and isinstance(name, str) and len(module) + len(name) <= 512
        found = Global(str(module), str(name)) if known else Global("(computed)", "")
        if len(self.imports) >= _GLOBALS_MAX:
            raise RefusedError(f"it is a pickle that imports more than {_GLOBALS_MAX} things")
        self.imports[str(found)] = None
        return found

    def memoize(self) -> None:
        """Remembers the topmost value under the next number."""
        self._memo[len(self._memo)] = self._stack[-1]

    def built(self) -> None:
        """Puts a state into the topmost value; steps over the array that joblib has written behind a wrapper."""
        state = self.pop()
        target = self.top()
        if not isinstance(target, Made):
            return
        target.state = state
        if target.name.rpartition(".")[2] == _ARRAY_WRAPPER:
            self.joblib = True
            self._array(target)

    def _array(self, wrapper: Made) -> None:
        kind = wrapper.attributes.get("dtype")
        if dtype_of(kind).startswith("|O") or dtype_of(kind) == "O8":
            if self._depth >= _NESTED_MAX:
                raise RefusedError("it is a pickle that nests too deeply")
            inner = _Machine(self._stream, self._size_bytes, self.imports, depth=self._depth + 1)
            wrapper.members["content"] = inner.run()
            return
        if wrapper.attributes.get("numpy_array_alignment_bytes") is not None:
            self._step(self._read(1)[0])
        length = item_bytes(kind)
        shape = wrapper.attributes.get("shape")
        for size in shape if isinstance(shape, tuple) else ():
            if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= self._size_bytes:
                raise BrokenError(_BROKEN)
            length *= size
        wrapper.members["content"] = self._kept(length)


def dtype_of(kind: object) -> str:
    """numpy's short name of an element type that a pickle describes, for instance "<f8" or "|O"; "" for none."""
    if not isinstance(kind, Made) or not kind.name.endswith(".dtype"):
        return ""
    first = kind.arguments[0] if isinstance(kind.arguments, tuple) and kind.arguments else ""
    order = kind.state[1] if isinstance(kind.state, tuple) and len(kind.state) > 1 else "|"
    return f"{order}{first}" if isinstance(first, str) and isinstance(order, str) else ""


def item_bytes(kind: object) -> int:
    """Bytes of one element. Raises BrokenError where the type is not known."""
    name = dtype_of(kind)
    digits = name[2:]
    if not digits.isdigit() or len(digits) > 6 or name[1] not in "biufcSUVmM?":
        raise BrokenError(_BROKEN)
    return int(digits) * (4 if name[1] == "U" else 1)


def _index(name: str, raw: bytes) -> int:
    return int(raw) if name in ("PUT", "GET") else int.from_bytes(raw, "little")


def _text(name: str, raw: bytes) -> str:
    if name == "STRING":
        raw = raw.strip()[1:-1]
    if name == "UNICODE":
        return raw.decode("raw-unicode-escape", errors="replace")
    return raw.decode("utf-8", errors="replace")


def _number(name: str, raw: bytes) -> object:
    if name in ("INT", "LONG"):
        text = raw.strip().rstrip(b"L")
        if len(text) > 100:
            raise BrokenError(_BROKEN)
        return {b"00": False, b"01": True}.get(text) if name == "INT" and text in (b"00", b"01") else int(text)
    if name == "FLOAT":
        return float(raw)
    if name == "BINFLOAT":
        return struct.unpack(">d", raw)[0]
    if name in ("BININT", "LONG1", "LONG4"):
        return int.from_bytes(raw[:64], "little", signed=True)
    if name in ("BININT1", "BININT2"):
        return int.from_bytes(raw, "little")
    return Opaque(name)  # EXT*, PERSID: what other code would supply


def _append(machine: _Machine, values: list[object]) -> None:
    target = machine.top()
    if isinstance(target, list):
        target.extend(values)
    elif isinstance(target, set):
        target.update(value for value in values if isinstance(value, str | int | float | bytes))
    elif isinstance(target, Made):
        target.items.extend(values)


def _set_items(machine: _Machine, values: list[object]) -> None:
    target = machine.top()
    into = target.members if isinstance(target, Made) else target
    if isinstance(into, dict):
        for key, value in zip(values[::2], values[1::2], strict=True):
            if isinstance(key, str | int | float | bytes | bool | None):
                into[key] = value


def _tuple(count: int) -> Callable[[_Machine], None]:
    def make(machine: _Machine) -> None:
        values = [machine.pop() for _ in range(count)]
        machine.push(tuple(values[::-1]))

    return make


def _reduce(machine: _Machine) -> None:
    arguments, maker = machine.pop(), machine.pop()
    machine.push(Made(maker, arguments))


def _new_with_keywords(machine: _Machine) -> None:
    machine.pop()
    _reduce(machine)


def _stack_global(machine: _Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(machine.imported(module, name))


def _object(machine: _Machine) -> None:
    maker, *arguments = machine.group()
    machine.push(Made(maker, tuple(arguments)))


def _dict(machine: _Machine) -> None:
    values = machine.group()
    machine.push({})
    _set_items(machine, values)


def _set_item(machine: _Machine) -> None:
    value, key = machine.pop(), machine.pop()
    _set_items(machine, [key, value])


_ACTIONS: Mapping[str, Callable[[_Machine], object]] = {
    "MARK": lambda m: m.push(Mark()),
    "POP": lambda m: m._stack.pop(),  # noqa: SLF001
    "POP_MARK": lambda m: m.group(),
    "DUP": lambda m: m.push(m.top()),
    "NONE": lambda m: m.push(None),
    "NEWTRUE": lambda m: m.push(True),
    "NEWFALSE": lambda m: m.push(False),
    "EMPTY_DICT": lambda m: m.push({}),
    "EMPTY_LIST": lambda m: m.push([]),
    "EMPTY_TUPLE": lambda m: m.push(()),
    "EMPTY_SET": lambda m: m.push(set()),
    "APPEND": lambda m: _append(m, [m.pop()]),
    "APPENDS": lambda m: _append(m, m.group()),
    "ADDITEMS": lambda m: _append(m, m.group()),
    "SETITEM": _set_item,
    "SETITEMS": lambda m: _set_items(m, m.group()),
    "TUPLE": lambda m: m.push(tuple(m.group())),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "LIST": lambda m: m.push(m.group()),
    "FROZENSET": lambda m: m.push(tuple(m.group())),
    "DICT": _dict,
    "STACK_GLOBAL": _stack_global,
    "REDUCE": _reduce,
    "NEWOBJ": _reduce,
    "NEWOBJ_EX": _new_with_keywords,
    "OBJ": _object,
    "BUILD": lambda m: m.built(),
    "MEMOIZE": lambda m: m.memoize(),
    "BINPERSID": lambda m: m.push(Opaque(f"persistent {type(m.pop()).__name__}")),
    "NEXT_BUFFER": lambda m: m.push(Opaque("bytes")),
    "READONLY_BUFFER": lambda _: None,
}
