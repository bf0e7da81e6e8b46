"""How long a condition has held, and when that fires and ends an alert.

An alert fires once its condition held for the rule's time without a break, and ends once it has not held for a while,
so that a figure at the edge does not fire again and again. Windows with too few requests decide nothing: they neither
break a run nor make one longer; only where none decides for long is what was seen before forgotten.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum, auto

from services.monitor.domain.judging import Holds, Verdict
from services.monitor.domain.rules import BurnRate, RuleSpec, Threshold

CALM_MIN_S, CALM_MAX_S = 60, 300
"""An alert ends once its condition has not held for as long as it had to hold, within these bounds, in seconds."""
SILENT_MIN_S = 900
"""Where no window decides for so long, or for the window's length where that is more, nothing is known any more."""


@dataclass(frozen=True, slots=True, order=True)
class WatchedBy:
    """A rule and what it looks at. Version "": the model as a whole; model "" too: the platform."""

    rule: str
    model: str = ""
    version: str = ""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered between two looks."""

    holding_since: datetime | None = None
    calm_since: datetime | None = None
    decided_at: datetime | None = None
    looked_at: datetime | None = None
    alert_id: str = ""
    """Of the alert that fires. Empty: none does."""
    seen_at: datetime | None = None
    """When requests were seen last, of rules on traffic."""


class Turn(Enum):
    """What a look changes."""

    NOTHING = auto()
    FIRES = auto()
    ENDS = auto()


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a condition must hold, and not hold, and for how long silence means nothing; in seconds."""

    for_s: float
    calm_s: float
    silent_s: float


def timing_of(spec: RuleSpec) -> Timing:
    """The times of a rule."""
    condition = spec.condition
    for_s = float(condition.for_s) if isinstance(condition, Threshold) else 0.0
    window_s = 0
    if isinstance(condition, Threshold):
        window_s = condition.window_s
    elif isinstance(condition, BurnRate):
        window_s = condition.long_window_s
    return Timing(for_s, min(max(for_s, CALM_MIN_S), CALM_MAX_S), max(SILENT_MIN_S, window_s))


def looked(watch: Watch, verdict: Verdict, timing: Timing, now: datetime) -> tuple[Watch, Turn]:
    """The watch after a look, and what that changes. A look that is not later than the last one changes nothing."""
    if watch.looked_at is not None and now <= watch.looked_at:
        return watch, Turn.NOTHING
    if verdict.holds is Holds.UNDECIDED:
        silent = watch.decided_at is None or now - watch.decided_at > timedelta(seconds=timing.silent_s)
        if not silent:
            return replace(watch, looked_at=now), Turn.NOTHING
        return Watch(looked_at=now, seen_at=watch.seen_at), Turn.ENDS if watch.alert_id else Turn.NOTHING
    if verdict.holds is Holds.YES:
        since = watch.holding_since or now
        held = replace(watch, holding_since=since, calm_since=None, decided_at=now, looked_at=now)
        fires = not watch.alert_id and now - since >= timedelta(seconds=timing.for_s)
        return held, Turn.FIRES if fires else Turn.NOTHING
    if not watch.alert_id:
        return Watch(decided_at=now, looked_at=now, seen_at=watch.seen_at), Turn.NOTHING
    calm_since = watch.calm_since or now
    if now - calm_since >= timedelta(seconds=timing.calm_s):
        return Watch(decided_at=now, looked_at=now, seen_at=watch.seen_at), Turn.ENDS
    return replace(watch, calm_since=calm_since, decided_at=now, looked_at=now), Turn.NOTHING


def worth_keeping(watch: Watch) -> bool:
    """Whether the next look needs it: without a run and without an alert there is nothing to remember."""
    return watch.holding_since is not None or bool(watch.alert_id) or watch.seen_at is not None
