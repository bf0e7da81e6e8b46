"""One request on its way through a face: what it said in headers, what became known of it, how it ended."""

import secrets
from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING

from services.batcher.codec.frames import timeout_s
from services.batcher.domain.cached import CacheOutcome
from services.batcher.domain.outputs import Scores
from services.batcher.domain.priority import Priority
from services.batcher.domain.request import InferRequest, InferResult
from services.batcher.telemetry.traces import Trace
from services.common.errors import invalid

if TYPE_CHECKING:
    from services.batcher.faces.caller import Caller
    from services.batcher.faces.catalog import VersionPlan

HEADER_VERSION = b"x-model-version"
HEADER_ROUTE_VERSION = b"x-route-version"
HEADER_REQUEST_ID = b"x-request-id"
HEADER_PRIORITY = b"x-priority"
"""background: work that gets only what is idle, as the rows of batch jobs. Anybody may lower his own priority. normal:
the same as no header."""
HEADER_SHADOW = b"x-mesh-shadow"
"""1: a copy whose answer nobody reads."""
HEADER_ATTEMPT = b"x-envoy-attempt-count"
"""Which try of the gateway's this is, from 1 on. The gateway takes it away from callers."""
HEADER_GRPC_TIMEOUT = b"grpc-timeout"
HEADER_CACHE = b"x-infermesh-cache"
"""Of answers: where their rows came from, for versions whose answers are cached."""

KIND_CALLER = 0
KIND_RETRY = 1
KIND_SHADOW = 2
KIND_BATCH = 4

_BACKGROUND = b"background"
_PRIORITIES = (b"normal", _BACKGROUND)
_FIRST_ATTEMPT = (b"1", b"0", b"")
_REQUEST_ID_LENGTH_MAX = 128
_ID_PREFIX = f"req_{secrets.token_hex(6)}-"


class Call:
    """One request. Lives as long as it is worked on."""

    __slots__ = (
        "answered",
        "arrived_s",
        "cached",
        "caller",
        "compute_s",
        "headers",
        "item",
        "model_name",
        "plan",
        "predicted_s",
        "queued_s",
        "request",
        "request_id",
        "result",
        "rows",
        "scores",
        "shadow",
        "stated_priority",
        "team",
        "trace",
        "user",
    )

    def __init__(
        self,
        headers: Mapping[bytes, bytes],
        *,
        arrived_s: float,
        caller: "Caller",
        item: bool = False,
    ) -> None:
        self.headers = headers
        self.item = item
        """One of many on a stream: the headers' time limit and id are the stream's, not its own."""
        self.arrived_s = arrived_s
        self.answered = False
        """Whether there is an answer, and not an error."""
        self.queued_s = arrived_s
        """When it was read and checked, and went to the engine."""
        self.model_name = ""
        """Of a model that is served; empty before it is known to be."""
        self.plan: VersionPlan | None = None
        self.rows = 0
        self.request_id = ""
        self.scores: Scores | None = None
        self.request: InferRequest | None = None
        """What the engine was asked."""
        self.result: InferResult | None = None
        """What it answered."""
        self.compute_s = 0.0
        """What it used of model servers: its share, by rows, of the time of the batches that answered it."""
        self.predicted_s = 0.0
        """When the prediction was there that is still to be explained; 0: nothing is."""
        self.cached: CacheOutcome | None = None
        """Where its rows came from; None where nobody looked into the cache."""
        self.trace: Trace | None = None
        """What is kept of it for traces; None where it is not traced."""
        # Read once: half of the look-ups of a request were for these.
        get = headers.get
        self.stated_priority = get(HEADER_PRIORITY)
        """Checked when the request goes to the engine; nearly none has any."""
        self.shadow = get(HEADER_SHADOW) == b"1"
        """Whether it is a copy whose answer nobody reads."""
        self.caller = caller
        """Who asks, as the gateway authenticated it."""
        self.user = caller.user
        self.team = caller.team
        """The team that is charged."""

    @property
    def routed_version(self) -> str:
        """The version that headers name: the caller's, else the gateway's choice; empty where none does."""
        headers = self.headers
        named = headers.get(HEADER_VERSION) or headers.get(HEADER_ROUTE_VERSION)
        return named.decode("latin-1") if named else ""

    @property
    def priority(self) -> Priority:
        """Whose work goes first. Raises INVALID_FIELD where the header names no priority."""
        stated = self.stated_priority
        if stated:
            if stated not in _PRIORITIES:
                raise invalid(
                    "x-priority", stated.decode("latin-1"), "the header is normal (the default) or background"
                )
            if stated == _BACKGROUND:
                return Priority.BACKGROUND
        return Priority.SHADOW if self.shadow else Priority.CALLER

    @property
    def kind(self) -> int:
        """What it is, as the prediction log numbers it."""
        if self.stated_priority == _BACKGROUND:
            return KIND_BATCH
        if self.shadow:
            return KIND_SHADOW
        attempt = self.headers.get(HEADER_ATTEMPT)
        return KIND_CALLER if attempt is None or attempt in _FIRST_ATTEMPT else KIND_RETRY

    def grpc_timeout_s(self) -> float | None:
        """The time limit of the call itself. Raises MALFORMED_BODY where the header is none."""
        value = self.headers.get(HEADER_GRPC_TIMEOUT)
        return timeout_s(value) if value is not None and not self.item else None

    def name_request(self, stated: str) -> str:
        """Settles the request's id: the one stated, else the header's, else a new one. Raises INVALID_FIELD."""
        if not stated and not self.item:
            header = self.headers.get(HEADER_REQUEST_ID)
            stated = header.decode("latin-1") if header else ""
        if not stated:
            stated = new_request_id()
        elif len(stated) > _REQUEST_ID_LENGTH_MAX or not (stated.isascii() and stated.isprintable()):
            raise invalid("request_id", stated, f"at most {_REQUEST_ID_LENGTH_MAX} printable ASCII characters")
        self.request_id = stated
        return stated


_next_number = count(1).__next__


def new_request_id() -> str:
    """An id that no other request has: the process's random prefix and a count."""
    return f"{_ID_PREFIX}{_next_number()}"
