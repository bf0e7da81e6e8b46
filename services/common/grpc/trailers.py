"""How much of an error travels: what is too long for trailers is cut, so that the error itself arrives.

gRPC keeps to 8 KiB of headers and ends a call with less to say about it where they are larger; message and details
travel beside each other, escaped and in base64, and the details have the message again.
"""

from itertools import accumulate
from urllib.parse import quote

from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

MESSAGE_BYTES_MAX = 1500
"""Of a message as it travels: escaped. A letter of another script takes nine bytes."""
DETAILS_BYTES_MAX = 4700
"""Of details; base64 adds a third."""
_VIOLATIONS_MAX = 500
_ENTRIES_MAX = 4
"""Of metadata, where it does not fit as it is."""
_TEXT_BYTES_MAX = 400
"""Of a field, a description or a value of metadata, where it does not fit as it is."""
_UNESCAPED = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) != "%")
"""What gRPC sends as it is."""


def fitting_message(message: str) -> str:
    """As much of a message as trailers have room for."""
    begin = message[:MESSAGE_BYTES_MAX]
    if len(begin) == len(message) and len(escaped(message)) <= MESSAGE_BYTES_MAX:
        return message
    sizes = accumulate(len(escaped(character)) for character in begin)
    return begin[: sum(size <= MESSAGE_BYTES_MAX for size in sizes)] + "…"


def fitting_details(status: status_pb2.Status) -> bytes:
    """The details with as many violations as there is room for, the first of them in any case, and the reason."""
    details: bytes = status.SerializeToString()
    if len(details) <= DETAILS_BYTES_MAX:
        return details
    fitted = status_pb2.Status()
    fitted.CopyFrom(status)
    info, bad_request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    for detail in fitted.details:
        if detail.Unpack(info):
            for key in list(info.metadata)[_ENTRIES_MAX:]:
                del info.metadata[key]
            for key, value in list(info.metadata.items()):
                info.metadata[key] = _cut(value)
            detail.Pack(info)
        elif detail.Unpack(bad_request):
            _fit(bad_request, detail, fitted)
    return bytes(fitted.SerializeToString())


def _fit(bad_request: error_details_pb2.BadRequest, detail: any_pb2.Any, whole: status_pb2.Status) -> None:
    """Drops violations from the end until the whole fits."""
    # No more than this could fit, however short they are.
    del bad_request.field_violations[_VIOLATIONS_MAX:]
    for violation in bad_request.field_violations:
        violation.field, violation.description = _cut(violation.field), _cut(violation.description)
    detail.Pack(bad_request)
    while len(bad_request.field_violations) > 1 and whole.ByteSize() > DETAILS_BYTES_MAX:
        del bad_request.field_violations[-1]
        detail.Pack(bad_request)


def escaped(message: str) -> bytes:
    """A message as gRPC writes it."""
    return quote(message, safe=_UNESCAPED, errors="replace").encode()


def _cut(text: str) -> str:
    wire = text.encode()
    return text if len(wire) <= _TEXT_BYTES_MAX else wire[:_TEXT_BYTES_MAX].decode(errors="ignore") + "…"
