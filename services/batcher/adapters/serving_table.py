"""The router's serving table: watched, applied, acknowledged, kept on disk.

The router moves the gateway only after batchers acknowledged, so an acknowledgement is sent after a table is in force
and never before. Without the router the last table stays in force for as long as it takes.

A table may have thousands of models, and requests are answered on the same loop: so a table is read in slices, what did
not change is recognised by its bytes and neither read nor compiled again, and the copy for the disk is kept in pieces.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping

import grpc
from google.protobuf.message import DecodeError
from infermesh.common.v1 import serving_pb2
from infermesh.router.v1 import serving_table_pb2 as pb
from infermesh.router.v1 import serving_table_pb2_grpc

from services.batcher.adapters.outgoing import Outgoing
from services.batcher.adapters.serving_proto import models_from_proto
from services.batcher.adapters.snapshot import Snapshot
from services.batcher.domain.serving import ServedModel, ServingTable
from services.common.clock import Clock
from services.common.errors import MeshError, invalid
from services.common.telemetry.logging import get_logger

log = get_logger(__name__)

_RETRY_MIN_S = 0.1
_RETRY_MAX_S = 2.0
_FAILED_PAUSE_S = 10.0
_MESSAGE_MAX = 500
_ANSWERS_MAX = 16
_SLICE_S = 0.0015
"""How long the reading of a table holds the loop at once."""


class TableWatcher:
    """Keeps what is served up to date."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        *,
        batcher_id: str,
        address: str,
        snapshot: Snapshot,
        prepare: Callable[[ServedModel], None],
        apply: Callable[[ServingTable], None],
        revoke: Callable[[frozenset[str]], None],
        clock: Clock,
    ) -> None:
        """`prepare` is told each model that is new or changed, then `apply` the table. Both may raise to refuse it.
        `revoke` is told the keys that are revoked."""
        self._stub = serving_table_pb2_grpc.ServingTableServiceStub(channel)
        self._batcher_id = batcher_id
        self._address = address
        self._snapshot = snapshot
        self._prepare = prepare
        self._apply = apply
        self._revoke = revoke
        self._heard = (0, "")
        """The revision that came last, and why it was refused: what brings keys alone has it again."""
        self._clock = clock
        self._revision = 0
        self._models: Mapping[str, ServedModel] = {}
        self._pieces: Mapping[str, bytes] = {}
        """Each model as a table with nothing else, serialised: protobuf messages are joined by joining their bytes."""
        self._changed = asyncio.Event()
        self.connected = False
        """Whether the router hands over tables now."""

    async def restore(self) -> None:
        """Puts the last table in force, where there is one; a damaged file is as good as none."""
        try:
            body = await asyncio.to_thread(self._snapshot.load)
            if body is None:
                return
            await self._put_in_force(pb.WatchServingTableResponse.FromString(body))
        except (MeshError, DecodeError, OSError) as error:
            log.warning("the kept serving table cannot be used", error=str(error))
            return
        log.info("serving table restored", revision=self._revision, models=len(self._models))

    async def run(self) -> None:
        """Watches for as long as the process lives; dials again after a pause that doubles."""
        delay_s = _RETRY_MIN_S
        while True:
            try:
                async for _ in self._watch():
                    delay_s = _RETRY_MIN_S
                reason = "the router ended the stream"
            except MeshError as error:
                reason = error.message
            if self.connected or delay_s == _RETRY_MIN_S:
                log.warning("the router is away; the last serving table stays in force", reason=reason)
            self.connected = False
            await self._clock.sleep(delay_s)
            delay_s = min(delay_s * 2, _RETRY_MAX_S)

    async def keep(self) -> None:
        """Writes each new table to disk, the newest where several came at once; what it does not take now, later."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            head = pb.WatchServingTableResponse(revision=self._revision, full=True).SerializeToString()
            try:
                await asyncio.to_thread(self._write, head, self._pieces)
            except OSError as error:
                log.warning("the serving table cannot be kept on disk", path=str(self._snapshot.path), error=str(error))
                self._changed.set()
                await self._clock.sleep(_FAILED_PAUSE_S)

    def _write(self, head: bytes, pieces: Mapping[str, bytes]) -> None:
        """In a thread: a mapping of pieces is replaced by the next table and never changed."""
        self._snapshot.save(b"".join((head, *pieces.values())))

    async def _watch(self) -> AsyncIterator[None]:
        # The router takes one after each of its answers. From one that takes none the oldest are kept back.
        answers = deque((self._acknowledgement(""),), maxlen=_ANSWERS_MAX)
        requests = Outgoing(lambda: answers.popleft() if answers else None)
        try:
            async for response in self._stub.WatchServingTable(requests):
                answers.append(self._acknowledgement(await self._take(response)))
                requests.wake()
                yield
        finally:
            requests.end()

    async def _take(self, response: pb.WatchServingTableResponse) -> str:
        """Applies a step. Why it was refused, or nothing."""
        if response.HasField("revoked_keys"):
            # Whatever becomes of the table.
            self._revoke(frozenset(response.revoked_keys.key_ids))
            if response.revision == self._heard[0] and not response.full:
                return self._heard[1]
        refusal = await self._applied(response)
        self._heard = (response.revision, refusal)
        return refusal

    async def _applied(self, response: pb.WatchServingTableResponse) -> str:
        try:
            await self._put_in_force(response)
        except Exception as error:  # whatever is wrong with a table, the one in force is better than none
            reason = error.message if isinstance(error, MeshError) else f"{type(error).__name__}: {error}"
            log.warning("serving table refused", revision=response.revision, reason=reason)
            return f"revision {response.revision}: {reason}"[:_MESSAGE_MAX]
        if not self.connected:
            log.info("the router hands over serving tables", revision=self._revision, models=len(self._models))
            self.connected = True
        self._changed.set()
        return ""

    async def _put_in_force(self, response: pb.WatchServingTableResponse) -> None:
        models = {} if response.full else dict(self._models)
        pieces = {} if response.full else dict(self._pieces)
        for name in () if response.full else response.removed_models:
            models.pop(name, None)
            pieces.pop(name, None)
        seen: set[str] = set()
        began_s = self._clock.monotonic()
        for message in response.models:
            name = message.model_name
            if name in seen:
                raise invalid("model_name", name, "each model once")
            seen.add(name)
            models[name], pieces[name] = self._read(message)
            if self._clock.monotonic() - began_s > _SLICE_S:
                await asyncio.sleep(0)
                began_s = self._clock.monotonic()
        self._apply(ServingTable(response.revision, models))
        self._revision, self._models, self._pieces = response.revision, models, pieces

    def _read(self, message: serving_pb2.ServedModel) -> tuple[ServedModel, bytes]:
        """A model and its piece: those in force where nothing of it changed."""
        name = message.model_name
        piece: bytes = pb.WatchServingTableResponse(models=[message]).SerializeToString(deterministic=True)
        if self._pieces.get(name) == piece:
            return self._models[name], self._pieces[name]
        model = models_from_proto((message,))[name]
        self._prepare(model)
        return model, piece

    def _acknowledgement(self, refusal: str) -> pb.WatchServingTableRequest:
        return pb.WatchServingTableRequest(
            batcher_id=self._batcher_id,
            address=self._address,
            acknowledged_revision=self._revision,
            error_message=refusal,
        )
