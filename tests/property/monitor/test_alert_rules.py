"""Rules under whatever figures, monitors and deaths may do, in virtual time.

An alert fires at the first look at which its condition held for as long as it must, and no sooner; there is one as long
as it lasts; it ends once it was calm; each channel hears of it once, unless a silence covers it; whoever dies in the
middle changes none of that.
"""

from dataclasses import replace
from datetime import datetime, timedelta

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.monitor.domain.alerts import FIRING, RESOLVED, Alert, acknowledged, resolved
from services.monitor.domain.channels import ChannelSpec, Silence, silenced
from services.monitor.domain.judging import Holds, Verdict
from services.monitor.domain.rounds import Known, Round, advanced
from services.monitor.domain.rules import RuleSpec, Threshold
from services.monitor.domain.telling import ROLLOUT, Message, Stage, due
from services.monitor.domain.watches import CALM_MAX_S, CALM_MIN_S, Timing, Watch, WatchedBy, timing_of
from tests.support.clock import NOON

VERSIONS = ("v1.0.0", "v2.0.0")
CHANNELS = {
    "people": ChannelSpec("people", "email", addresses=("a@b.example",)),
    "pager": ChannelSpec("pager", "pager_duty"),
    "grave": ChannelSpec("grave", "slack", min_severity="critical"),
}
LOUD = ("people", "pager")


class Database:
    """What monitors share: all of a look is stored or nothing, and nothing by whoever was overtaken."""

    def __init__(self, spec: RuleSpec) -> None:
        self.spec = spec
        self.revision = 0
        self.watches: dict[WatchedBy, Watch] = {}
        self.alerts: dict[str, Alert] = {}
        self.silences: list[Silence] = []
        self.written: list[Message] = []

    def known(self) -> Known:
        return Known(self.revision, {self.spec.name: self.spec}, dict(self.watches))

    def apply(self, known: Known, turned: Round, now: datetime) -> bool:
        if known.revision != self.revision:
            return False
        self.revision += 1
        self.watches.update(turned.watches)
        for by in turned.gone:
            self.watches.pop(by, None)
        for alert in turned.fired:
            assert alert.alert_id not in self.alerts, "an alert is made twice"
            self.alerts[alert.alert_id] = alert
        for alert_id in turned.ended:
            self.alerts[alert_id] = resolved(self.alerts[alert_id], now)
        self.settle(now)
        return True

    def settle(self, now: datetime) -> None:
        messages, changed = due(
            self.alerts.values(), rules={self.spec.name: self.spec}, channels=CHANNELS, silences=self.silences, now=now
        )
        self.alerts.update({alert.alert_id: alert for alert in changed})
        for message in messages:
            for alert in message.alerts:
                kept_quiet = message.channel and message.stage != Stage.RESOLVED
                assert not (kept_quiet and silenced(alert, self.silences, now)), "a silenced alert is told"
        self.written += messages


