"""Every call of the contract is answered: by the router, or with what to use instead."""

import pytest
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc

from services.common.errors import MeshError, Reason
from services.router.servicers.later import LaterServicer
from services.router.servicers.router import RouterServicer

METHODS = router_service_pb2.DESCRIPTOR.services_by_name["RouterService"].methods
LATER = [method for method in METHODS if method.name in vars(LaterServicer)]


def test_no_call_is_left_to_the_generated_stub() -> None:
    base = router_service_pb2_grpc.RouterServiceServicer
    assert [one.name for one in METHODS if getattr(RouterServicer, one.name) is getattr(base, one.name)] == []


@pytest.mark.parametrize("name", [method.name for method in LATER])
async def test_what_comes_later_says_what_to_use_instead(name: str) -> None:
    method = next(one for one in LATER if one.name == name)
    request: Message = GetMessageClass(method.input_type)()
    with pytest.raises(MeshError) as raised:
        await getattr(LaterServicer, name)(None, request, None)
    assert raised.value.reason is Reason.NOT_IMPLEMENTED
    assert ";" in raised.value.message
