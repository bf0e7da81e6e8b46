"""How many artifacts may be on their way into the store at one time, whichever call brings them."""

from collections.abc import Iterator
from contextlib import contextmanager

from services.common.errors import MeshError, Reason


class SendingTurns:
    """At most so many at one time: each takes a thread and room on the disk."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._taken = 0

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Holds a turn. Raises QUOTA_EXCEEDED where all are taken."""
        if self._taken >= self._most:
            raise MeshError(
                Reason.QUOTA_EXCEEDED,
                f"{self._taken} artifacts are being sent at this moment, the most at one time; try again later",
                retry_after_s=10.0,
            )
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1
