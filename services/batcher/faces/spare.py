"""Whether the loop's thread has time for what nobody waits for."""

from collections.abc import Callable

from services.common.clock import Clock

LOOK_EVERY_S = 0.02
"""How long a measurement counts."""
BUSY_SHARE = 0.7
"""A thread that wants more of a processor than this has none to spare: what is added then makes callers wait."""


class SpareTime:
    """Measures when it is asked, at most every `LOOK_EVERY_S`."""

    def __init__(self, *, clock: Clock, wanted_s: Callable[[], float]) -> None:
        """`wanted_s`: seconds for which the thread ran or waited for a processor so far."""
        self._clock = clock
        self._wanted_s = wanted_s
        self._looked_s = clock.monotonic()
        self._before_s = wanted_s()
        self.share = 0.0
        """Of a processor, that the thread wanted when it was last measured."""

    @property
    def there(self) -> bool:
        """Whether there is some."""
        now_s = self._clock.monotonic()
        passed_s = now_s - self._looked_s
        if passed_s >= LOOK_EVERY_S:
            wanted_s = self._wanted_s()
            self.share = (wanted_s - self._before_s) / passed_s
            self._looked_s, self._before_s = now_s, wanted_s
        return self.share < BUSY_SHARE
