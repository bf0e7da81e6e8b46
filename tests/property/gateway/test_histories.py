"""Random histories of a gateway, its keeper and a router: what is kept is what the gateway goes by, and it is enough.

The gateway and the router are small models of xDS, state of the world: words in flight are queues, either end may die,
the gateway refuses what it likes, the keeper may be killed before it has written. Clusters are asked for as a whole,
routes by name, bit by bit, and the router sends those that a gateway lacks, in as many pieces as it likes.
"""

from collections import deque
from collections.abc import Mapping

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.domain.messages import Configuration, Request, Response, is_complete
from services.gateway.domain.stream import Stream

CLUSTERS, ROUTES = "clusters", "routes"
NAMES = {CLUSTERS: frozenset[str](), ROUTES: frozenset({"a", "b", "c"})}
PIECES = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3, unique=True)


class Router:
    """What is published, and what it knows of the gateway at the other end of its one stream."""

    def __init__(self) -> None:
        self.now: dict[str, dict[str, bytes]] = {CLUSTERS: {"all": b"0"}, ROUTES: dict.fromkeys("abc", b"0")}
        self.version = {CLUSTERS: "0", ROUTES: "0"}
        self.nonces = 0
        self.hang_up()

    def hang_up(self) -> None:
        """Forgets the stream."""
        self.has: dict[str, dict[str, bytes]] = {}
        self.sent: dict[str, str] = {}
        self.wanted: dict[str, frozenset[str]] = {}
        self.in_flight: dict[str, tuple[str, Mapping[str, bytes]]] = {}

    def asked(self, request: Request, version: str) -> None:
        """A request of the gateway, that says it goes by `version`."""
        kind = request.type_url
        if kind not in self.wanted:
            current = version == self.version[kind]
            self.has[kind] = dict(self.now[kind]) if current else {}
            self.sent[kind] = version if current else ""
        elif kind in self.in_flight and request.nonce == self.in_flight[kind][0]:
            _, resources = self.in_flight.pop(kind)
            if not request.refusal:
                self.has[kind].update(resources)
        self.wanted[kind] = request.names

    def due(self, kind: str, piece: list[str]) -> Response | None:
        """What the gateway lacks, or a piece of it, unless it still owes an answer."""
        if kind not in self.wanted or kind in self.in_flight:
            return None
        lacks = {name: body for name, body in self.now[kind].items() if self.has[kind].get(name) != body}
        if kind == ROUTES:
            lacks = {name: body for name, body in lacks.items() if name in self.wanted[kind]}
            resources = {name: body for name, body in lacks.items() if name in piece} or lacks
        else:
            resources = self.now[kind] if lacks else {}
        there = {**self.has[kind], **resources}
        version = self.version[kind]
        if any(there.get(name) != body for name, body in self.now[kind].items()):
            version = f"{version}~{self.nonces}"
        if self.sent[kind] == version or (not resources and kind == CLUSTERS):
            return None
        if not resources and not is_complete(version):
            return None
        self.nonces += 1
        self.sent[kind] = version
        self.in_flight[kind] = (str(self.nonces), resources)
        return Response(kind, version, str(self.nonces), dict(resources))


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router()
        self.changes = 0
        self.refused: set[bytes] = set()
        self.taken: set[bytes] = set()
        self.goes_by: dict[str, dict[str, bytes]] = {CLUSTERS: {}, ROUTES: {}}
        self.versions: dict[str, str] = {}
        self.wants: dict[str, frozenset[str]] = {}
        self.kept = Configuration()
        self.disk = Configuration()
        self.lost: set[str] = set()
        """Of which types the keeper has lost what the gateway goes by. Only the router can tell it again, and does not
        have it any more where it has something that the gateway refuses."""
        self.stream: Stream | None = None
        self.with_router = False
        self.up: deque[Request] = deque()
        self.down: deque[Response] = deque()

    # The world.

    @rule(name=st.sampled_from(["all", "a", "b", "c"]), good=st.booleans())
    def publish(self, name: str, good: bool) -> None:
        self.changes += 1
        kind, body = CLUSTERS if name == "all" else ROUTES, str(self.changes).encode()
        self.router.now[kind][name] = body
        self.router.version[kind] = str(self.changes)
        if not good:
            self.refused.add(body)

    @precondition(lambda self: self.stream is None)
    @rule(with_router=st.booleans(), first=PIECES)
    def dial(self, with_router: bool, first: list[str]) -> None:
        self.stream, self.with_router = Stream(), with_router
        self.router.hang_up()
        for kind in (CLUSTERS, ROUTES):
            # One that starts learns bit by bit what there is.
            names = NAMES[kind] & (self.wants.get(kind) or frozenset(first))
            self.wants[kind] = names
            self.up.append(Request(kind, b"", version=self.versions.get(kind, ""), names=names))

    @precondition(lambda self: self.stream is not None)
    @rule()
    def wants_more(self) -> None:
        if self.wants[ROUTES] != NAMES[ROUTES]:
            self.wants[ROUTES] = NAMES[ROUTES]
            self.up.append(Request(ROUTES, b"", version=self.versions.get(ROUTES, ""), names=NAMES[ROUTES]))

    @precondition(lambda self: self.stream is not None)
    @rule()
    def hang_up(self) -> None:
        self.stream = None
        self.router.hang_up()
        self.up.clear()
        self.down.clear()

    @rule()
    def gateway_dies(self) -> None:
        self.hang_up()
        self.goes_by, self.versions, self.wants = {CLUSTERS: {}, ROUTES: {}}, {}, {}

    @rule()
    def write(self) -> None:
        self.disk = self.kept

    @rule(damaged=st.booleans())
    def keeper_dies(self, damaged: bool) -> None:
        self.hang_up()
        self.disk = Configuration() if damaged else self.disk
        self.kept = self.disk
        self.lost |= {kind for kind, version in self.versions.items() if self.kept.version(kind) != version}

    # What passes through the keeper.

    @precondition(lambda self: self.up)
    @rule()
    def keeper_hears(self) -> None:
        request = self.up.popleft()
        assert self.stream is not None
        heard = self.stream.heard(request, self.kept, now_s=0)
        self.kept = heard.kept or self.kept
        if self.with_router:
            self.router.asked(request, "" if heard.unknown else request.version)
            return
        for response in self.stream.lacking(self.kept, asked_by_s=0):
            assert not is_complete(self.versions.get(response.type_url, "")), "who has all is told nothing"
            assert not response.nonce.isdigit()
            self.down.append(response)

    @precondition(lambda self: self.stream is not None and self.with_router)
    @rule(kind=st.sampled_from([CLUSTERS, ROUTES]), piece=PIECES)
    def router_speaks(self, kind: str, piece: list[str]) -> None:
        assert self.stream is not None
        response = self.router.due(kind, piece)
        if response is not None:
            self.stream.said(response)
            self.down.append(response)

    @precondition(lambda self: self.down)
    @rule()
    def gateway_hears(self) -> None:
        response = self.down.popleft()
        kind, bodies = response.type_url, set(response.resources.values())
        refusal = "no" if bodies & self.refused else ""
        if not refusal:
            before = self.goes_by[kind] if kind == ROUTES else {}
            self.goes_by[kind] = {**before, **response.resources}
            self.versions[kind] = response.version
            self.taken |= bodies
        version = self.versions.get(kind, "")
        self.up.append(
            Request(kind, b"", version=version, names=self.wants[kind], nonce=response.nonce, refusal=refusal)
        )

    # What must hold.

    @invariant()
    def nothing_is_kept_that_was_refused_or_never_taken(self) -> None:
        for kept in self.kept.types.values():
            assert set(kept.resources.values()) <= self.taken - self.refused

    @precondition(lambda self: self.stream is not None and self.with_router)
    @rule(first=PIECES)
    def when_all_is_said_the_gateway_can_start_without_the_router(self, first: list[str]) -> None:
        self._say_all()
        for kind, now in self.router.now.items():
            if not set(now.values()) & self.refused:
                assert self.goes_by[kind] == now
                assert self.versions[kind] == self.router.version[kind] == self.kept.version(kind)
                assert self.kept.types[kind].resources == now
        self.write()
        before, versions = self.goes_by, self.versions
        self.lost -= {kind for kind, version in versions.items() if self.kept.version(kind) == version}
        gone = {kind for kind in self.lost if set(self.router.now[kind].values()) & self.refused}
        self.gateway_dies()
        self.dial(with_router=False, first=first)
        self._say_all()
        for kind, version in versions.items():
            if is_complete(version) and kind not in gone:
                assert self.goes_by[kind] == before[kind]
                assert self.versions[kind] == version

    @precondition(lambda self: self.stream is not None and not self.with_router)
    @rule(first=PIECES)
    def a_router_that_is_back_completes_what_was_begun_without_it(self, first: list[str]) -> None:
        self.hang_up()
        self.dial(with_router=True, first=first)
        self._say_all()
        for kind, now in self.router.now.items():
            if not set(now.values()) & self.refused:
                assert self.goes_by[kind] == now

    def _say_all(self) -> None:
        self.wants_more()
        while self.up or self.down or self._spoke():
            if self.up:
                self.keeper_hears()
            elif self.down:
                self.gateway_hears()

    def _spoke(self) -> bool:
        if self.with_router:
            for kind in (CLUSTERS, ROUTES):
                self.router_speaks(kind, ["a", "b", "c"])
        return bool(self.down)


Histories.TestCase.settings = settings(stateful_step_count=40, max_examples=150)
TestHistories = Histories.TestCase
