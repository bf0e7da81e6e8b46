"""Follows the registry's word on access, keeps the last one when it goes away, also on disk, and dials again."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import grpc
from google.protobuf.message import DecodeError
from infermesh.registry.v1 import team_service_pb2, team_service_pb2_grpc

from services.common.access.book import AccessBook, AccessUpdate
from services.common.access.convert import update_from_proto, update_to_proto
from services.common.clock import Clock
from services.common.disk import replace_file
from services.common.redial import follow
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_SAVE_PERIOD_S = 1.0
"""Changes that follow each other so closely are written once."""


class AccessSource(Protocol):
    """The registry, as far as it tells callers apart."""

    def watch(self) -> AsyncIterator[AccessUpdate]:
        """All there is, then every change. Raises MeshError where it is away."""
        ...


class RegistryAccessSource:
    """An `AccessSource` over gRPC."""

    def __init__(self, channel: grpc.aio.Channel, *, watcher_id: str) -> None:
        self._teams = team_service_pb2_grpc.TeamServiceStub(channel)
        self._watcher_id = watcher_id

    async def watch(self) -> AsyncIterator[AccessUpdate]:
        """All there is, then every change."""
        async for message in self._teams.WatchAccess(team_service_pb2.WatchAccessRequest(watcher_id=self._watcher_id)):
            yield update_from_proto(message)


class AccessFollower:
    """Keeps a book up to date. `load` before `run` and `save`, which are background tasks."""

    def __init__(self, *, source: AccessSource, book: AccessBook, clock: Clock, path: Path | None) -> None:
        self._source = source
        self._book = book
        self._clock = clock
        self._path = path
        self._changed = asyncio.Event()

    async def load(self) -> None:
        """Takes what was known when this process last ran, so that it can go on while the registry is dead."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        try:
            raw = await asyncio.to_thread(self._path.read_bytes)
        except FileNotFoundError:
            return
        try:
            update = update_from_proto(team_service_pb2.WatchAccessResponse.FromString(raw))
        except DecodeError:
            log.warning("what was kept of access cannot be read; it is asked for anew", path=str(self._path))
            return
        self._book.apply(update)

    async def run(self) -> None:
        """Follows; never ends by itself."""
        await follow(self._source.watch, self._take, clock=self._clock, who="registry", what="access")

    async def save(self) -> None:
        """Keeps the book on disk; never ends by itself."""
        while self._path is not None:
            await self._changed.wait()
            self._changed.clear()
            raw = update_to_proto(self._book.snapshot()).SerializeToString(deterministic=True)
            try:
                await asyncio.to_thread(replace_file, self._path, [raw])
            except OSError as error:
                log.warning("what is known of access could not be kept", path=str(self._path), error=str(error))
            await self._clock.sleep(_SAVE_PERIOD_S)

    async def _take(self, update: AccessUpdate) -> None:
        self._book.apply(update)
        self._changed.set()
