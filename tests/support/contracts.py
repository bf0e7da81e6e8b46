"""The descriptors of all contracts, read from the generated code."""

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path

import infermesh.registry.v1.team_service_pb2
from google.protobuf.descriptor import MethodDescriptor

_GENERATED = Path(infermesh.registry.v1.team_service_pb2.__file__).parents[3]


@functools.cache
def every_method() -> Mapping[str, MethodDescriptor]:
    """Every method under `infermesh` and `inference`, by its full name ("/package.Service/Method")."""
    found: dict[str, MethodDescriptor] = {}
    for folder in ("infermesh", "inference"):
        for path in sorted((_GENERATED / folder).rglob("*_pb2.py")):
            name = ".".join(path.relative_to(_GENERATED).with_suffix("").parts)
            for service in importlib.import_module(name).DESCRIPTOR.services_by_name.values():
                found |= {f"/{service.full_name}/{method.name}": method for method in service.methods}
    return found
