"""Which requests are traced, and what is kept of them until the exporter makes spans of it.

A request that is not traced costs one look into its headers; one that is costs some 2 µs. Nothing here waits, and what
the exporter cannot take in time is dropped and counted: traces never slow predictions down.
"""

import re
from collections import deque
from collections.abc import Mapping
from math import inf, log
from random import Random

from services.batcher.domain.batch_run import BatchRun
from services.common.errors import MeshError

HEADER_PARENT = b"traceparent"
HEADER_STATE = b"tracestate"
HELD_MAX = 2048
"""Finished requests that wait for the exporter; beyond it they are dropped."""
# W3C Trace Context, level 1: https://www.w3.org/TR/trace-context/#traceparent-header
_PARENT = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?:-.*)?", re.ASCII
)
_SAMPLED = 1
_TRACE_ID_BYTES = 16
_HEADER_BYTES_MAX = 512
"""Of each header, the most that the standard asks to be carried on. Longer ones are kept out: thousands of requests
wait for the exporter, and callers write what they like."""


class Trace:
    """A request that is traced, from its arrival until a span was made of it."""

    __slots__ = (
        "arrived_s",
        "ended_s",
        "error",
        "model_name",
        "parent",
        "queued_s",
        "request_id",
        "rows",
        "runs",
        "state",
        "trace_id",
        "version",
    )

    def __init__(self, trace_id: bytes, *, arrived_s: float, parent: bytes = b"", state: bytes = b"") -> None:
        self.trace_id = trace_id
        """16 bytes: the caller's, or made where the trace begins here. Exemplars and the prediction log name it."""
        self.parent = parent
        """`traceparent` as it came; empty where the trace begins here."""
        self.state = state
        self.runs: list[BatchRun] = []
        """The batches that it was in: several where it was tried again or split."""
        self.error: MeshError | None = None
        self.arrived_s = arrived_s
        self.queued_s = arrived_s
        self.ended_s = arrived_s
        self.model_name = ""
        self.version = ""
        self.rows = 0
        self.request_id = ""


class Traces:
    """Decides and keeps. `ratio` is the share of requests without a `traceparent` that begin a trace."""

    def __init__(self, *, ratio: float, rng: Random, held_max: int = HELD_MAX) -> None:
        self._ratio = ratio
        self._rng = rng
        self._held_max = held_max
        self._held: deque[Trace] = deque()
        self._until_next = self._gap()
        self.dropped = 0
        """Finished requests for which there was no room."""

    def __len__(self) -> int:
        """Finished requests that wait."""
        return len(self._held)

    def begin(self, headers: Mapping[bytes, bytes], arrived_s: float) -> Trace | None:
        """The trace of a request; None where it is not traced. A caller's decision is honoured, whichever it is."""
        parent = headers.get(HEADER_PARENT)
        if parent is not None and len(parent) <= _HEADER_BYTES_MAX:
            stated = _PARENT.fullmatch(parent)
            if stated is not None:
                if not int(stated[2], 16) & _SAMPLED:
                    return None
                state = headers.get(HEADER_STATE, b"")
                if len(state) > _HEADER_BYTES_MAX:
                    state = b""
                return Trace(bytes.fromhex(stated[1].decode()), arrived_s=arrived_s, parent=parent, state=state)
        self._until_next -= 1
        if self._until_next > 0:
            return None
        self._until_next = self._gap()
        return Trace(self._rng.randbytes(_TRACE_ID_BYTES), arrived_s=arrived_s)

    def end(self, trace: Trace) -> None:
        """The request is finished."""
        if len(self._held) >= self._held_max:
            self.dropped += 1
        else:
            self._held.append(trace)

    def take(self, most: int) -> list[Trace]:
        """The oldest finished requests, at most so many; they wait no more."""
        held = self._held
        return [held.popleft() for _ in range(min(most, len(held)))]

    def _gap(self) -> float:
        """How many requests until the next that is traced: geometrically distributed, so that each is with probability
        `ratio` and one draw does for all between two (Devroye, Non-Uniform Random Variate Generation, X.2.1)."""
        if self._ratio <= 0:
            return inf
        if self._ratio >= 1:
            return 1
        return 1 + log(1.0 - self._rng.random()) // log(1.0 - self._ratio)
