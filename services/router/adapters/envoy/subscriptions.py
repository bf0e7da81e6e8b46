"""What one Envoy has asked for, been sent and taken, by the rules of xDS, state of the world. No I/O.

An Envoy asks once for each type and then answers every response, with its nonce: version as sent means taken; an
`error_detail` means refused, and the Envoy goes on with what it had. What was refused is not sent again; it is with the
next version. Of what is asked for by name (routes, filters, certificates) each that was refused together with others is
sent alone, since one may be to blame: that one is not sent again until it changes, and the others do not wait for it.

Filters go one by one: an Envoy that has refused one takes it the second time without a word, and goes by it no more
than before; so it must be known from the first time which of them it was.

Of these a response holds what an Envoy lacks and no more, which xDS allows, since they are asked for by name: a change
of one model sends its bucket. A response after which the Envoy still lacks some has a version of its own, so that an
Envoy whose stream breaks there is not taken for one that has everything. The next response of a type waits until the
last one is answered; what changes meanwhile goes into it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from meshxds.envoy.service.discovery.v3 import discovery_pb2

from services.router.adapters.envoy.resources import (
    CLUSTER,
    ENDPOINTS,
    EXTENSIONS,
    IN_PARTS,
    LISTENER,
    ROUTES,
    SCOPES,
    TYPES,
    Resource,
    ResourceSet,
    Snapshot,
    packed,
    revision_of,
)

RESPONSE_MAX_BYTES = 8 * 1024 * 1024
"""The most in one response with routes, unless a single one is larger."""

_FOLLOWERS = {CLUSTER: (ENDPOINTS,), LISTENER: (SCOPES, ROUTES), SCOPES: (ROUTES,)}
"""What is changed warms up anew and waits for these, though they are the same as before."""
_INCOMPLETE = "~"
"""In the version of a response after which something is still lacking."""


@dataclass(slots=True)
class _Subscription:
    names: frozenset[str] = frozenset()
    nonce: str = ""
    answered: bool = True
    sent: str = ""
    taken: str = ""
    complete: str = ""
    """The last version that was taken as a whole."""
    refused: str = ""
    """Why what was sent last was refused; empty: it was not, or is not answered yet."""
    owed: bool = True
    suspects: dict[str, str] = field(default_factory=dict)
    """The digests of routes that were refused together with others, by name."""
    guilty: dict[str, tuple[str, str]] = field(default_factory=dict)
    """The digests of routes that were refused alone, and why, by name."""
    more: bool = False
    """Whether there is more to send of the version that was sent last."""
    has: dict[str, str] = field(default_factory=dict)
    """The digests of what it was sent and has not refused, by name."""
    last: Sequence[Resource] = ()
    """What the last response held."""

    def blame(self) -> None:
        """The last response was refused."""
        several = len(self.last) > 1
        self.more |= several
        for one in self.last:
            self.has.pop(one.name, None)
            if several:
                self.suspects[one.name] = one.digest
            else:
                self.guilty[one.name] = (one.digest, self.refused)

    def acquit(self) -> None:
        """The last response was taken."""
        for one in self.last:
            self.suspects.pop(one.name, None)
            self.guilty.pop(one.name, None)

    def lacking(self, asked: Sequence[Resource]) -> Sequence[Resource]:
        """What of routes that are asked for may be sent and was not."""
        unsent = [one for one in asked if self.has.get(one.name) != one.digest]
        return [one for one in unsent if self.guilty.get(one.name, ("", ""))[0] != one.digest]

    def first_of(self, lacking: Sequence[Resource], *, alone: bool) -> Sequence[Resource]:
        """As much of it as one response may hold; `alone`: one."""
        if alone:
            return [*lacking[:1]]
        found: list[Resource] = []
        size = 0
        for item in lacking:
            if self.suspects.get(item.name) == item.digest:
                continue
            if found and size + len(item.value) > RESPONSE_MAX_BYTES:
                break
            found.append(item)
            size += len(item.value)
        return found or lacking[:1]


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
        names, version = frozenset(request.resource_names), request.version_info
        if known is None:
            # On a new stream an Envoy says which version it has kept.
            kept = "" if _INCOMPLETE in version else version
            self._subscriptions[request.type_url] = _Subscription(
                names=names, sent=kept, taken=version, complete=kept, owed=not kept
            )
            return None
        # Whatever it answers, it names the version that it goes by.
        known.taken = version
        if request.response_nonce != known.nonce:
            return None  # about a response that another one has overtaken
        first_word, known.answered = not known.answered, True
        known.owed |= bool(names - known.names)
        known.names = names
        if request.HasField("error_detail"):
            known.refused = request.error_detail.message or "refused without a reason"
            if first_word:
                known.blame()
        else:
            if first_word:
                known.acquit()
            if _INCOMPLETE not in version:
                known.complete = version
        return Refusal(request.type_url, known.sent, known.refused) if first_word and known.refused else None

    def due(self, snapshot: Snapshot) -> Iterator[discovery_pb2.DiscoveryResponse]:
        """The responses that this Envoy has not been sent, in the right order; they count as sent."""
        for type_url in TYPES:
            subscription = self._subscriptions.get(type_url)
            resources = snapshot.get(type_url)
            if subscription is None or resources is None or not subscription.answered:
                continue
            if subscription.sent == resources.version and not subscription.owed and not subscription.nonce:
                # It said so on a new stream, and was told nothing since.
                subscription.has = {item.name: item.digest for item in resources.named(subscription.names)}
            response = self._response(type_url, subscription, resources)
            if response is None:
                continue
            yield response
            for name in _FOLLOWERS.get(type_url, ()):
                follower = self._subscriptions.get(name)
                if follower is not None:
                    follower.owed = True
                    follower.has.clear()

    def _response(
        self, type_url: str, subscription: _Subscription, resources: ResourceSet
    ) -> discovery_pb2.DiscoveryResponse | None:
        """The next one; None where there is none."""
        sent = asked = resources.named(subscription.names)
        lacking: Sequence[Resource] = ()
        if type_url in IN_PARTS:
            lacking = subscription.lacking(asked)
            sent = subscription.first_of(lacking, alone=type_url == EXTENSIONS)
        told = subscription.sent.partition(_INCOMPLETE)[0] == resources.version
        if told and not subscription.owed and not (type_url in IN_PARTS and sent):
            return None
        subscription.has.update((item.name, item.digest) for item in sent)
        lacks = type_url in IN_PARTS and any(
            subscription.has.get(item.name) != item.digest for item in resources.resources
        )
        self._nonces += 1
        subscription.nonce = str(self._nonces)
        subscription.answered = False
        subscription.last = sent
        subscription.more = len(lacking) > len(sent)
        subscription.sent = f"{resources.version}{_INCOMPLETE}{self._nonces}" if lacks else resources.version
        subscription.owed = False
        subscription.refused = ""
        return discovery_pb2.DiscoveryResponse(
            type_url=type_url,
            version_info=subscription.sent,
            nonce=subscription.nonce,
            resources=packed(type_url, sent),
        )

    @property
    def revision(self) -> int:
        """The revision of the routes that this Envoy has taken; 0: none."""
        routes = self._subscriptions.get(ROUTES)
        return revision_of(routes.complete) if routes is not None else 0

    @property
    def error_message(self) -> str:
        """Why this Envoy refused what it was sent last, of whatever type; empty: it did not."""
        told = (
            why
            for one in self._subscriptions.values()
            for why in (one.refused, *(message for _, message in one.guilty.values()))
        )
        return next((why for why in told if why), "")

    def answered(self, version: str, type_url: str = ROUTES) -> bool:
        """Whether this Envoy has taken or refused what is of this version."""
        known = self._subscriptions.get(type_url)
        return known is not None and (
            known.taken == version
            or (
                known.sent.partition(_INCOMPLETE)[0] == version
                and known.answered
                and not known.more
                and bool(known.refused or known.guilty)
            )
        )
