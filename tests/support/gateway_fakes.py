"""A gateway, a router and a disk for the keeper, in memory."""

import asyncio

from services.common.errors import MeshError, Reason
from services.gateway.domain.messages import Configuration, Request, Response

CLUSTERS, ROUTES = "envoy/Cluster", "envoy/RouteConfiguration"


def request(
    type_url: str = ROUTES, version: str = "", *, nonce: str = "", refusal: str = "", names: tuple[str, ...] = ()
) -> Request:
    """What a gateway says."""
    return Request(type_url, b"request", "gateway-0", version, frozenset(names), nonce, refusal)


def response(version: str, nonce: str = "", type_url: str = ROUTES, *, names: tuple[str, ...] = ("a",)) -> Response:
    """What a router says: resources of these names that say the version."""
    return Response(type_url, version, nonce, {name: f"{name} {version}".encode() for name in names}, b"a message")


def kept(**versions: str) -> Configuration:
    """What was kept after responses of these versions, by `clusters` and `routes`."""
    urls = {"clusters": CLUSTERS, "routes": ROUTES}
    found = Configuration()
    for name, version in versions.items():
        found = found.with_taken(response(version, type_url=urls[name]), by_name=False)
    return found


class FakeGateway:
    """A gateway whose words the test writes."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[Request | None] = asyncio.Queue()
        self.told: list[tuple[str, str]] = []
        """Version and nonce of each response."""

    def says(self, *requests: Request | None) -> None:
        """It says these; None: it leaves."""
        for one in requests:
            self._words.put_nowait(one)

    async def hear(self) -> Request | None:
        """What it says next."""
        return await self._words.get()

    async def say(self, response: Response) -> None:
        """Takes it."""
        self.told.append((response.version, response.nonce))


class FakeLine:
    """One stream to a router whose words the test writes."""

    def __init__(self) -> None:
        self._words: asyncio.Queue[Response | None] = asyncio.Queue()
        self.asked: list[tuple[str, bool]] = []
        """Version of each request, and whether it asked for all."""
        self.hung_up = False

    def says(self, *responses: Response | None) -> None:
        """The router says these; None: it ends the stream."""
        for one in responses:
            self._words.put_nowait(one)

    async def ask(self, request: Request, *, for_all: bool) -> None:
        """Takes the gateway's word."""
        self.asked.append((request.version, for_all))

    async def listen(self) -> Response | None:
        """What the router says next."""
        return await self._words.get()

    def hang_up(self) -> None:
        """Notes it."""
        self.hung_up = True


class FakeRouter:
    """A router that is there or not."""

    def __init__(self, *, there: bool) -> None:
        self._there = asyncio.Event()
        self.lines: list[FakeLine] = []
        if there:
            self._there.set()

    def comes(self) -> None:
        """It can be reached from here on."""
        self._there.set()

    async def dial(self) -> FakeLine | None:
        """A line, where it is there."""
        if not self._there.is_set():
            return None
        self.lines.append(FakeLine())
        return self.lines[-1]

    async def reachable(self) -> None:
        """Returns once it is there."""
        await self._there.wait()


class FakeStore:
    """A disk in memory, which may be damaged or full."""

    def __init__(self) -> None:
        self.files: dict[str, Configuration] = {}
        self.saved: list[str] = []
        """The versions of the routes of each write."""
        self.size_bytes = 0
        """Of every file; 0: of the resources in it."""
        self.damaged = False
        self.full = False

    def load(self, gateway: str) -> Configuration | None:
        """What was saved last."""
        if self.damaged:
            raise MeshError(Reason.ARTIFACT_CORRUPT, f"the file of {gateway} is damaged")
        return self.files.get(gateway)

    def save(self, gateway: str, configuration: Configuration) -> int:
        """Keeps it."""
        if self.full:
            raise OSError("no space left")
        self.files[gateway] = configuration
        self.saved.append(configuration.version(ROUTES))
        return self.size_bytes or sum(
            len(body) for one in configuration.types.values() for body in one.resources.values()
        )
