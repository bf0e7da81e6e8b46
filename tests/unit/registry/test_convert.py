"""Requests between their protobuf and domain forms."""

import pytest
from infermesh.registry.v1 import registry_service_pb2

from services.common.grpc.identity import Identity
from services.registry.convert.versions import registration_from_proto
from services.registry.domain.registration import JSON_BYTES_MAX


@pytest.mark.parametrize("name", ["input_schema", "output_schema", "metadata"])
def test_an_object_that_is_far_too_large_is_refused_unread(name: str) -> None:
    request = registry_service_pb2.CreateModelRequest()
    getattr(request, name)["x"] = "a" * (6 * JSON_BYTES_MAX)
    asked, violations = registration_from_proto(request, Identity())
    assert getattr(asked, name) == {}
    assert [(one.field, str(JSON_BYTES_MAX) in one.description) for one in violations] == [(name, True)]


def test_an_object_within_its_bound_is_read_however_large_on_the_wire() -> None:
    request = registry_service_pb2.CreateModelRequest()
    request.metadata["x"] = [1] * (JSON_BYTES_MAX // 3 - 10)
    asked, violations = registration_from_proto(request, Identity())
    assert violations == []
    assert len(asked.metadata) == 1
