"""The calls whose contract is final and whose behaviour is not built yet. Each says what to use instead."""

from collections.abc import Callable
from typing import Never, cast

from infermesh.registry.v1 import registry_service_pb2_grpc

from services.common.errors import MeshError, Reason


def later(sentence: str) -> Callable[..., Never]:
    """A method, unary or streaming, that answers UNIMPLEMENTED with `sentence`."""

    async def refuse(_servicer: object, _request: object, _context: object) -> Never:
        raise MeshError(Reason.NOT_IMPLEMENTED, sentence)

    return cast("Callable[..., Never]", refuse)


_IMPORT = "other registries cannot be imported yet; CreateModel registers one ONNX file at a time"


class LaterRegistryMethods(registry_service_pb2_grpc.RegistryServiceServicer):
    """All that RegistryService does not do yet."""

    ImportModels = later(_IMPORT)
