"""What one Envoy has asked for, been sent and taken, by the rules of xDS, state of the world. No I/O.

An Envoy asks once for each type and then answers every response, with its nonce: version as sent means taken; an
`error_detail` means refused, and the Envoy goes on with what it had. What was refused is not sent again; the next
version is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.router.adapters.envoy.resources import CLUSTER, ENDPOINTS, LISTENER, ROUTES, TYPES, Snapshot, revision_of

_FOLLOWERS = {CLUSTER: ENDPOINTS, LISTENER: ROUTES}
"""A cluster or a listener that is changed warms up anew and waits for these, though they are the same as before."""


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str] = frozenset()
    nonce: str = ""
    sent: str = ""
    taken: str = ""
    refused: str = ""
    """Why what was sent last was refused; empty: it was not, or is not answered yet."""
    owed: bool = True


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response that an Envoy did not take."""

    type_url: str
    version: str
    message: str
    """Envoy's own words."""


@dataclass(slots=True)
class Subscriptions:
    """The state of one stream."""

    gateway_id: str = ""
    _subscriptions: dict[str, _Subscription] = field(default_factory=dict)
    _nonces: int = 0

    def receive(self, request: discovery_pb2.DiscoveryRequest) -> Refusal | None:
        """Takes what the Envoy says. Returns its refusal where it is one."""
        if request.node.id:
            self.gateway_id = request.node.id
        if request.type_url not in TYPES:
            return None
        known = self._subscriptions.get(request.type_url)
        names = frozenset(request.resource_names)
        if known is None:
            # On a new stream an Envoy says which version it has kept.
            self._subscriptions[request.type_url] = _Subscription(
                names=names, sent=request.version_info, taken=request.version_info, owed=not request.version_info
            )
            return None
        # Whatever it answers, it names the version that it goes by.
        known.taken = request.version_info
        if request.response_nonce != known.nonce:
            return None  # about a response that another one has overtaken
        if names - known.names:
            known.owed = True
        known.names = names
        if not request.HasField("error_detail"):
            return None
        known.refused = request.error_detail.message or "refused without a reason"
        return Refusal(request.type_url, known.sent, known.refused)

    def due(self, snapshot: Snapshot) -> Iterator[discovery_pb2.DiscoveryResponse]:
        """The responses that this Envoy has not been sent, in the right order; they count as sent."""
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            resources = snapshot.get(type_url)
            if subscription is None or resources is None:
                continue
            if subscription.sent == resources.version and not subscription.owed:
                continue
            self._nonces += 1
            subscription.nonce = str(self._nonces)
            subscription.sent = resources.version
            subscription.owed = False
            subscription.refused = ""
            follower = self._subscriptions.get(_FOLLOWERS.get(type_url, ""))
            if follower is not None:
                follower.owed = True
            yield discovery_pb2.DiscoveryResponse(
                type_url=type_url,
                version_info=resources.version,
                nonce=subscription.nonce,
                resources=resources.packed(type_url, subscription.names),
            )

    @property
    def revision(self) -> int:
        """The revision of the routes that this Envoy has taken; 0: none."""
        routes = self._subscriptions.get(ROUTES)
        return revision_of(routes.taken) if routes is not None else 0

    @property
    def error_message(self) -> str:
        """Why this Envoy refused what it was sent last, of whatever type; empty: it did not."""
        return next((one.refused for one in self._subscriptions.values() if one.refused), "")

    def answered(self, version: str) -> bool:
        """Whether this Envoy has taken or refused the routes of this version."""
        routes = self._subscriptions.get(ROUTES)
        return routes is not None and (routes.taken == version or (routes.sent == version and routes.refused != ""))
