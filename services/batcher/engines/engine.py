"""The batching engine: takes requests, answers each exactly once with its own rows or its own error.

It works with futures and callbacks and makes no task for a request or a batch. A request costs one key, one future and
one place in a line; all else is shared by its batch.
"""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress

from services.batcher.domain.adaptive import Learned
from services.batcher.domain.demand import Demand
from services.batcher.domain.padding import PaddingPlan
from services.batcher.domain.queue import Waiter
from services.batcher.domain.refusals import stopping, too_late, unreadable, wrong_size
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.domain.rows import RowsError, empty_result, split_inputs
from services.batcher.domain.serving import ServedVersion, ServingTable
from services.batcher.domain.shape import GroupKey, call_shape, group_key, row_bytes_of
from services.batcher.domain.table import Table, VersionKey
from services.batcher.engines.awakening import Awakener
from services.batcher.engines.counters import Counters, Depth
from services.batcher.engines.demand import take_demand
from services.batcher.engines.gate import Gate
from services.batcher.engines.group import Group
from services.batcher.engines.lane import Lane
from services.batcher.engines.options import EngineOptions
from services.batcher.engines.padded import PaddedGroup
from services.batcher.engines.placement import Placement
from services.batcher.engines.servers import Server, Servers
from services.batcher.engines.split import SplitCall
from services.batcher.ports import ActivationObserver, Activator, BackendClientFactory, BatchObserver
from services.common.clock import Clock
from services.common.errors import MeshError


