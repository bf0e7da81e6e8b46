"""Messages that nobody would send, generated out of the contracts: odd texts, extreme numbers, deep and long values,
fields that nobody knows, and bytes that are no message at all.
"""

import math
from collections.abc import Callable
from typing import cast

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value
from hypothesis import strategies as st

_NO_TEXT = "\x01NO-UTF8"
"""Stands in texts for bytes that are no UTF-8, which Python would not let into a message."""
_NO_TEXT_BYTES = b"\xff\xfe\xc0\x80\xed\xa0\x80\xf8"
assert len(_NO_TEXT) == len(_NO_TEXT_BYTES)

TEXTS = (
    "",
    " ",
    "\x00",
    "a\x00b",
    "a\nb\r\n: c",
    "\U0001f600" * 20,
    "e\u0301\u0301\u0301",
    "\u202eevil\u202c",
    "\ufeff",
    "'; DROP TABLE models; --",
    "1 OR 1=1",
    "%s%n{}${jndi:ldap://x}",
    "../../../../etc/passwd",
    "file:///etc/shadow",
    "http://169.254.169.254/latest/meta-data",
    "s3://",
    "<script>alert(1)</script>",
    "v1.0.0",
    "-1",
    "NaN",
    "a" * 10_000,
    _NO_TEXT,
)
_DOUBLES = (0.0, -0.0, -1.0, 0.5, 1e308, -1e308, 5e-324, math.nan, math.inf, -math.inf, 2.0**53 + 2)
_SIGNED = (0, 1, -1, 50, 2**31 - 1, -(2**31))
_LONG = (0, 1, -1, 2**63 - 1, -(2**63))
_DEPTH_MAX = 3

texts = st.one_of(
    st.sampled_from(TEXTS), st.text(max_size=40).filter(lambda text: text.isprintable() or len(text) < 20)
)


def _deep(levels: int) -> Value:
    value = Value(null_value=NullValue.NULL_VALUE)
    for _ in range(levels):
        value = Value(list_value=ListValue(values=[value]))
    return value


def _struct() -> Struct:
    struct = Struct()
    struct.fields["\x00"].number_value = math.nan
    struct.fields["deep"].CopyFrom(_deep(40))
    struct.fields[""].string_value = "'; --"
    return struct


_SCALARS: dict[int, st.SearchStrategy[object]] = {
    FieldDescriptor.CPPTYPE_DOUBLE: st.sampled_from(_DOUBLES),
    FieldDescriptor.CPPTYPE_FLOAT: st.sampled_from([0.0, -1.0, math.nan, math.inf, 3e38]),
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from(_SIGNED),
    FieldDescriptor.CPPTYPE_UINT32: st.sampled_from([0, 1, 100, 2**32 - 1]),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from(_LONG),
    FieldDescriptor.CPPTYPE_UINT64: st.sampled_from([0, 1, 2**64 - 1]),
    FieldDescriptor.CPPTYPE_BOOL: st.booleans(),
    FieldDescriptor.CPPTYPE_ENUM: st.sampled_from([0, 1, 2, 999, -5]),
}


def _scalar(field: FieldDescriptor) -> st.SearchStrategy[object]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if field.type == FieldDescriptor.TYPE_BYTES:
            return st.binary(max_size=64)
        return texts
    return _SCALARS[field.cpp_type]


def _fill(message: Message, draw: Callable[[st.SearchStrategy[object]], object], *, depth: int) -> None:
    if isinstance(message, Struct):
        message.CopyFrom(_struct())
        return
    if isinstance(message, Value):
        message.CopyFrom(_deep(30))
        return
    for field in message.DESCRIPTOR.fields:
        # What the sample has stays more often than not: what is wrong all over is refused at the first look.
        if not draw(st.sampled_from([True, False, False])):
            continue
        _set(message, cast("FieldDescriptor", field), draw, depth=depth)


def _set(
    message: Message, field: FieldDescriptor, draw: Callable[[st.SearchStrategy[object]], object], *, depth: int
) -> None:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        container, value = getattr(message, field.name), entry.fields_by_name["value"]
        key = draw(_scalar(entry.fields_by_name["key"]))
        if value.message_type is None:
            container[key] = draw(_scalar(value))
        elif depth < _DEPTH_MAX:
            _fill(container[key], draw, depth=depth + 1)
    elif field.is_repeated:
        container, count = getattr(message, field.name), draw(st.sampled_from([1, 2, 200]))
        assert isinstance(count, int)
        if entry is None:
            container.extend([draw(_scalar(field))] * count)
        elif depth < _DEPTH_MAX:
            _fill(container.add(), draw, depth=depth + 1)
            container.extend([container[0]] * (count - 1))
    elif entry is None:
        setattr(message, field.name, draw(_scalar(field)))
    elif depth < _DEPTH_MAX:
        getattr(message, field.name).SetInParent()
        _fill(getattr(message, field.name), draw, depth=depth + 1)


@st.composite
def mangled(draw: st.DrawFn, sample: Message) -> bytes:
    """A request on the wire: `sample` with some of its fields made odd, or no message at all."""
    kind = draw(
        st.sampled_from(["one field", "one field", "one field", "message", "message", "unknown", "cut", "garbage"])
    )
    if kind == "garbage":
        return draw(st.binary(min_size=1, max_size=200))
    message = type(sample).FromString(sample.SerializeToString())
    if kind == "one field" and message.DESCRIPTOR.fields:
        # All else as it should be: this gets furthest.
        name = draw(st.sampled_from(list(message.DESCRIPTOR.fields_by_name)))
        _set(message, cast("FieldDescriptor", message.DESCRIPTOR.fields_by_name[name]), draw, depth=0)
    else:
        _fill(message, draw, depth=0)
    wire = message.SerializeToString().replace(_NO_TEXT.encode(), _NO_TEXT_BYTES)
    if kind == "unknown":
        return wire + b"\xfa\xff\xff\x7f\x03abc" + b"\xf8\xff\xff\x7f\x01"
    return wire[: len(wire) // 2] if kind == "cut" else wire
