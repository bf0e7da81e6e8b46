"""The registry's aliases, as the adapter reads them from a registry that answers over gRPC."""

from typing import Any

import grpc
import pytest
from infermesh.registry.v1 import model_pb2
from infermesh.registry.v1 import registry_service_pb2 as pb

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.router.adapters.registry import RegistryAliasSource
from tests.support.parts import free_port

MODELS = [
    model_pb2.Model(name="a", aliases={"champion": "v1.0.0", "next": "v2.0.0"}),
    model_pb2.Model(name="b"),
    model_pb2.Model(name="c", aliases={"champion": "v3.0.0"}),
]


async def listed(request: pb.ListModelsRequest, _: grpc.aio.ServicerContext[Any, Any]) -> pb.ListModelsResponse:
    """Pages of one."""
    place = int(request.page_token or 0)
    return pb.ListModelsResponse(
        models=MODELS[place : place + 1], next_page_token=str(place + 1) if place + 1 < len(MODELS) else ""
    )


async def test_all_aliases_of_all_models_are_read_and_a_registry_that_is_away_is_said_to_be() -> None:
    server, port = grpc.aio.server(), free_port()
    method: Any = grpc.unary_unary_rpc_method_handler(
        listed,
        request_deserializer=pb.ListModelsRequest.FromString,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    service = pb.DESCRIPTOR.services_by_name["RegistryService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"ListModels": method}),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        source = RegistryAliasSource(channel)
        assert await source.every() == {
            "a": {"champion": "v1.0.0", "next": "v2.0.0"},
            "c": {"champion": "v3.0.0"},
        }
        await server.stop(grace=None)
        with pytest.raises(MeshError) as raised:
            await source.every()
        assert raised.value.reason is Reason.DEPENDENCY_UNAVAILABLE
