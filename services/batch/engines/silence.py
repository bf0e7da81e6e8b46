"""How long a job has had no answer from the model, whichever of its workers asked."""

from services.common.clock import Clock


class Silence:
    """Of one job in one worker, which says what it hears with its heartbeat and is told what all have heard."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since_s: float | None = None
        self._told_s: float | None = None
        self._heard: bool | None = None

    @property
    def seconds(self) -> float:
        """Since the first failure after the last answer, of all workers as far as is known; 0 after an answer."""
        if self._told_s is not None:
            return self._told_s
        return 0.0 if self._since_s is None else self._clock.monotonic() - self._since_s

    def answered(self) -> None:
        """An answer came."""
        self._heard, self._since_s = True, None
        self._told_s = None if self._told_s is None else 0.0

    def failed(self) -> None:
        """A request failed."""
        self._heard = bool(self._heard)
        self._since_s = self._clock.monotonic() if self._since_s is None else self._since_s

    def tell(self, seconds: float) -> None:
        """So long no worker of the job had an answer, as of now."""
        self._told_s = seconds

    def take(self) -> bool | None:
        """Whether an answer came since the last call; None: nothing did."""
        heard, self._heard = self._heard, None
        return heard

    def put_back(self, heard: bool) -> None:
        """What was taken could not be said."""
        self._heard = heard or bool(self._heard)
