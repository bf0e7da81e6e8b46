"""What the engine counts, for metrics."""

from dataclasses import dataclass


@dataclass(slots=True)
class Depth:
    """How much of one version is under way."""

    requests_waiting: int = 0
    rows_waiting: int = 0
    batches_in_flight: int = 0
    rows_in_flight: int = 0
    requests_in_flight: int = 0
    """At model servers; each part of one that was split counts."""


@dataclass(slots=True)
class Counters:
    """What happened since the start. They only grow."""

    requests: int = 0
    """Admitted."""
    rows: int = 0
    """Of admitted requests."""
    batches: int = 0
    """Sent, retries included."""
    retries: int = 0
    """Batches sent again, whatever for."""
    refused: int = 0
    """Turned away at once: a full queue, a long outage, a stop."""
    displaced: int = 0
    """Admitted, and then answered with QUEUE_FULL to make room for others."""
    expired: int = 0
    """Answered with DEADLINE_TOO_SHORT."""
    cancelled: int = 0
    """Given up by their callers."""
    failed: int = 0
    """Answered with any other error."""
