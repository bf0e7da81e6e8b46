"""The part of the scripted registry that tells of the past."""

from collections.abc import Iterator

import grpc
from google.protobuf import empty_pb2
from google.rpc import code_pb2
from infermesh.registry.v1 import change_pb2, model_version_pb2, registry_service_pb2, registry_service_pb2_grpc

from tests.integration.client.refusing import refuse


def change(number: int, name: str, action: str = "updated", reason: str = "") -> change_pb2.Change:
    """A change, made by ann."""
    kind = "version" if "@" in name else "alias" if "/" in name else "model"
    made = change_pb2.Change(
        cursor=str(number), resource_type=kind, resource_name=name, action=action, actor="ann", reason=reason
    )
    made.time.seconds = 1_770_000_000 + number
    return made


class Histories(registry_service_pb2_grpc.RegistryServiceServicer):
    """Tells `changes`; a watch is broken off after the one of the number `breaks_after`, once. Pages hold two."""

    def __init__(self) -> None:
        self.changes: list[change_pb2.Change] = []
        self.breaks_after = 0
        self.listed: list[registry_service_pb2.ListChangesRequest] = []
        self.watched: list[registry_service_pb2.WatchChangesRequest] = []
        self.traced: list[registry_service_pb2.GetLineageRequest] = []
        self.removed: list[str] = []
        self.in_use = ""

    def ListChanges(
        self, request: registry_service_pb2.ListChangesRequest, context: grpc.ServicerContext
    ) -> registry_service_pb2.ListChangesResponse:
        self.listed.append(request)
        named = [one for one in self.changes[::-1] if request.resource_name in ("", one.resource_name)]
        place = int(request.page_token or 0)
        return registry_service_pb2.ListChangesResponse(
            changes=named[place : place + 2], next_page_token=str(place + 2) if len(named) > place + 2 else ""
        )

    def WatchChanges(
        self, request: registry_service_pb2.WatchChangesRequest, context: grpc.ServicerContext
    ) -> Iterator[registry_service_pb2.WatchChangesResponse]:
        self.watched.append(request)
        behind = int(request.cursor or 0)
        yield registry_service_pb2.WatchChangesResponse(cursor=str(behind))
        for one in self.changes:
            if int(one.cursor) > behind:
                yield registry_service_pb2.WatchChangesResponse(change=one, cursor=one.cursor)
                if int(one.cursor) == self.breaks_after:
                    self.breaks_after = 0
                    context.abort(grpc.StatusCode.UNAVAILABLE, "the registry restarts")
        refuse(context, code_pb2.INVALID_ARGUMENT, "INVALID_FIELD", "the test is over")

    def GetLineage(
        self, request: registry_service_pb2.GetLineageRequest, context: grpc.ServicerContext
    ) -> registry_service_pb2.GetLineageResponse:
        self.traced.append(request)
        names = ["version:iris@v2.0.0", "version:iris@v1.0.0", "dataset:flowers", "version:rose@v1.0.0"]
        nodes = [
            model_version_pb2.LineageNode(node_id=one, kind=one.partition(":")[0], name=one.partition(":")[2])
            for one in names
        ]
        edges = [
            model_version_pb2.LineageEdge(from_node=source, to_node=made, relation=relation)
            for source, made, relation in (
                (names[1], names[0], "parent"),
                (names[2], names[1], "trained_on"),
                (names[0], names[3], "parent"),
            )
        ]
        return registry_service_pb2.GetLineageResponse(nodes=nodes, edges=edges)

    def DeleteModel(
        self, request: registry_service_pb2.DeleteModelRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        self._remove(request.model_name, context)
        return empty_pb2.Empty()

    def DeleteModelVersion(
        self, request: registry_service_pb2.DeleteModelVersionRequest, context: grpc.ServicerContext
    ) -> empty_pb2.Empty:
        self._remove(f"{request.model_name}@{request.version}", context)
        return empty_pb2.Empty()

    def _remove(self, name: str, context: grpc.ServicerContext) -> None:
        if name == self.in_use:
            refuse(context, code_pb2.FAILED_PRECONDITION, "RESOURCE_IN_USE", f"{name} is deployed as 'prod'")
        self.removed.append(name)