class AlertMachine(RuleBasedStateMachine):
    """Figures that change, monitors that look, people who silence and acknowledge; and a naive account of it all."""

    @initialize(for_s=st.sampled_from([0, 20, 60, 300]), action=st.sampled_from(["none", "hold"]))
    def begin(self, for_s: int, action: str) -> None:
        self.spec = RuleSpec(
            "r", Threshold("error_rate", ">", 0.1, 60, for_s), "warning", channels=tuple(CHANNELS), action=action
        )
        self.database = Database(self.spec)
        self.now = NOON
        self.figures = dict.fromkeys(VERSIONS, Holds.UNDECIDED)
        self.held: dict[str, datetime | None] = dict.fromkeys(VERSIONS)
        self.calm: dict[str, datetime | None] = dict.fromkeys(VERSIONS)
        self.decided: dict[str, datetime] = {}
        self.should_fire: dict[str, bool] = dict.fromkeys(VERSIONS, False)
        self.pending: list[tuple[Known, Round, datetime]] = []

    @rule(version=st.sampled_from(VERSIONS), holds=st.sampled_from(Holds))
    def the_figures_change(self, version: str, holds: Holds) -> None:
        self.figures[version] = holds

    @rule(seconds=st.sampled_from([1, 5, 20, 61, 400, 1000]))
    def a_monitor_looks(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)
        known = self.database.known()
        assert self.database.apply(known, self.turned(known), self.now)
        self.account()

    @rule(stored=st.booleans())
    def a_monitor_dies_in_the_middle_of_a_look(self, *, stored: bool) -> None:
        """Before the transaction nothing is stored, after it everything is."""
        self.now += timedelta(seconds=5)
        known = self.database.known()
        turned = self.turned(known)
        if stored:
            self.database.apply(known, turned, self.now)
            self.account()

    @rule()
    def two_monitors_look_at_once(self) -> None:
        self.now += timedelta(seconds=5)
        known = self.database.known()
        looks = [self.turned(known), self.turned(known)]
        assert [self.database.apply(known, turned, self.now) for turned in looks] == [True, False]
        self.account()

    @rule(seconds=st.integers(1, 600))
    def someone_silences(self, seconds: int) -> None:
        end = self.now + timedelta(seconds=seconds)
        self.database.silences.append(Silence(f"s{len(self.database.silences)}", "r", "", "", self.now, end))

    @rule()
    def someone_acknowledges(self) -> None:
        for alert in [alert for alert in self.database.alerts.values() if alert.status == FIRING][:1]:
            self.database.alerts[alert.alert_id] = acknowledged(alert, by="kim", note="", now=self.now)
            self.database.settle(self.now)

    @rule()
    def a_canary_is_held(self) -> None:
        for alert in [alert for alert in self.database.alerts.values() if "!rollout" in alert.told and not alert.done]:
            self.database.alerts[alert.alert_id] = replace(alert, done="the canary was put on hold")
            self.database.settle(self.now)

    def turned(self, known: Known) -> Round:
        verdicts = {
            WatchedBy("r", "m", version): Verdict(holds, 0.5)
            for version, holds in self.figures.items()
            if holds is not Holds.UNDECIDED
        }
        return advanced(known, verdicts, busy=(), now=self.now)

    def account(self) -> None:
        """The same by hand, look by look: what must fire now."""
        for version, holds in self.figures.items():
            if holds is Holds.UNDECIDED:
                last = self.decided.get(version)
                if last is None or self.now - last > timedelta(seconds=900):
                    self.held[version] = self.calm[version] = None
                    self.should_fire[version] = False
                continue
            self.decided[version] = self.now
            if holds is Holds.YES:
                self.calm[version] = None
                self.held[version] = self.held[version] or self.now
                since = self.held[version]
                assert since is not None
                if (self.now - since).total_seconds() >= self.for_s:
                    self.should_fire[version] = True
            elif self.should_fire[version]:
                self.calm[version] = self.calm[version] or self.now
                since = self.calm[version]
                assert since is not None
                if (self.now - since).total_seconds() >= min(max(self.for_s, CALM_MIN_S), CALM_MAX_S):
                    self.should_fire[version] = False
                    self.held[version] = self.calm[version] = None
            else:
                self.held[version] = None

    @property
    def for_s(self) -> int:
        assert isinstance(self.spec.condition, Threshold)
        return self.spec.condition.for_s

    @invariant()
    def what_must_fire_fires_and_nothing_else(self) -> None:
        if not hasattr(self, "database"):
            return
        for version in VERSIONS:
            found = [alert for alert in self.database.alerts.values() if alert.version == version and alert.is_open]
            assert len(found) == (1 if self.should_fire[version] else 0), (version, self.figures)
            for alert in found:
                assert alert.started_at == self.held[version]

    @invariant()
    def each_channel_hears_of_each_alert_once_and_in_order(self) -> None:
        if not hasattr(self, "database"):
            return
        heard: dict[tuple[str, str], list[str]] = {}
        for message in self.database.written:
            for alert in message.alerts:
                heard.setdefault((alert.alert_id, message.channel), []).append(message.stage)
        order = [Stage.FIRED, Stage.DONE, Stage.ACKNOWLEDGED, Stage.RESOLVED]
        for (alert_id, channel), stages in heard.items():
            if not channel:
                assert stages == ["hold"], "what is done to a canary is done once"
                continue
            places = [order.index(Stage(stage)) for stage in stages]
            assert places == sorted(set(places)), stages
            assert stages[0] == Stage.FIRED
            assert channel in LOUD, "the alert is not as bad as that channel asks for"
            if self.database.alerts[alert_id].status == RESOLVED:
                assert stages[-1] == Stage.RESOLVED

    @invariant()
    def what_fires_unsilenced_was_told(self) -> None:
        if not hasattr(self, "database"):
            return
        for alert in self.database.alerts.values():
            quiet = silenced(alert, self.database.silences, self.now)
            told = {message.channel for message in self.database.written if alert.alert_id in ids(message)}
            if alert.status == FIRING and not quiet and self.looked_since_silences_ended():
                assert set(LOUD) <= told
            if alert.is_open and self.spec.action != "none":
                assert any(m.means == ROLLOUT and alert.alert_id in ids(m) for m in self.database.written)

    def looked_since_silences_ended(self) -> bool:
        looks = [watch.looked_at for watch in self.database.watches.values() if watch.looked_at is not None]
        return bool(looks) and all(silence.end <= max(looks) for silence in self.database.silences)


def ids(message: Message) -> set[str]:
    return {alert.alert_id for alert in message.alerts}


TestAlerts = AlertMachine.TestCase
TestAlerts.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@given(st.integers(0, 86_400), st.integers(10, 86_400))
def test_the_times_of_a_rule_are_bounded(for_s: int, window_s: int) -> None:
    spec = RuleSpec("r", Threshold("error_rate", ">", 0.1, window_s, for_s), "warning")
    timing = timing_of(spec)
    assert isinstance(timing, Timing)
    assert timing.for_s == for_s
    assert CALM_MIN_S <= timing.calm_s <= CALM_MAX_S
    assert timing.silent_s >= max(900, window_s)


@given(st.integers(1, 120))
def test_what_fires_in_one_look_is_few_messages_to_people_and_one_each_to_programs(count: int) -> None:
    spec = RuleSpec("r", Threshold("error_rate", ">", 0.1), "warning", channels=LOUD)
    verdicts = {WatchedBy("r", f"m{place}", "v1.0.0"): Verdict(Holds.YES, 0.5) for place in range(count)}
    turned = advanced(Known(1, {"r": spec}), verdicts, busy=(), now=NOON)
    messages, changed = due(turned.fired, rules={"r": spec}, channels=CHANNELS, silences=(), now=NOON)
    letters = [message for message in messages if message.channel == "people"]
    assert len(letters) == -(-count // 50)
    assert sorted(alert.model for message in letters for alert in message.alerts) == sorted(
        alert.model for alert in turned.fired
    )
    assert len([message for message in messages if message.channel == "pager"]) == count
    again, unchanged = due(changed, rules={"r": spec}, channels=CHANNELS, silences=(), now=NOON)
    assert (again, unchanged) == ([], [])
