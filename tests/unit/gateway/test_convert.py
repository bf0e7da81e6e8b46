"""Messages of xDS as values: what is read of them, and that what passes is not touched."""

import pytest
from google.protobuf.message import DecodeError
from meshxds.envoy.config.endpoint.v3 import endpoint_pb2
from meshxds.envoy.config.route.v3 import route_pb2
from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.gateway.convert import name_of, request_from, response_bytes, response_from, without_version
from services.gateway.domain.messages import Response

TYPE = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


def message() -> discovery_pb2.DiscoveryResponse:
    found = discovery_pb2.DiscoveryResponse(type_url=TYPE, version_info="7-abc", nonce="3")
    for name in ("start", "models-0"):
        found.resources.add().Pack(route_pb2.RouteConfiguration(name=name, vhost_header="x-mesh-model"))
    return found


def test_a_request_says_who_asks_for_what_and_what_it_refused() -> None:
    sent = discovery_pb2.DiscoveryRequest(
        type_url=TYPE, version_info="7-abc", resource_names=["a", "b"], response_nonce="3"
    )
    sent.node.id = "gateway-0"
    body = sent.SerializeToString()
    request = request_from(body)
    assert (request.node, request.type_url, request.version) == ("gateway-0", TYPE, "7-abc")
    assert (sorted(request.names), request.nonce, request.refusal, request.body) == (["a", "b"], "3", "", body)
    sent.error_detail.message = "no such cluster"
    assert request_from(sent.SerializeToString()).refusal == "no such cluster"
    sent.error_detail.message = ""
    assert request_from(sent.SerializeToString()).refusal == "refused without a reason"
    again = discovery_pb2.DiscoveryRequest.FromString(without_version(request))
    assert again == discovery_pb2.DiscoveryRequest(
        type_url=TYPE, resource_names=["a", "b"], response_nonce="3", node=sent.node
    )


def test_a_response_is_its_resources_by_name_and_can_be_said_again() -> None:
    body = message().SerializeToString()
    response = response_from(body)
    assert (response.version, response.nonce, list(response.resources)) == ("7-abc", "3", ["start", "models-0"])
    assert response.body == body
    said = response_bytes(Response(TYPE, "7-abc", "3", response.resources))
    assert discovery_pb2.DiscoveryResponse.FromString(said) == message()


def test_a_name_is_found_behind_other_fields() -> None:
    rest = route_pb2.RouteConfiguration(vhost_header="x", validate_clusters={"value": True}).SerializeToString()
    fixed = bytes([(9 << 3) | 5]) + b"1234" + bytes([(8 << 3) | 1]) + b"12345678" + bytes([(7 << 3) | 0, 0x81, 1])
    assert name_of(fixed + rest + route_pb2.RouteConfiguration(name="ü").SerializeToString()) == "ü"
    assert name_of(endpoint_pb2.ClusterLoadAssignment(cluster_name="batcher").SerializeToString()) == "batcher"


@pytest.mark.parametrize(
    "broken", [b"", b"\x12\x01x", b"\x12\xff", b"\x0a\x02\xff\xfe", b"\x13", b"\x80", b"\x0a\x05ab"]
)
def test_a_resource_without_a_name_is_refused(broken: bytes) -> None:
    with pytest.raises(DecodeError):
        name_of(broken)
