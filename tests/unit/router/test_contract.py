"""Every call of the contract is answered by the router itself."""

from infermesh.router.v1 import router_service_pb2, router_service_pb2_grpc

from services.router.servicers.router import RouterServicer

METHODS = router_service_pb2.DESCRIPTOR.services_by_name["RouterService"].methods


def test_no_call_is_left_to_the_generated_stub() -> None:
    base = router_service_pb2_grpc.RouterServiceServicer
    assert [one.name for one in METHODS if getattr(RouterServicer, one.name) is getattr(base, one.name)] == []
