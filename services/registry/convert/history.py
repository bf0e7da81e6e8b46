"""The audit log between its protobuf and domain forms."""

from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp
from infermesh.registry.v1 import change_pb2, model_version_pb2, registry_service_pb2

from services.common.errors import invalid
from services.registry.convert.values import object_to_proto, timestamp
from services.registry.domain.changes import Change, Wanted
from services.registry.domain.lineage import Graph
from services.registry.engines.following import Step

_YEAR_10000_S = 253_402_300_800


def list_from_proto(message: registry_service_pb2.ListChangesRequest) -> Wanted:
    """Which changes a page is to show. Raises INVALID_FIELD."""
    return Wanted(
        resource_types=(message.resource_type,) if message.resource_type else (),
        resource_name=message.resource_name,
        actor=message.actor,
        team=message.team,
        start=_moment(message.start_time, "start_time") if message.HasField("start_time") else None,
        end=_moment(message.end_time, "end_time") if message.HasField("end_time") else None,
    )


def watch_from_proto(message: registry_service_pb2.WatchChangesRequest) -> Wanted:
    """Which changes are followed."""
    return Wanted(resource_types=tuple(message.resource_types), model_name=message.model_name)


def change_to_proto(change: Change) -> change_pb2.Change:
    """The wire form of a change."""
    return change_pb2.Change(
        cursor=str(change.number),
        resource_type=change.resource_type,
        resource_name=change.resource_name,
        action=change.action,
        actor=change.actor,
        team=change.team,
        request_id=change.request_id,
        reason=change.reason,
        before=object_to_proto(change.before) if change.before is not None else None,
        after=object_to_proto(change.after) if change.after is not None else None,
        time=timestamp(change.time),
    )


def step_to_proto(step: Step) -> registry_service_pb2.WatchChangesResponse:
    """The wire form of a step of a stream."""
    return registry_service_pb2.WatchChangesResponse(
        change=change_to_proto(step.change) if step.change is not None else None, cursor=step.cursor
    )


def graph_to_proto(graph: Graph) -> registry_service_pb2.GetLineageResponse:
    """The wire form of a lineage."""
    return registry_service_pb2.GetLineageResponse(
        nodes=[
            model_version_pb2.LineageNode(node_id=node.node_id, kind=node.kind, name=node.name) for node in graph.nodes
        ],
        edges=[
            model_version_pb2.LineageEdge(
                from_node=edge.source.node_id, to_node=edge.made.node_id, relation=edge.relation
            )
            for edge in graph.edges
        ],
        truncated=graph.truncated,
    )


def _moment(stamp: Timestamp, field: str) -> datetime:
    # The years that a PostgreSQL timestamp and a datetime both have.
    if not 0 <= stamp.seconds < _YEAR_10000_S or not 0 <= stamp.nanos < 1_000_000_000:
        raise invalid(field, f"{stamp.seconds} s", "a moment between the years 1970 and 9999")
    return datetime.fromtimestamp(stamp.seconds, UTC).replace(microsecond=stamp.nanos // 1000)
