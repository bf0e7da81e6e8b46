"""Random histories of a gateway, its keeper and a router: what is kept is what the gateway goes by, and it is enough.

The gateway and the router are small models of xDS, state of the world: words in flight are queues, either end may die,
the gateway refuses what it likes, and the keeper may be killed before it has written.
"""

from collections import deque

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.gateway.domain.messages import Configuration, Request, Response
from services.gateway.domain.stream import Stream

TYPES = ("clusters", "listeners", "routes")


class Router:
    """What is published, by type, and one stream's state."""

    def __init__(self) -> None:
        self.published: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self.nonces = 0

    def asked(self, type_url: str, version: str) -> None:
        """A first request on a stream."""
        self.sent.setdefault(type_url, version)

    def due(self) -> list[Response]:
        """What the gateway was not sent."""
        found = []
        for type_url, version in self.published.items():
            if type_url in self.sent and self.sent[type_url] != version:
                self.sent[type_url] = version
                self.nonces += 1
                found.append(Response(type_url, version, str(self.nonces), version.encode()))
        return found


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.router = Router()
        self.changes = 0
        self.refused: set[str] = set()
        self.goes_by: dict[str, bytes] = {}
        self.versions: dict[str, str] = {}
        self.ever: dict[str, set[bytes]] = {type_url: set() for type_url in TYPES}
        self.kept = Configuration()
        self.disk = Configuration()
        self.stream: Stream | None = None
        self.with_router = False
        self.up: deque[Request] = deque()
        self.down: deque[Response] = deque()
        self.kept_answers = 0

    # The world.

    @rule(type_url=st.sampled_from(TYPES), good=st.booleans())
    def publish(self, type_url: str, good: bool) -> None:
        self.changes += 1
        version = f"{type_url}-{self.changes}"
        self.router.published[type_url] = version
        if not good:
            self.refused.add(version)

    @precondition(lambda self: self.stream is None)
    @rule(with_router=st.booleans())
    def dial(self, with_router: bool) -> None:
        self.stream, self.with_router = Stream(), with_router
        self.router.sent = {}
        self.up.extend(Request(one, b"", version=self.versions.get(one, "")) for one in TYPES)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def hang_up(self) -> None:
        self.stream = None
        self.up.clear()
        self.down.clear()

    @rule()
    def gateway_dies(self) -> None:
        self.hang_up()
        self.goes_by, self.versions = {}, {}

    @rule()
    def write(self) -> None:
        self.disk = self.kept

    @rule(damaged=st.booleans())
    def keeper_dies(self, damaged: bool) -> None:
        self.hang_up()
        self.disk = Configuration() if damaged else self.disk
        self.kept = self.disk

    # What passes through the keeper.

    @precondition(lambda self: self.up)
    @rule()
    def keeper_hears(self) -> None:
        request = self.up.popleft()
        assert self.stream is not None
        heard = self.stream.heard(request, self.kept, now_s=0)
        if heard.taken is not None:
            self.kept = self.kept.with_taken(heard.taken)
        if self.with_router:
            self.router.asked(request.type_url, "" if heard.unknown else request.version)
            return
        for response, nonce in self.stream.lacking(self.kept, asked_by_s=0):
            assert response.type_url not in self.versions, "who has something is told nothing"
            assert nonce not in {"", *map(str, range(self.router.nonces + 1))}
            self.down.append(Response(response.type_url, response.version, nonce, response.body))

    @precondition(lambda self: self.stream is not None and self.with_router)
    @rule()
    def router_speaks(self) -> None:
        assert self.stream is not None
        for response in self.router.due():
            self.stream.said(response)
            self.down.append(response)

    @precondition(lambda self: self.down)
    @rule()
    def gateway_hears(self) -> None:
        response = self.down.popleft()
        type_url, refusal = response.type_url, "no" if response.version in self.refused else ""
        if not refusal:
            self.goes_by[type_url] = response.body
            self.versions[type_url] = response.version
            self.ever[type_url].add(response.body)
        version = self.versions.get(type_url, "")
        self.up.append(Request(type_url, b"", version=version, nonce=response.nonce, refusal=refusal))

    # What must hold.

    @invariant()
    def nothing_is_kept_that_was_refused_or_never_taken(self) -> None:
        for type_url, response in self.kept.responses.items():
            assert response.version not in self.refused
            assert response.body in self.ever[type_url]
            assert response.body == response.version.encode()

    @precondition(lambda self: self.stream is not None and self.with_router)
    @rule()
    def when_all_is_said_the_gateway_can_start_without_the_router(self) -> None:
        self._say_all()
        for type_url, version in self.router.published.items():
            if version not in self.refused:
                assert self.versions[type_url] == version
                assert self.kept.version(type_url) == version
        self.write()
        before = dict(self.goes_by)
        known = {type_url for type_url in TYPES if self.kept.version(type_url)}
        self.gateway_dies()
        self.dial(with_router=False)
        self._say_all()
        assert {type_url: self.goes_by.get(type_url) for type_url in known} == {one: before[one] for one in known}

    def _say_all(self) -> None:
        while self.up or self.down or (self.with_router and self._due()):
            if self.up:
                self.keeper_hears()
            elif self.down:
                self.gateway_hears()
            else:
                self.router_speaks()

    def _due(self) -> bool:
        published = self.router.published.items()
        return any(self.router.sent.get(type_url, version) != version for type_url, version in published)


Histories.TestCase.settings = settings(stateful_step_count=40, max_examples=150)
TestHistories = Histories.TestCase
