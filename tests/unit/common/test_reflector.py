"""What a reflector knows after whatever a watch may do."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from datetime import UTC, datetime
from typing import cast

import looptime
import pytest

from services.common.body import Body
from services.common.clock import LoopClock
from services.common.errors import MeshError, Reason
from services.common.kubernetes.api_server import ApiServer
from services.common.kubernetes.kinds import MODEL_DEPLOYMENT
from services.common.kubernetes.reflector import Reflector


def thing(name: str, version: int, **more: object) -> dict[str, object]:
    """An object as an API server sends it."""
    metadata = {"name": name, "namespace": "red", "uid": f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, **more}


class PlayedServer:
    """What lists and watches are answered with."""

    def __init__(self) -> None:
        self.pages: list[Body] = []
        self.watches: list[list[object]] = []
        """Events of each watch to come; an error is raised."""
        self.asked: list[Mapping[str, str]] = []

    async def call(self, verb: str, path: str, *, kind: str, query: Mapping[str, str]) -> Body:
        """A list."""
        assert (verb, kind) == ("GET", "ModelDeployment")
        assert path.endswith("/namespaces/red/modeldeployments")
        self.asked.append(query)
        return self.pages.pop(0)

    async def watch(
        self, path: str, *, kind: str, query: Mapping[str, str], lasts_s: float
    ) -> AsyncGenerator[Body, None]:
        """A watch; without further events it lasts."""
        assert path
        assert kind
        assert lasts_s
        self.asked.append(query)
        if not self.watches:
            await asyncio.Event().wait()
        for one in self.watches.pop(0):
            if isinstance(one, MeshError):
                raise one
            yield cast("Body", one)


def page(version: int, *objects: Body, more: str = "") -> Body:
    """A list, or a part of one."""
    return {"metadata": {"resourceVersion": str(version), "continue": more}, "items": list(objects)}


class World:
    def __init__(self) -> None:
        self.loop = looptime.new_event_loop()
        self.server = PlayedServer()
        self.changes = 0
        self.reflector = Reflector(
            cast("ApiServer", self.server),
            MODEL_DEPLOYMENT,
            namespace="red",
            clock=LoopClock(datetime(2026, 1, 15, tzinfo=UTC)),
            changed=self._changed,
        )

    def _changed(self) -> None:
        self.changes += 1

    def run(self, seconds: float = 60.0) -> None:
        async def some_time() -> None:
            running = asyncio.create_task(self.reflector.run())
            await asyncio.sleep(seconds)
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        self.loop.run_until_complete(some_time())

    @property
    def known(self) -> dict[str, str]:
        """Resource versions by name."""
        metadata = [cast("Mapping[str, str]", one["metadata"]) for one in self.reflector.every()]
        return {one["name"]: one["resourceVersion"] for one in metadata}


@pytest.fixture
def world() -> World:
    return World()


def test_a_list_in_pages_is_followed_by_a_watch_from_there_on(world: World) -> None:
    world.server.pages = [page(7, thing("a", 3), more="next"), page(7, thing("b", 5))]
    world.server.watches = [
        [
            {"type": "ADDED", "object": thing("c", 8)},
            {"type": "MODIFIED", "object": thing("a", 9)},
            {"type": "DELETED", "object": thing("b", 10)},
            {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "20"}}},
        ]
    ]
    world.run()
    assert world.known == {"a": "9", "c": "8"}
    assert world.reflector.synced
    assert [one.get("continue", "") for one in world.server.asked[:2]] == ["", "next"]
    # Where the watch ends the next begins at the bookmark, without a list.
    assert [one["resourceVersion"] for one in world.server.asked[2:]] == ["7", "20"]
    assert {one["kind"] for one in world.reflector.every()} == {"ModelDeployment"}


@pytest.mark.parametrize(
    "end",
    [
        MeshError(Reason.CLUSTER_REFUSED, "too old resource version", metadata={"status": "410"}),
        {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}},
    ],
)
def test_what_the_api_server_does_not_remember_is_listed_anew(world: World, end: object) -> None:
    world.server.pages = [page(7, thing("a", 3), thing("b", 4)), page(30, thing("a", 25))]
    world.server.watches = [[end]]
    world.run()
    assert world.known == {"a": "25"}
    assert world.server.asked[-1]["resourceVersion"] == "30"


def test_a_server_that_is_away_is_asked_again_and_again_but_not_at_once(world: World) -> None:
    world.server.pages = [page(7, thing("a", 3))]
    away = MeshError(Reason.DEPENDENCY_UNAVAILABLE, "it does not answer")
    world.server.watches = [[away] for _ in range(1000)]
    world.run(60.0)
    assert world.known == {"a": "3"}, "what was known stays"
    assert 5 <= len(world.server.asked) <= 20


def test_own_writes_are_known_at_once_and_older_states_never_come_back(world: World) -> None:
    world.server.pages = [page(7, thing("a", 3)), page(12, thing("a", 3))]
    world.run(0.1)
    world.reflector.learn(thing("a", 9))
    world.reflector.learn(thing("new", 15))
    assert world.known == {"a": "9", "new": "15"}
    world.server.watches = [
        [
            {"type": "MODIFIED", "object": thing("a", 8)},
            {"type": "DELETED", "object": thing("a", 5)},
            MeshError(Reason.CLUSTER_REFUSED, "gone", metadata={"status": "410"}),
        ]
    ]
    world.run()
    # The list was made at 12: of what was written after that it knows nothing, and "a" is as it was listed.
    assert world.known["new"] == "15"
    world.reflector.forget("red", "new", "uid-another")
    assert "new" in world.known
    world.reflector.forget("red", "new", "uid-new")
    assert "new" not in world.known
