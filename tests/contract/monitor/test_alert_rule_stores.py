"""Rules, channels, silences and letters in PostgreSQL."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.monitor.adapters.channel_secrets import ChannelKey
from services.monitor.adapters.postgres_alerts import PostgresAlertStore
from services.monitor.adapters.postgres_channels import PostgresChannelStore, PostgresSilenceStore
from services.monitor.adapters.postgres_notices import PostgresNotices
from services.monitor.adapters.postgres_rules import PostgresRuleStore
from services.monitor.domain.alerts import SEVERITIES
from services.monitor.domain.channels import ChannelSpec, Silence
from services.monitor.domain.judging import Holds, Verdict
from services.monitor.domain.rounds import Known, advanced
from services.monitor.domain.rules import RuleSpec, Threshold
from services.monitor.domain.watches import WatchedBy
from services.monitor.ports import AlertQuery
from services.monitor.ports_alerts import Asked
from tests.support.clock import NOON
from tests.support.monitor_events import event

SPEC = RuleSpec("r", Threshold("error_rate", ">", 0.1, 60, 0), "warning", model="digits", channels=("pager",))
PAGER = ChannelSpec("pager", "pager_duty")
SECRET = "R0UT1NGKEY0000000000000000000000"
BY = WatchedBy("r", "digits", "v1.0.0")
ALL = AlertQuery("", "", SEVERITIES)


@dataclass(frozen=True)
class Stores:
    engine: AsyncEngine
    rules: PostgresRuleStore
    channels: PostgresChannelStore
    silences: PostgresSilenceStore
    notices: PostgresNotices
    alerts: PostgresAlertStore


@pytest.fixture
async def stores(database_url: str) -> AsyncIterator[Stores]:
    await migrate(database_url, service="monitor")
    engine = create_engine(database_url, schema="monitor")
    yield Stores(
        engine,
        PostgresRuleStore(engine),
        PostgresChannelStore(engine, key=ChannelKey(b"k" * 32)),
        PostgresSilenceStore(engine),
        PostgresNotices(engine),
        PostgresAlertStore(engine),
    )
    await engine.dispose()


async def refused(reason: Reason, call: object) -> None:
    with pytest.raises(MeshError) as caught:
        await call  # type: ignore[misc]
    assert caught.value.reason is reason


async def ready(stores: Stores, spec: RuleSpec = SPEC) -> None:
    await stores.channels.create(PAGER, SECRET, Asked(), now=NOON)
    await stores.rules.create(spec, Asked("kim"), now=NOON)


async def look(stores: Stores, holds: Holds, *, after_s: float = 0.0, known: Known | None = None) -> bool:
    now = NOON + timedelta(seconds=after_s)
    begun = known or await stores.rules.known()
    turned = advanced(begun, {BY: Verdict(holds, 0.5)}, busy=(), now=now)
    return await stores.rules.apply(begun, turned, now=now)


async def test_whoever_was_overtaken_stores_nothing(stores: Stores) -> None:
    await ready(stores)
    known = await stores.rules.known()
    assert await look(stores, Holds.YES, known=known)
    assert not await look(stores, Holds.YES, known=known)
    assert len(await stores.alerts.find(ALL, after=None, limit=10)) == 1
    assert len(await stores.notices.take(limit=10, hold_s=60)) == 1
    assert (await stores.rules.known()).watches[BY].holding_since == NOON


async def test_what_changes_a_rule_overtakes_looks_that_began_before(stores: Stores) -> None:
    await ready(stores)
    known = await stores.rules.known()
    await stores.rules.update(replace(SPEC, enabled=False), etag="", now=NOON)
    assert not await look(stores, Holds.YES, known=known)
    assert await stores.alerts.find(ALL, after=None, limit=10) == []
    assert "r" not in (await stores.rules.known()).rules


async def test_a_rule_that_is_turned_off_or_goes_elsewhere_ends_its_alerts(stores: Stores) -> None:
    await ready(stores)
    for place, change in enumerate((replace(SPEC, enabled=False), replace(SPEC, model="other"))):
        await stores.rules.update(SPEC, etag="", now=NOON)
        await look(stores, Holds.YES, after_s=place * 100 + 1)
        await stores.rules.update(change, etag="", now=NOON + timedelta(seconds=place * 100 + 50))
        assert {alert.status for alert in await stores.alerts.find(ALL, after=None, limit=10)} == {"resolved"}
        assert (await stores.rules.known()).watches == {}
    # Words and channels change nothing of what is remembered.
    await stores.rules.update(SPEC, etag="", now=NOON)
    await look(stores, Holds.YES, after_s=500)
    await stores.rules.update(replace(SPEC, description="more", severity="critical"), etag="", now=NOON)
    assert [alert.status for alert in await stores.alerts.find(ALL, after=None, limit=1)] == ["firing"]


async def test_a_channel_hears_things_in_their_order(stores: Stores) -> None:
    await ready(stores)
    await look(stores, Holds.YES)
    (fired,) = await stores.notices.take(limit=10, hold_s=0)
    await stores.notices.postpone(fired, after_s=0, why="away")
    for after_s in (10, 80):
        await look(stores, Holds.NO, after_s=after_s)
    # The end waits until the beginning has been told.
    (again,) = await stores.notices.take(limit=10, hold_s=60)
    assert (again.stage, again.tries, again.notice_id) == ("fired", 2, fired.notice_id)
    assert await stores.notices.take(limit=10, hold_s=60) == []
    assert await stores.notices.waiting() == 2
    told = await stores.notices.told([fired.alerts[0].alert_id])
    assert [(one.channel, one.status) for one in told[fired.alerts[0].alert_id]] == [("pager", "pending")]
    await stores.notices.end(again, "sent")
    (over,) = await stores.notices.take(limit=10, hold_s=60)
    assert (over.stage, over.alerts[0].status) == ("resolved", "resolved")
    await stores.notices.end(over, "given_up", why="gone")
    (state,) = (await stores.notices.told([over.alerts[0].alert_id]))[over.alerts[0].alert_id]
    assert (state.status, state.problem, state.attempts) == ("failed", "gone", 1)


async def test_what_an_event_does_to_a_canary_is_asked_once_and_noted_once(stores: Stores) -> None:
    spec = RuleSpec(
        "mine", condition=(await rule_of(stores, "canary_held")).condition, severity="warning", action="hold"
    )
    await stores.rules.create(spec, Asked(), now=NOON)
    await stores.alerts.report([event("1", "canary_held", severity="warning")], now=NOON)
    await stores.alerts.report([event("2", "canary_held", severity="warning")], now=NOON)
    (letter,) = await stores.notices.take(limit=10, hold_s=60)
    assert (letter.means, letter.stage, letter.channel, letter.alerts[0].rule) == ("rollout", "hold", "", "mine")
    for words in ("it was put on hold", "something else"):
        await stores.notices.done(letter.alerts[0].alert_id, words, now=NOON)
    alert = await stores.alerts.get(letter.alerts[0].alert_id)
    assert alert is not None
    assert alert.done == "it was put on hold"


async def rule_of(stores: Stores, name: str) -> RuleSpec:
    found = await stores.rules.get(name)
    assert found is not None
    return found.spec


async def test_secrets_are_encrypted_and_bound_to_their_channel(stores: Stores) -> None:
    made = await stores.channels.create(PAGER, SECRET, Asked(), now=NOON)
    await stores.channels.create(ChannelSpec("other", "pager_duty"), "X" * 32, Asked(), now=NOON)
    assert made.has_secret
    async with stores.engine.begin() as connection:
        rows = await connection.execute(text("SELECT notification_channels::text AS line FROM notification_channels"))
        lines = [row.line for row in rows]
        assert all(SECRET not in line and SECRET.encode().hex() not in line for line in lines)
        await connection.execute(
            text(
                "UPDATE notification_channels SET secret = "
                "(SELECT secret FROM notification_channels WHERE name = 'pager') WHERE name = 'other'"
            )
        )
    assert await stores.channels.secret("pager") == SECRET
    await refused(Reason.DEPENDENCY_UNAVAILABLE, stores.channels.secret("other"))
    await refused(
        Reason.DEPENDENCY_UNAVAILABLE,
        PostgresChannelStore(stores.engine, key=ChannelKey(b"x" * 32)).secret("pager"),
    )
    # A secret that an update leaves out stays.
    await stores.channels.update(replace(PAGER, min_severity="critical"), "", etag=made.etag, now=NOON)
    assert await stores.channels.secret("pager") == SECRET
    await refused(Reason.ETAG_MISMATCH, stores.channels.update(PAGER, "", etag=made.etag, now=NOON))


async def test_names_etags_and_repeated_calls(stores: Stores) -> None:
    await ready(stores)
    await refused(Reason.ALERT_RULE_EXISTS, stores.rules.create(SPEC, Asked(), now=NOON))
    await refused(Reason.CHANNEL_EXISTS, stores.channels.create(PAGER, SECRET, Asked(), now=NOON))
    await refused(
        Reason.CHANNEL_NOT_FOUND,
        stores.rules.create(replace(SPEC, name="x", channels=("nobody",)), Asked(), now=NOON),
    )
    await refused(Reason.RESOURCE_IN_USE, stores.channels.delete("pager", etag=""))
    other = replace(SPEC, name="other")
    made = await stores.rules.create(other, Asked("kim", "id"), now=NOON)
    assert await stores.rules.create(other, Asked("kim", "id"), now=NOON) == made
    await refused(Reason.REQUEST_ID_REUSED, stores.rules.create(replace(other, name="y"), Asked("", "id"), now=NOON))
    await refused(Reason.ETAG_MISMATCH, stores.rules.delete("other", etag="0", now=NOON))
    assert await stores.rules.delete("other", etag=made.etag, now=NOON)
    assert not await stores.rules.delete("other", etag="", now=NOON)
    names = [rule.spec.name for rule in await stores.rules.find("digits", after="", limit=10)]
    assert names == ["r"]
    seen = await stores.rules.find("", after="", limit=100, models={"elsewhere"})
    assert "r" not in [rule.spec.name for rule in seen]
    assert "error-rate" in [rule.spec.name for rule in seen]


async def test_a_silence_holds_until_its_end_and_then_it_is_told(stores: Stores) -> None:
    await ready(stores)
    silence = Silence("s1", "r", "", "deploying", NOON, NOON + timedelta(seconds=100), "kim")
    assert await stores.silences.create(silence, Asked("kim"), now=NOON) == silence
    await look(stores, Holds.YES, after_s=1)
    await look(stores, Holds.YES, after_s=99)
    assert await stores.notices.take(limit=10, hold_s=60) == []
    assert await stores.silences.find(now=NOON) == [silence]
    await look(stores, Holds.YES, after_s=100)
    (told,) = await stores.notices.take(limit=10, hold_s=60)
    assert told.alerts[0].started_at == NOON + timedelta(seconds=1)
    assert await stores.silences.find(now=NOON + timedelta(seconds=100)) == []
