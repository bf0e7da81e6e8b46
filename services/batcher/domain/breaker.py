"""When a helper that failed is asked again: it is left alone for a time that grows with every failure."""


class Breaker:
    """Open after a failure, for 50 ms at first and up to 10 s. Then one probe decides: it closes, or opens for longer.

    Failures count until it was closed for 30 s without one, so a helper that is slow every now and then is left alone
    most of the time too.
    """

    _DELAY_MIN_S = 0.05
    _DELAY_MAX_S = 10.0
    _CALM_S = 30.0

    def __init__(self) -> None:
        self._failures = 0
        self._failed_s = float("-inf")
        self.open = True
        """Nobody may ask. It begins open: the first probe closes it."""

    def failed(self, now_s: float) -> float:
        """Opens it. How long to wait before the probe, in seconds."""
        if now_s - self._failed_s > self._CALM_S:
            self._failures = 0
        self._failed_s = now_s
        self._failures += 1
        self.open = True
        return min(self._DELAY_MAX_S, self._DELAY_MIN_S * 2.0 ** min(self._failures - 1, 30))

    def probed(self) -> None:
        """The probe succeeded: everybody may ask."""
        self.open = False
