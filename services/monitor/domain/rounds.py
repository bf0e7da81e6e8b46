"""One look at all rules: what fires, what ends, what is remembered until the next one."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from services.monitor.domain.alerts import FIRING, Alert, found_alert_id
from services.monitor.domain.judging import UNDECIDED, Verdict
from services.monitor.domain.rules import TRAFFIC_METRICS, RuleSpec, Threshold
from services.monitor.domain.watches import Turn, Watch, WatchedBy, looked, timing_of, worth_keeping
from services.monitor.domain.wording import summary_of

TRAFFIC_KEPT = timedelta(days=1)
"""Rules on traffic forget a version that had none for so long: it is not served any more."""
OPEN_MAX = 1000
"""The most alerts of one rule that are open at one time: what is wrong everywhere need not be said of everything."""


@dataclass(frozen=True)
class Known:
    """What a look begins with: the rules that are evaluated, what is remembered, and which state of both that is."""

    revision: int
    rules: Mapping[str, RuleSpec] = field(default_factory=dict)
    watches: Mapping[WatchedBy, Watch] = field(default_factory=dict)


@dataclass(frozen=True)
class Round:
    """What a look changes."""

    watches: Mapping[WatchedBy, Watch] = field(default_factory=dict)
    gone: Collection[WatchedBy] = ()
    fired: tuple[Alert, ...] = ()
    ended: tuple[str, ...] = ()


def counts_traffic(spec: RuleSpec) -> bool:
    """Whether the rule is on traffic, so that nothing is a figure too."""
    return isinstance(spec.condition, Threshold) and spec.condition.metric in TRAFFIC_METRICS


def advanced(
    known: Known, verdicts: Mapping[WatchedBy, Verdict], *, busy: Collection[WatchedBy], now: datetime
) -> Round:
    """What changes. `verdicts` are those of what was seen; what is remembered and was not seen is undecided. `busy` had
    requests."""
    watches: dict[WatchedBy, Watch] = {}
    gone: list[WatchedBy] = []
    fired: list[Alert] = []
    ended: list[str] = []
    count = Counter(by.rule for by, watch in known.watches.items() if watch.alert_id)
    for by in sorted(known.watches.keys() | verdicts.keys()):
        before = known.watches.get(by, Watch())
        spec = known.rules.get(by.rule)
        if spec is None:
            # Its rule is gone or off; whoever changed that ended its alert.
            gone.append(by)
            continue
        traffic = counts_traffic(spec)
        if traffic and by in busy:
            before = replace(before, seen_at=now)
        forgotten = traffic and (before.seen_at is None or now - before.seen_at > TRAFFIC_KEPT)
        verdict = UNDECIDED if forgotten else verdicts.get(by, UNDECIDED)
        after, turn = looked(before, verdict, timing_of(spec), now)
        if turn is Turn.ENDS:
            ended.append(before.alert_id)
        elif turn is Turn.FIRES and count[by.rule] < OPEN_MAX:
            alert = _fired(spec, by, after, verdict, now)
            fired.append(alert)
            count[by.rule] += 1
            after = replace(after, alert_id=alert.alert_id)
        if worth_keeping(after) and not (forgotten and not after.alert_id):
            watches[by] = after
        elif by in known.watches:
            gone.append(by)
    return Round(watches, gone, tuple(fired), tuple(ended))


def _fired(spec: RuleSpec, by: WatchedBy, watch: Watch, verdict: Verdict, now: datetime) -> Alert:
    since = watch.holding_since or now
    return Alert(
        alert_id=found_alert_id(by.rule, by.model, by.version, since),
        rule=by.rule,
        subject=f"{by.rule}/{by.model}/{by.version}",
        model=by.model,
        version=by.version,
        severity=spec.severity,
        status=FIRING,
        summary=summary_of(spec, by.model, by.version, verdict.value),
        probable_cause="",
        undo_command="",
        value=verdict.value,
        started_at=since,
        fired_at=now,
    )
