"""How many rows of a job are explained in one request.

An explained row costs thousands, so that a slow model explains few within a request's deadline. Nobody knows how slow
it is before it was asked: so the first requests are small, each that is answered lets the next be twice as large, and
one whose time was not enough halves it. From then on it grows by one (AIMD, Chiu and Jain 1989), so that a mesh
that is busy for a while costs no more than a few requests.
"""

_FIRST = 4


class Bite:
    """Of one job in one worker."""

    def __init__(self, most: int) -> None:
        self._most = max(1, most)
        self._size = min(_FIRST, self._most)
        self._doubles = True

    @property
    def size(self) -> int:
        """Rows in the next request; at least one."""
        return self._size

    def resize(self, most: int) -> None:
        """Changes the most."""
        self._most = max(1, most)
        self._size = min(self._size, self._most)

    def answered(self, rows: int) -> None:
        """A request of so many rows was answered in time. Small ones, such as a chunk's last, say nothing of larger
        ones."""
        if rows >= self._size:
            self._size = min(self._most, 2 * self._size if self._doubles else self._size + 1)

    def late(self, rows: int) -> None:
        """The deadline of a request of so many rows passed. Those that were sent with it halve nothing again."""
        self._doubles = False
        self._size = min(self._size, max(1, rows // 2))
