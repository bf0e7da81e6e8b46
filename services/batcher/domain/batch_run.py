"""One batch at a model server, as its members remember it."""


class BatchRun:
    """When it went and came back, on the monotonic clock, and how large it was. Shared by all its members; nobody
    changes it. A plain slotted class: one is made for every batch."""

    __slots__ = ("backend_id", "failure", "landed_s", "oldest_s", "requests", "rows", "seconds", "sent_s")

    def __init__(  # noqa: PLR0917 - keywords cost a dictionary for each batch
        self,
        sent_s: float,
        landed_s: float,
        oldest_s: float,
        rows: int,
        requests: int,
        backend_id: str,
        failure: str = "",
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