class Engine:
    """Joins requests into batches. One a process, on one event loop."""

    def __init__(
        self,
        *,
        clock: Clock,
        open_client: BackendClientFactory,
        options: EngineOptions | None = None,
        observer: BatchObserver | None = None,
        activator: Activator | None = None,
        cold_starts: ActivationObserver | None = None,
    ) -> None:
        """Without an `activator` no version that is cold is ever loaded."""
        self._clock = clock
        self._options = options or EngineOptions()
        self._observer = observer
        self._awakener = Awakener(activator, clock=clock, options=self._options, observer=cold_starts)
        self._servers = Servers(
            clock=clock, open_client=open_client, options=self._options, on_up=self._up, on_silent=self._silent
        )
        self._table = Table()
        self._lanes: dict[VersionKey, Lane] = {}
        self._untabled: dict[VersionKey, Lane] = {}
        """Those whose versions are not in the table."""
        self._groups: dict[GroupKey, Group] = {}
        self._groups_max = self._options.idle_groups_max
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outstanding = 0
        self._drained = asyncio.Event()
        self.counters = Counters()
        self._gate = Gate(options=self._options, counters=self.counters)

    async def start(self) -> None:
        """Call it on the loop that will carry the requests."""
        self._loop = asyncio.get_running_loop()

    async def stop(self, drain_s: float = 4.0) -> None:
        """Refuses new requests, answers what it has within `drain_s`, fails the rest with SHUTTING_DOWN. Cut short, it
        still answers everybody."""
        self._gate.closed = True
        try:
            if self._outstanding:
                with suppress(TimeoutError):
                    async with asyncio.timeout(drain_s):
                        await self._drained.wait()
        finally:
            for lane in self._lanes.values():
                lane.close(stopping)
        await self._awakener.close()
        await self._servers.close()

    def serve(self, table: ServingTable) -> None:
        """Tells what is served now, so that waiting requests follow their version to its new backends, and what nothing
        names any more is let go."""
        step = self._table.step(table)
        changed: set[Lane] = set()
        for key, served in step.versions:
            lane = self._lanes.get(key)
            if lane is None:
                continue
            if served is None:
                self._untabled[key] = lane
                continue
            self._untabled.pop(key, None)
            if self._adopt(lane, served):
                changed.add(lane)
        released = step.unnamed
        for key, lane in list(self._untabled.items()):
            if lane.idle:
                lane.close(stopping)
                released |= lane.addresses()
                changed.add(lane)
                del self._lanes[key], self._untabled[key]
        self._forget_groups(changed)
        if released:
            kept = {address for lane in self._untabled.values() for address in lane.addresses()}
            for address in released - kept:
                if address in self._servers.addresses and not self._table.names(address):
                    self._servers.retire(address)

    async def infer(self, request: InferRequest) -> InferResult:
        """The request's own rows. The request was validated; nobody changes it after.

        Cancelling the caller is free at any time. Raises DEADLINE_TOO_SHORT, QUEUE_FULL, MODEL_FAILED,
        BACKEND_UNAVAILABLE, BACKEND_PROTOCOL, SHUTTING_DOWN, and what the deployer says of a version that cannot be
        loaded.
        """
        key = group_key(request)
        group = self._groups.get(key)
        if group is None:
            group = self._open(request, key)
        lane = group.lane
        if lane.served is not request.served:
            self._meet(lane, request.served)
        rows, inputs = request.rows, request.inputs
        size = len(inputs[0].data) if len(inputs) == 1 else -1
        if size < 0 or size != rows * group.row_bytes[0]:
            size = _size_bytes(group, request)
        gate = self._gate
        now_s = self._clock.monotonic()
        gate.admit(group, request, size, now_s)
        if not rows:
            return empty_result(group.shape)
        assert self._loop is not None, "the engine was not started"
        future: asyncio.Future[InferResult] = self._loop.create_future()
        rows_each = lane.rows_each(group, now_s) if group.idle_only else lane.rows_max
        if rows <= rows_each:
            waiters = [Waiter(future, inputs, rows, now_s, request.deadline_s, size, request.trail)]
        else:
            waiters = _parts(request, rows_each, future, now_s)
        for waiter in waiters:
            lane.enter(group, request.tenant, waiter)
        self.counters.requests += 1
        self.counters.rows += rows
        group.tier.came += 1
        group.tier.rows_came += rows
        self._outstanding += 1
        gate.bytes += size
        try:
            return await future
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError):
                self.counters.cancelled += 1
            if not self._loop.is_closed():
                # A caller that is thrown away rather than cancelled leaves a future that nobody reads.
                future.cancel()
            for waiter in waiters:
                lane.abandon(waiter)
            raise
        finally:
            gate.bytes -= size
            self._outstanding -= 1
            if gate.closed and not self._outstanding:
                self._drained.set()

    def late(self, request: InferRequest, waited_s: float) -> MeshError:
        """What someone is told whose deadline passed while another's request for the same was under way."""
        served = request.served
        lane = self._lanes.get((served.model_name, served.version))
        if lane is None:
            return too_late(served.model_name, served.version, waited_s, sent=True)
        now_s = self._clock.monotonic()
        return lane.verdicts.late(waited_s, now_s, sent=not lane.placement.cut_off(now_s))

    def depths(self) -> Mapping[tuple[str, str], Depth]:
        """How much is under way, by (model name, version)."""
        return {key: lane.depth() for key, lane in self._lanes.items()}

    def take_demand(self) -> Iterator[Demand | None]:
        """What each version was asked for since this was last asked; None for one that was not and has nothing waiting
        or on its way. There may be thousands: whoever goes through them may do other things in between."""
        for lane in list(self._lanes.values()):
            yield take_demand(lane, self._clock.monotonic())

    def holds(self) -> Mapping[tuple[str, str], str]:
        """Of versions that are cold and have requests waiting: what has come of having them loaded."""
        now_s = self._clock.monotonic()
        return {key: lane.awakening.doing(now_s) for key, lane in self._lanes.items() if lane.cold and not lane.idle}

    def learned(self) -> Mapping[tuple[str, str], Learned]:
        """What the batching of each version has learned, by (model name, version)."""
        return {key: lane.policy.explain() for key, lane in self._lanes.items()}

    def placements(self) -> Mapping[tuple[str, str], Placement]:
        """The backends of each version, and how they are doing, by (model name, version)."""
        return {key: lane.placement for key, lane in self._lanes.items()}

    @property
    def bytes_held(self) -> int:
        """Input bytes of all requests that are not answered yet."""
        return self._gate.bytes

    @property
    def groups(self) -> int:
        """Shapes that are remembered."""
        return len(self._groups)

    def _open(self, request: InferRequest, key: GroupKey) -> Group:
        """The group of a shape that was not seen lately."""
        if len(self._groups) >= self._groups_max:
            self._groups = {key: group for key, group in self._groups.items() if group.rows}
            self._groups_max = max(self._options.idle_groups_max, 2 * len(self._groups))
        served = request.served
        place = (served.model_name, served.version)
        lane = self._lanes.get(place)
        if lane is None:
            assert self._loop is not None, "the engine was not started"
            tabled = self._table.version(place)
            lane = self._lanes[place] = Lane(
                tabled or served,
                clock=self._clock,
                loop=self._loop,
                servers=self._servers,
                options=self._options,
                counters=self.counters,
                observer=self._observer,
                awakener=self._awakener,
            )
            if tabled is None:
                self._untabled[place] = lane
        padding = lane.served.batching.padding
        if padding is None:
            group = self._groups[key] = Group(lane, key, call_shape(request), priority=request.priority)
            return group
        plan = PaddingPlan(request, padding)
        shared = self._groups.get(plan.key)
        if shared is None:
            shared = self._groups[plan.key] = PaddedGroup(lane, plan, priority=request.priority)
        # Every size of the bucket finds the group by a key of its own, so that other versions pay nothing for this.
        self._groups[key] = shared
        return shared

    def _meet(self, lane: Lane, served: ServedVersion) -> None:
        """A request brings another state of its version than the lane has. The table knows which is newer; without one,
        the request's is."""
        if self._table.version((served.model_name, served.version)) is None and self._adopt(lane, served):
            self._forget_groups({lane})

    def _adopt(self, lane: Lane, served: ServedVersion) -> bool:
        """Returns whether the lane's groups are those of another schema or padding."""
        before = lane.served
        if served is before:
            return False
        if served == before:
            lane.served = served
            return False
        lane.adopt(served)
        lane.pump()
        return served.schema != before.schema or served.batching.padding != before.batching.padding

    def _forget_groups(self, lanes: Collection[Lane]) -> None:
        if lanes:
            self._groups = {key: group for key, group in self._groups.items() if group.lane not in lanes}

    def _silent(self, server: Server) -> None:
        for lane in list(self._lanes.values()):
            lane.bereave(server)

    def _up(self, server: Server) -> None:
        for lane in list(self._lanes.values()):
            if any(place.server is server for place in lane.places):
                lane.revive()


