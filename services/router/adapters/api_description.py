"""The OpenAPI document that was generated with the stubs of the contracts, and lies beside them."""

from pathlib import Path

from infermesh.router.v1 import router_service_pb2


def api_description() -> bytes:
    """The document, in JSON. Raises OSError where the stubs came without it."""
    return Path(router_service_pb2.__file__).parents[2].joinpath("openapi.json").read_bytes()
