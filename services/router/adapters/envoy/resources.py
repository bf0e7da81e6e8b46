"""What Envoys are told, as one immutable value: for each type of resource its version and the packed resources."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from google.protobuf import any_pb2
from google.protobuf.message import Message

_PREFIX = "type.googleapis.com/envoy.config."
SECRETS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
EXTENSIONS = f"{_PREFIX}core.v3.TypedExtensionConfig"
CLUSTER = f"{_PREFIX}cluster.v3.Cluster"
ENDPOINTS = f"{_PREFIX}endpoint.v3.ClusterLoadAssignment"
LISTENER = f"{_PREFIX}listener.v3.Listener"
SCOPES = f"{_PREFIX}route.v3.ScopedRouteConfiguration"
ROUTES = f"{_PREFIX}route.v3.RouteConfiguration"
TYPES = (CLUSTER, ENDPOINTS, SECRETS, EXTENSIONS, LISTENER, SCOPES, ROUTES)
"""In the order in which they are sent, so that nothing is named before it is there."""
IN_PARTS = (SECRETS, EXTENSIONS, ROUTES)
"""Of these an Envoy is sent what it lacks and no more; one that is refused keeps no other from it."""

_DIGEST_LENGTH = 12


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource: its name, its serialised message and what tells that from others."""

    name: str
    value: bytes
    digest: str


@dataclass(frozen=True, slots=True)
class ResourceSet:
    """All resources of one type."""

    version: str
    """The same for the same resources, also from another process: an Envoy that has them is not sent them again."""
    resources: tuple[Resource, ...]

    def named(self, names: frozenset[str]) -> Sequence[Resource]:
        """Those that are called so, or all where `names` is empty."""
        return [item for item in self.resources if not names or item.name in names]


Snapshot = Mapping[str, ResourceSet]
"""All that Envoys are told at one moment, by type."""


def resource_set(resources: Sequence[Resource], *, revision: int | None = None) -> ResourceSet:
    """The resources under a version made of the revision, where there is one, and of their content. Content counts as
    well because another release of the router may say the same revision differently."""
    content = _digest(" ".join(f"{item.name} {item.digest}" for item in resources).encode())
    return ResourceSet(content if revision is None else f"{revision}-{content}", tuple(resources))


def resource(name: str, message: Message) -> Resource:
    """A message as a resource. The same message gives the same bytes."""
    return serialised(name, message.SerializeToString(deterministic=True))


def serialised(name: str, value: bytes) -> Resource:
    """A message that is serialised as a resource."""
    return Resource(name, value, _digest(value))


def packed(type_url: str, resources: Sequence[Resource]) -> list[any_pb2.Any]:
    """As they are sent."""
    return [any_pb2.Any(type_url=type_url, value=item.value) for item in resources]


def revision_of(version: str) -> int:
    """The revision in a version that has one; 0 where it has none."""
    head, found, _ = version.partition("-")
    return int(head) if found and head.isdecimal() else 0


def _digest(value: bytes) -> str:
    return hashlib.sha256(value).hexdigest()[:_DIGEST_LENGTH]
