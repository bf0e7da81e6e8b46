"""A site of the bridge that does what its paths say, and tells what it has kept.

Runs inside an Envoy as `tests.support.bridge_site:Plain`, so nothing of the tests' process is here.
"""

import asyncio
import gc
import json
import signal
import sys
from collections.abc import Callable, Mapping

from services.batcher.bridge.exchange import StreamExchange
from services.batcher.bridge.messages import Answer, Exchange, Handler, Request, StreamHandler, answer
from services.batcher.faces.ending import SIGNALS

_OK: list[tuple[bytes, bytes]] = [(b":status", b"200")]
FLOOD_PIECE = bytes(64 * 1024)


class Plain:
    """What the tests ask for."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.waiting = 0
        self.flooded = 0
        self.refused = 0

    async def start(self) -> None:
        """Lets this thread take the signals that `app_envoy` blocked: Envoy then ends at once, in the midst of all."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    async def stop(self) -> None:
        """Says that it was stopped in order."""
        print(json.dumps({"event": "stopped", "level": "info"}), file=sys.stderr, flush=True)

    @property
    def streams(self) -> Mapping[str, StreamHandler]:
        """The paths that are handed over piece by piece."""
        return {
            "/stream/echo": self._stream_echo,
            "/stream/held": self._stream_held,
            "/stream/flood": self._stream_flood,
            "/stream/forget": self._stream_forget,
            "/stream/early": self._stream_early,
            "/stream/crash": self._stream_crash,
        }

    def finder(self) -> Callable[[str], Handler]:
        """The others."""
        paths: Mapping[str, Handler] = {
            "/ready": self._ready,
            "/echo": self._echo,
            "/told": self._told,
            "/wait": self._wait,
            "/gate": self._gate,
            "/open": self._open,
            "/close": self._close,
            "/kept": self._kept,
            "/crash": self._crash,
            "/leave": self._leave,
        }
        return lambda path: paths.get(path, self._told)

    async def _ready(self, _request: Request) -> Answer:
        return answer(200, b"ok", [])

    async def _echo(self, request: Request) -> Answer:
        return answer(200 if request.complete else 413, request.body, [])

    async def _told(self, request: Request) -> Answer:
        told = {
            "method": request.method,
            "path": request.path,
            "bytes": len(request.body),
            "complete": request.complete,
            "headers": {name.decode("latin-1"): value.decode("latin-1") for name, value in request.headers.items()},
        }
        return answer(200, json.dumps(told).encode(), [(b"content-type", b"application/json")])

    async def _wait(self, _request: Request) -> Answer:
        await self._until(asyncio.Event())
        raise AssertionError("nobody sets it")

    async def _gate(self, request: Request) -> Answer:
        await self._until(self.gate)
        return answer(200, request.body, [])

    async def _until(self, event: asyncio.Event) -> None:
        self.waiting += 1
        try:
            await event.wait()
        finally:
            self.waiting -= 1

    async def _open(self, _request: Request) -> Answer:
        self.gate.set()
        return answer(200, b"", [])

    async def _close(self, _request: Request) -> Answer:
        self.gate.clear()
        return answer(200, b"", [])

    async def _kept(self, _request: Request) -> Answer:
        """What is alive, this request left out."""
        gc.collect()
        objects = gc.get_objects()
        kept = {
            "tasks": sum("Host." in repr(task.get_coro()) for task in asyncio.all_tasks()) - 1,
            "requests": sum(type(one) is Request for one in objects) - 1,
            "exchanges": sum(type(one) is StreamExchange for one in objects),
            "waiting": self.waiting,
            "flooded": self.flooded,
            "blocks": sys.getallocatedblocks(),
        }
        return answer(200, json.dumps(kept).encode(), [])

    async def _crash(self, _request: Request) -> Answer:
        raise RuntimeError("a secret of the inside")

    async def _leave(self, _request: Request) -> Answer:
        raise SystemExit(3)

    async def _stream_echo(self, exchange: Exchange) -> None:
        more, headers = True, _OK
        while more:
            piece, more = await exchange.receive()
            await exchange.send(piece, headers=headers)
            headers = None  # type: ignore[assignment]
        exchange.end([(b"x-end", b"1")])

    async def _stream_held(self, exchange: Exchange) -> None:
        """Reads nothing until the gate opens, and then everything; answers how much that was."""
        await self._until(self.gate)
        more, size, total = True, 0, 0
        while more:
            piece, more = await exchange.receive()
            size, total = size + len(piece), (total + sum(piece)) % (1 << 32)
        await exchange.send(json.dumps({"bytes": size, "sum": total}).encode(), headers=_OK)
        exchange.end([])

    async def _stream_flood(self, exchange: Exchange) -> None:
        """Sends without end, as fast as it may."""
        await exchange.send(b"", headers=_OK)
        while True:
            await exchange.send(FLOOD_PIECE)
            self.flooded += len(FLOOD_PIECE)

    async def _stream_forget(self, exchange: Exchange) -> None:
        """Neither answers nor fails."""
        if b"x-begin" in exchange.headers:
            await exchange.send(b"begun", headers=_OK)

    async def _stream_early(self, exchange: Exchange) -> None:
        """Answers before it has heard anything."""
        exchange.end([(b"x-end", b"1")], headers=_OK)

    async def _stream_crash(self, exchange: Exchange) -> None:
        """Fails in the midst of its answer."""
        await exchange.send(b"begun", headers=_OK)
        raise RuntimeError("a secret of the inside")


class Unstartable(Plain):
    """Does not start."""

    async def start(self) -> None:
        """Fails, and says why."""
        raise RuntimeError("the cellar is flooded")


class Unwilling(Plain):
    """Wants the process to end when it is to start."""

    async def start(self) -> None:
        """Leaves, and says why."""
        sys.exit("no key, no service")


class Unstoppable(Plain):
    """Does not stop in order."""

    async def stop(self) -> None:
        """Fails, and says why."""
        raise RuntimeError("the door is stuck")
