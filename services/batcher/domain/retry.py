"""How much may be tried again: a budget, so that a failing backend is never met with a multiple of the load."""


class RetryBudget:
    """Batches earn a share of a retry each, up to a bound; a retry spends one."""

    __slots__ = ("_held", "_held_max", "_share")

    def __init__(self, *, share: float = 0.2, held_max: float = 20.0) -> None:
        self._share = share
        self._held_max = held_max
        self._held = held_max

    def earn(self) -> None:
        """A batch was sent for the first time."""
        self._held = min(self._held_max, self._held + self._share)

    def spend(self) -> bool:
        """Whether one more retry is allowed; if so it is counted."""
        if self._held < 1.0:
            return False
        self._held -= 1.0
        return True
