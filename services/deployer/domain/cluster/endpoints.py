"""Which pods answer, by the EndpointSlices of the Services that the operator makes."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.common.body import Body, at, items, namespace_of, text, whole
from services.common.kubernetes.names import DEPLOYMENT, VERSION
from services.deployer.domain.catalog import Place

PodsOf = tuple[str, str, str]
"""A namespace, a ModelDeployment's name, and a version as its label says it."""


@dataclass(frozen=True, slots=True)
class _Found:
    pod: str
    host: str
    http: int
    grpc: int


def pods_of(slices: Iterable[Body]) -> Mapping[PodsOf, Mapping[str, Place]]:
    """Where each version's ready pods are, by the pods' names as servers. A pod of two address families counts once,
    with its IPv4 address."""
    found: dict[PodsOf, dict[str, _Found]] = {}
    for one in sorted(slices, key=lambda body: (text(body, "addressType"), text(body, "metadata", "name"))):
        ports = {text(port, "name"): whole(port, "port") for port in items(one, "ports")}
        http, grpc = ports.get("http", 0), ports.get("grpc", 0)
        key = (namespace_of(one), _label(one, DEPLOYMENT), _label(one, VERSION))
        if not (http and all(key)) or text(one, "addressType") not in {"IPv4", "IPv6"}:
            continue
        pods = found.setdefault(key, {})
        for endpoint in items(one, "endpoints"):
            address = at(endpoint, "addresses", 0)
            # Absent is ready: who writes slices without conditions knows of none that is not.
            if isinstance(address, str) and at(endpoint, "conditions", "ready") is not False:
                host = f"[{address}]" if ":" in address else address
                pod = text(endpoint, "targetRef", "name", default=address.replace(":", "-"))
                pods.setdefault(pod, _Found(pod, host, http, grpc))
    return {key: {place.server_id: place for place in map(_place, pods.values())} for key, pods in found.items()}


def server_id(pod: str, host: str, http: int, grpc: int) -> str:
    """What a pod is called among servers: its name and where it is, so that a row alone says where it answered."""
    return f"{pod}@{host}:{http}:{grpc}"


def place_of(server: str) -> Place | None:
    """Where a pod is, or was, by what it is called among servers; None for what is no pod."""
    _pod, _, where = server.partition("@")
    rest, _, grpc = where.rpartition(":")
    host, _, http = rest.rpartition(":")
    if not (host and http.isdecimal() and grpc.isdecimal()):
        return None
    return Place(server, f"{host}:{http}", f"{host}:{grpc}" if int(grpc) else "")


def _place(found: _Found) -> Place:
    name = server_id(found.pod, found.host, found.http, found.grpc)
    return Place(name, f"{found.host}:{found.http}", f"{found.host}:{found.grpc}" if found.grpc else "")


def _label(body: Body, label: str) -> str:
    return text(body, "metadata", "labels", label)
