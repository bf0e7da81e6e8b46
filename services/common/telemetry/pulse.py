"""What a process last said of its own health, for threads other than the one that it works on."""

from collections.abc import Sequence

from services.common.clock import Clock

HANGS_AFTER_S = 20.0
"""A loop that has said nothing for so long hangs. Longer than any step that a service takes in one go."""


class Pulse:
    """Written by the loop, again and again; read by the thread that answers probes. So a loop that hangs is seen."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._unready: tuple[str, ...] = ("starting",)
        self._beat_s = clock.monotonic()

    def beat(self, unready: Sequence[str]) -> None:
        """The loop runs, and these parts are not ready; none: all are."""
        self._unready = tuple(unready)
        self._beat_s = self._clock.monotonic()

    @property
    def unready(self) -> Sequence[str]:
        """What was not ready when the loop last said so."""
        return self._unready

    @property
    def hangs(self) -> bool:
        """Whether the loop has been silent for too long."""
        return self._clock.monotonic() - self._beat_s > HANGS_AFTER_S
