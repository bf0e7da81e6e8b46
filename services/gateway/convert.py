"""Messages of xDS, state of the world, as values and back."""

from google.protobuf.message import DecodeError
from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.gateway.domain.messages import Request, Response

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NAME_FIELD = 1
"""Every resource of Envoy's has its name, or that of its cluster, in field 1."""


def request_from(body: bytes) -> Request:
    """What a gateway says. Raises DecodeError where it is no such message."""
    message = discovery_pb2.DiscoveryRequest.FromString(body)
    refused = message.HasField("error_detail")
    return Request(
        type_url=message.type_url,
        body=body,
        node=message.node.id,
        version=message.version_info,
        names=frozenset(message.resource_names),
        nonce=message.response_nonce,
        refusal=(message.error_detail.message or "refused without a reason") if refused else "",
    )


def response_from(body: bytes) -> Response:
    """What the router says. Raises DecodeError where it is no such message."""
    message = discovery_pb2.DiscoveryResponse.FromString(body)
    resources = {name_of(resource.value): resource.SerializeToString() for resource in message.resources}
    return Response(message.type_url, message.version_info, message.nonce, resources, body)


def without_version(request: Request) -> bytes:
    """The request of a gateway that has nothing of this type."""
    message = discovery_pb2.DiscoveryRequest.FromString(request.body)
    message.version_info = ""
    return bytes(message.SerializeToString())


def response_bytes(response: Response) -> bytes:
    """A response that did not come as a message, as one."""
    message = discovery_pb2.DiscoveryResponse(
        type_url=response.type_url, version_info=response.version, nonce=response.nonce
    )
    for resource in response.resources.values():
        message.resources.add().ParseFromString(resource)
    return bytes(message.SerializeToString())


def name_of(resource: bytes) -> str:
    """The name in a serialised resource, found without knowing the rest of it: listeners need the descriptors of all
    that may be in them. Raises DecodeError where there is none."""
    place = 0
    try:
        while place < len(resource):
            key, place = _varint(resource, place)
            kind, length = key & 7, {_FIXED64: 8, _FIXED32: 4}.get(key & 7, 0)
            if kind == _VARINT:
                _, place = _varint(resource, place)
            elif kind == _BYTES:
                length, place = _varint(resource, place)
                if key >> 3 == _NAME_FIELD and place + length <= len(resource):
                    return resource[place : place + length].decode()
            elif not length:
                break
            place += length
    except (IndexError, UnicodeDecodeError):
        raise DecodeError("the message ends in the middle of a field, or its name is no text") from None
    raise DecodeError("a resource without a name")


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """The number there, and the place after it. Raises IndexError where the data end first."""
    number, shift = 0, 0
    while True:
        digit = data[place]
        place += 1
        number |= (digit & 0x7F) << shift
        if digit < 0x80:
            return number, place
        shift += 7
