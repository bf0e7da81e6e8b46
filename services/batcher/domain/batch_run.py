"""One batch at a model server, as its members remember it."""

from typing import NamedTuple


class BatchContext(NamedTuple):
    """What a batch with a traced member is called in traces. Model servers are told before there is a span of it."""

    trace_id: bytes
    """16 bytes: a trace of its own, since a batch belongs to none of its members'."""
    span_id: bytes
    """8 bytes."""

    @property
    def traceparent(self) -> bytes:
        """As W3C writes it."""
        return b"00-%s-%s-01" % (self.trace_id.hex().encode(), self.span_id.hex().encode())


class BatchRun:
    """When it went and came back, on the monotonic clock, and how large it was. Shared by all its members; nobody
    changes it. A plain slotted class: one is made for every batch."""

    __slots__ = ("backend_id", "context", "failure", "landed_s", "oldest_s", "requests", "rows", "seconds", "sent_s")

    def __init__(  # noqa: PLR0917 - keywords cost a dictionary for each batch
        self,
        sent_s: float,
        landed_s: float,
        oldest_s: float,
        rows: int,
        requests: int,
        backend_id: str,
        failure: str = "",
        context: BatchContext | None = None,
    ) -> None:
        self.sent_s = sent_s
        self.landed_s = landed_s
        self.seconds = landed_s - sent_s
        self.oldest_s = oldest_s
        """How long its oldest member had waited when it went."""
        self.rows = rows
        self.requests = requests
        self.backend_id = backend_id
        self.failure = failure
        """What went wrong, as a kind and a sentence; empty where it was answered."""
        self.context = context
        """None where none of its members is traced."""
