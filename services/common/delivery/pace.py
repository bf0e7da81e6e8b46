"""What becomes of a notification that could not be delivered."""

from enum import StrEnum

BUDGET_S = 86_400.0
"""A notification that is a day old helps nobody any more."""
_DELAY_MIN_S = 5.0
_DELAY_MAX_S = 900.0


class Outcome(StrEnum):
    """How the story of a notification ends."""

    SENT = "sent"
    GIVEN_UP = "given_up"


def again_after_s(tries: int, age_s: float, asked_s: float, chance: float) -> float | None:
    """How long to wait before try number `tries` + 1, in seconds: doubling from 5 s to 15 minutes, spread by `chance`
    (0 to 1), never less than the receiver asked for. None: not within a day of what it tells of, so give up."""
    backoff_s = min(_DELAY_MAX_S, _DELAY_MIN_S * 2 ** min(tries - 1, 16)) * (0.5 + chance / 2)
    wait_s = max(backoff_s, asked_s)
    return wait_s if age_s + wait_s <= BUDGET_S else None


def passes(http_status: int) -> bool:
    """Whether what an HTTP answer other than 2xx says may be otherwise later."""
    return http_status >= 500 or http_status in (408, 425, 429)
