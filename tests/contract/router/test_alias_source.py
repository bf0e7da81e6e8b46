"""The registry's aliases, as the adapter reads them from a registry that answers over gRPC."""

from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
from infermesh.registry.v1 import change_pb2, model_pb2
from infermesh.registry.v1 import registry_service_pb2 as pb

from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.status import STATUS_DETAILS_KEY, status_from_error
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


async def got(request: pb.GetModelRequest, context: grpc.aio.ServicerContext[Any, Any]) -> model_pb2.Model:
    """One of them, refused as the registry does."""
    for model in MODELS:
        if model.name == request.model_name:
            return model
    status = status_from_error(MeshError(Reason.MODEL_NOT_FOUND, "no such model"))
    details = ((STATUS_DETAILS_KEY, status.SerializeToString()),)
    await context.abort(grpc.StatusCode.NOT_FOUND, "no such model", details)
    raise AssertionError


async def watched(
    request: pb.WatchChangesRequest, _: grpc.aio.ServicerContext[Any, Any]
) -> AsyncIterator[pb.WatchChangesResponse]:
    """Where the stream begins, a change of an alias, word that it lives, a change of a model."""
    assert (request.cursor, list(request.resource_types)) == ("", ["alias", "model"])
    yield pb.WatchChangesResponse(cursor="7")
    yield pb.WatchChangesResponse(cursor="8", change=change_pb2.Change(cursor="8", resource_name="a/champion"))
    yield pb.WatchChangesResponse(cursor="8")
    yield pb.WatchChangesResponse(cursor="9", change=change_pb2.Change(cursor="9", resource_name="c"))


async def test_all_aliases_of_all_models_are_read_and_a_registry_that_is_away_is_said_to_be() -> None:
    server, port = grpc.aio.server(), free_port()
    unary: Any = partial(
        grpc.unary_unary_rpc_method_handler, response_serializer=lambda answer: answer.SerializeToString()
    )
    stream: Any = partial(
        grpc.unary_stream_rpc_method_handler, response_serializer=lambda answer: answer.SerializeToString()
    )
    methods = {
        "ListModels": unary(listed, request_deserializer=pb.ListModelsRequest.FromString),
        "GetModel": unary(got, request_deserializer=pb.GetModelRequest.FromString),
        "WatchChanges": stream(watched, request_deserializer=pb.WatchChangesRequest.FromString),
    }
    service = pb.DESCRIPTOR.services_by_name["RegistryService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        source = RegistryAliasSource(channel)
        assert await source.every() == {
            "a": {"champion": "v1.0.0", "next": "v2.0.0"},
            "c": {"champion": "v3.0.0"},
        }
        assert await source.of("a") == {"champion": "v1.0.0", "next": "v2.0.0"}
        assert await source.of("nothing") == {}
        assert [model async for model in source.changes()] == ["", "a", "", "c"]
        await server.stop(grace=None)
        with pytest.raises(MeshError):
            await anext(aiter(source.changes()))
        with pytest.raises(MeshError) as raised:
            await source.every()
        assert raised.value.reason is Reason.DEPENDENCY_UNAVAILABLE
