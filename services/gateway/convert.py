"""Messages of xDS, state of the world, as values and back."""

from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.gateway.domain.messages import Request, Response


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
    return Response(message.type_url, message.version_info, message.nonce, body)


def without_version(request: Request) -> bytes:
    """The request of a gateway that has nothing of this type."""
    message = discovery_pb2.DiscoveryRequest.FromString(request.body)
    message.version_info = ""
    return bytes(message.SerializeToString())


def with_nonce(response: Response, nonce: str) -> bytes:
    """The response under another nonce."""
    message = discovery_pb2.DiscoveryResponse.FromString(response.body)
    message.nonce = nonce
    return bytes(message.SerializeToString())