def _size_bytes(group: Group, request: InferRequest) -> int:
    """Bytes of the request's inputs. Raises SCHEMA_VIOLATION where they do not fit its shapes: in a batch they would
    shift its mates' rows."""
    total = 0
    for tensor, row_bytes in zip(request.inputs, group.row_bytes, strict=True):
        size = len(tensor.data)
        if size != request.rows * row_bytes and (row_bytes >= 0 or group.padded):
            fits = request.rows * row_bytes_of(tensor.data_type, tensor.shape[1:])
            if size != fits >= 0:
                raise wrong_size(group.shape.model_name, tensor.name, size, fits)
        total += size
    return total


def _parts(request: InferRequest, rows_max: int, future: asyncio.Future[InferResult], now_s: float) -> list[Waiter]:
    """The waiters of a request that is larger than a batch."""
    try:
        parts = split_inputs(request.inputs, request.rows, rows_max)
    except RowsError as error:
        raise unreadable(request.served.model_name, str(error)) from error
    call = SplitCall(request, len(parts), future)
    return [
        Waiter(
            call.part(index),
            inputs,
            rows,
            arrived_s=now_s,
            deadline_s=request.deadline_s,
            size=sum([len(tensor.data) for tensor in inputs]),
            trail=request.trail,
        )
        for index, (rows, inputs) in enumerate(parts)
    ]
