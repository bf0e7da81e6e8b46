"""Requests from the wire: bytes that are no message and text that nothing can keep are refused with the place."""

import pytest
from google.api import httpbody_pb2
from google.protobuf.struct_pb2 import Struct
from infermesh.registry.v1 import artifact_service_pb2, registry_service_pb2
from infermesh.router.v1 import router_service_pb2, traffic_rule_pb2

from services.common.errors import MeshError, Reason
from services.common.grpc.reading import Refused, lenient, strict

_Condition = traffic_rule_pb2.RouteCondition
read = strict(router_service_pb2.UpdateTrafficRequest.FromString)
assert read is not None


def refusal(wire: bytes) -> MeshError:
    assert read is not None
    with pytest.raises(MeshError) as caught:
        read(wire)
    return caught.value


@pytest.mark.parametrize("wire", [b"\n\x0bcut", b"\xff", b"\n\x02\xff\xfe", b"\x0b\x0c\x0d"])
def test_bytes_that_are_no_message_are_malformed_and_no_class_is_named(wire: bytes) -> None:
    refused = refusal(wire)
    assert refused.reason is Reason.MALFORMED_BODY
    assert "UTF-8" in str(refused)
    assert "Decode" not in str(refused)
    assert refused.__cause__ is None


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (router_service_pb2.UpdateTrafficRequest(model_name="a\0"), "model_name"),
        (router_service_pb2.UpdateTrafficRequest(traffic_split={"v1\0": 100}), "traffic_split"),
        (router_service_pb2.UpdateTrafficRequest(clear=["shadows", "\0"]), "clear[1]"),
        (
            router_service_pb2.UpdateTrafficRequest(conditions=[_Condition(), _Condition(version="\0")]),
            "conditions[1].version",
        ),
    ],
)
def test_text_with_nul_is_refused_with_the_field_and_the_rule(
    request_: router_service_pb2.UpdateTrafficRequest, field: str
) -> None:
    refused = refusal(request_.SerializeToString())
    assert refused.reason is Reason.INVALID_FIELD
    assert [item.field for item in refused.violations] == [field]
    assert "U+0000" in refused.violations[0].description


def test_nul_is_found_in_plain_json_too() -> None:
    wide = strict(registry_service_pb2.CreateModelRequest.FromString)
    assert wide is not None
    metadata = Struct()
    metadata.update({"tags": ["fine", "not\0fine"]})
    with pytest.raises(MeshError) as caught:
        wide(registry_service_pb2.CreateModelRequest(metadata=metadata).SerializeToString())
    assert caught.value.violations[0].field.startswith("metadata.")


def test_bytes_and_numbers_may_have_zeros() -> None:
    request = router_service_pb2.UpdateTrafficRequest(
        model_name="a", traffic_split={"v1": 0}, shadows=[traffic_rule_pb2.Shadow()]
    )
    assert read is not None
    assert read(request.SerializeToString()) == request
    files = strict(artifact_service_pb2.UploadArtifactRequest.FromString)
    assert files is not None
    piece = artifact_service_pb2.UploadArtifactRequest(body=httpbody_pb2.HttpBody(data=b"\0\0"))
    assert files(piece.SerializeToString()) == piece


def test_a_single_request_is_refused_later_where_it_can_be_said() -> None:
    gentle = lenient(router_service_pb2.UpdateTrafficRequest.FromString)
    assert gentle is not None
    refused = gentle(b"\xff")
    assert isinstance(refused, Refused)
    assert refused.error.reason is Reason.MALFORMED_BODY
    assert lenient(None) is strict(None) is None
