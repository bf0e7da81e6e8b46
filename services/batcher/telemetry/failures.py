"""The last requests that failed, for whoever looks for the reason at night."""

from collections import deque
from collections.abc import Iterator

from services.common.errors import Reason

KEPT_MAX = 50
_MESSAGE_LENGTH_MAX = 300


class LastFailures:
    """Keeps the newest ones. Noting one costs a tenth of a microsecond."""

    def __init__(self, *, kept_max: int = KEPT_MAX) -> None:
        self._kept: deque[tuple[float, str, str, str, Reason, str]] = deque(maxlen=kept_max)

    def note(
        self, *, ended_s: float, model_name: str, version: str, request_id: str, reason: Reason, message: str
    ) -> None:
        """One request; what is not known of it is empty."""
        self._kept.append((ended_s, model_name, version, request_id, reason, message))

    def lines(self, now_s: float) -> Iterator[dict[str, object]]:
        """What is kept, newest first."""
        for ended_s, model_name, version, request_id, reason, message in reversed(self._kept):
            yield {
                "ago_s": round(now_s - ended_s, 3),
                "model": model_name,
                "version": version,
                "request_id": request_id,
                "reason": reason.value,
                "message": message[:_MESSAGE_LENGTH_MAX],
            }
