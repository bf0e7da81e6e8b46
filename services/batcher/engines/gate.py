"""Who may wait: bounds of the queue, and whether an answer can come in time. Asked once for each request."""

from typing import NoReturn

from services.batcher.domain.refusals import displaced, hopeless, overloaded, queue_full, stopping, too_late
from services.batcher.domain.request import InferRequest
from services.batcher.engines.counters import Counters
from services.batcher.engines.group import Group
from services.batcher.engines.options import EngineOptions
from services.common.errors import MeshError

_VERSION_TIMES = 4
"""A version may hold this many times the bytes that are free: alone four fifths of all, two versions four ninths each.
So there is always room for one that holds little (A. Choudhury, E. Hahne, Dynamic Queue Length Thresholds for
Shared-Memory Packet Switches, 1998)."""


class Gate:
    """Admits requests or refuses them."""

    def __init__(self, *, options: EngineOptions, counters: Counters) -> None:
        self._options = options
        self._counters = counters
        self._watched_bytes = options.queue_bytes_max * _VERSION_TIMES // (_VERSION_TIMES + 1)
        self.closed = False
        """Set by a shutdown: nobody is admitted any more."""
        self.bytes = 0
        """Input bytes of all requests that are not answered yet."""

    def admit(self, group: Group, request: InferRequest, size: int, now_s: float) -> None:
        """Raises where the request may not wait. `size`: its inputs' bytes."""
        lane = group.lane
        left_s = request.deadline_s - now_s
        waiting = lane.backlog.rows + lane.recoveries.rows
        pace = lane.pace
        if self.closed or left_s <= 0.0:
            self._refuse_all(group)
        if waiting:
            rows = waiting + request.rows
            if left_s < (rows + lane.rows_max) * pace.row_s + pace.service_s:
                self._foresee(group, request, now_s)
            if rows > self._options.queue_rows_max:
                self._crowd(group, request, size, waiting)
        elif left_s < pace.least_s:
            self._foresee(group, request, now_s)
        if self.bytes + size > self._watched_bytes and self.bytes:
            self._weigh(group, request, size)
        if lane.outage_s is not None:
            refusal = lane.refuses(now_s, request.priority)
            if refusal is not None:
                self._refuse(refusal)

    def _refuse(self, refusal: MeshError) -> NoReturn:
        self._counters.refused += 1
        raise refusal

    def _refuse_all(self, group: Group) -> NoReturn:
        """It is too late for any request, or for this one."""
        if self.closed:
            self._refuse(stopping())
        self._counters.expired += 1
        raise too_late(group.lane.served.model_name, group.lane.served.version, 0.0, sent=False)

    def _foresee(self, group: Group, request: InferRequest, now_s: float) -> None:
        """Refuses a request that would be late, or would make another late that was admitted before."""
        lane = group.lane
        served, pace, backlog, again = lane.served, lane.pace, lane.backlog, lane.recoveries.rows
        if not pace.fresh(now_s):
            return
        deadline_s = request.deadline_s
        left_s = deadline_s - now_s
        if left_s < pace.least_s:
            self._refuse(hopeless(served.model_name, served.version, left_s=left_s, least_s=pace.least_s))
        if not pace.row_s or not (backlog.rows or again):
            return
        tenant, priority, rows = request.tenant, request.priority, request.rows
        most = lane.rows_max
        ahead = again + backlog.ahead(group, tenant, priority, rows, deadline_s)
        needed_s = pace.answered_after_s(ahead, rows_max=most)
        if needed_s <= left_s:
            last_s = backlog.overtaken(group, tenant, deadline_s)
            behind = again + backlog.ahead(group, tenant, priority, rows, last_s)
            after_s = pace.answered_after_s(behind, rows_max=most)
            before_s = pace.answered_after_s(behind - rows, rows_max=most)
            if not now_s + before_s <= last_s < now_s + after_s:
                return
        after_s = pace.retry_after_s(lane.rows_waiting)
        self._refuse(
            overloaded(served.model_name, served.version, needed_s=needed_s, left_s=left_s, retry_after_s=after_s)
        )

    def _crowd(self, group: Group, request: InferRequest, size: int, waiting: int) -> None:
        """The version's rows are at their bound: somebody makes room, or the request is refused."""
        allowed = self._options.queue_rows_max
        if not self._displaces(group, request, size, rows_over=waiting + request.rows - allowed, rows_max=allowed):
            self._refuse(self._full(group, "rows", waiting, allowed))

    def _weigh(self, group: Group, request: InferRequest, size: int) -> None:
        """Few bytes are free: somebody makes room, or the request is refused, where it would exceed a bound."""
        bytes_max = self._options.queue_bytes_max
        held = group.lane.bytes_held()
        allowed = min(bytes_max, _VERSION_TIMES * (bytes_max - self.bytes))
        over = max(self.bytes + size - bytes_max, held + size - allowed)
        if over > 0 and not self._displaces(group, request, size, bytes_over=over, bytes_max=held + size - over):
            self._refuse(self._full(group, "bytes", self.bytes, bytes_max))

    def _displaces(
        self,
        group: Group,
        request: InferRequest,
        size: int,
        *,
        rows_over: int = 0,
        rows_max: int = 0,
        bytes_over: int = 0,
        bytes_max: int = 0,
    ) -> bool:
        lane = group.lane
        gone = lane.backlog.make_room(
            request.tenant,
            request.priority,
            rows=request.rows,
            size=size,
            rows_over=rows_over,
            rows_max=rows_max,
            bytes_over=bytes_over,
            bytes_max=bytes_max,
        )
        if not gone:
            return False
        served, after_s = lane.served, lane.pace.retry_after_s(lane.rows_waiting)
        self._counters.displaced += len(gone)
        lane.displaced(gone, lambda: displaced(served.model_name, served.version, retry_after_s=after_s))
        return True

    def _full(self, group: Group, what: str, held: int, allowed: int) -> MeshError:
        lane = group.lane
        after_s = lane.pace.retry_after_s(lane.rows_waiting)
        served = lane.served
        return queue_full(
            served.model_name, served.version, what=what, held=held, allowed=allowed, retry_after_s=after_s
        )
