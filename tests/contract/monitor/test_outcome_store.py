"""Outcomes and the predictions they are of, in PostgreSQL and in what stands in for it."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from services.common.access.book import Sight
from services.monitor.domain.aggregate import SECOND_US
from services.monitor.domain.evidence import SECONDS_KEPT, MetricSum, WatchKey
from services.monitor.domain.measures import REQUESTS
from services.monitor.domain.outcomes import Outcome, OutcomeKey, Reporter, Truth
from services.monitor.domain.records import Labels, StreamKey
from services.monitor.engines.stream import RecorderLimits, Stream
from services.monitor.ports import Applied, Batch
from tests.contract.monitor.conftest import EvidenceStores
from tests.support.clock import NOON
from tests.support.monitor_log import group_of

STREAM = StreamKey("batcher-0", 1)
WHOLE = WatchKey("digits", NOON)
HEAD = WatchKey("digits", NOON + timedelta(seconds=30))
LIMITS = RecorderLimits(flush_period_s=1.0, cells_max=100, rows_max=1000, sample_rate=1.0)
Sums = dict[str, dict[str, MetricSum]]


def batch(
    sequence: int,
    *request_ids: str,
    second: float = 0.0,
    version: str = "v1.0.0",
    labels: Sequence[Labels] = (),
    kinds: Sequence[int] = (),
) -> Batch:
    """Requests that were answered so many seconds after noon."""
    stream = Stream(STREAM, received=sequence, durable=sequence - 1)
    group = group_of(
        [1000] * len(request_ids),
        times_us=[round((NOON.timestamp() + second) * SECOND_US)] * len(request_ids),
        version=version,
        request_ids=request_ids,
        labels=labels,
        kinds=kinds,
    )
    stream.waiting.add(group, now_us=int(NOON.timestamp()) * SECOND_US, reason_name=str, limits=LIMITS)
    stored = stream.to_store()
    assert stored is not None
    return stored


def outcome(request_id: str, truth: Truth = None, *, instance: int = 0, **metrics: float) -> Outcome:
    return Outcome(OutcomeKey(request_id, instance), truth, metrics, NOON)


async def sums(stores: EvidenceStores, key: WatchKey = WHOLE, *, now: datetime = NOON) -> Sums:
    """What the outcomes add up to, by version and metric."""
    read = (await stores.evidence.read([key], now=now))[key].outcomes
    found = {v: {name: value for name, value in values.items() if value.count} for v, values in read.items()}
    return {version: values for version, values in found.items() if values}


async def matched(stores: EvidenceStores, *outcomes: Outcome) -> list[bool]:
    return [taken.predicted is not None for taken in await stores.outcomes.report(outcomes, now=NOON)]


async def test_an_outcome_is_joined_in_either_order(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "known", labels=[Labels(["cat"])]))
    assert await matched(stores, outcome("known", "cat", ctr=1.0), outcome("later", "cat", ctr=3.0)) == [True, False]
    await stores.log.apply(batch(2, "later", labels=[Labels(["dog"])]))
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(2, 1.0, 1.0), "ctr": MetricSum(2, 4.0, 10.0)}}
    [found] = await stores.outcomes.find("later", after=-1, limit=10)
    assert found.predicted is not None
    assert (found.predicted.model, found.predicted.version, found.predicted.label) == ("digits", "v1.0.0", "dog")


async def test_a_later_report_replaces_the_one_before(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await matched(stores, outcome("early", "dog", revenue=0.3))
    await stores.log.apply(batch(1, "early", "other", labels=[Labels(["cat"]), Labels(["cat"])]))
    await matched(stores, outcome("other", "cat", revenue=0.1), outcome("other", "dog", revenue=0.2, ctr=1.0))
    found = (await sums(stores))["v1.0.0"]
    assert rounded(found["revenue"]) == MetricSum(2, 0.5, 0.13)
    assert found["accuracy"] == MetricSum(2, 0.0, 0.0)
    await matched(stores, outcome("early", "cat"), outcome("other", "cat"))
    await matched(stores, outcome("early", "cat"))
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(2, 2.0, 2.0)}}
    # What was taken out is what had been put in, to the last digit.
    read = (await stores.evidence.read([WHOLE], now=NOON))[WHOLE].outcomes["v1.0.0"]
    assert read.get("revenue", MetricSum()) == MetricSum()


async def test_instances_are_told_apart(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "rows", labels=[Labels(["a", "b", "c"])]))
    await matched(stores, *(outcome("rows", "b", instance=place) for place in range(5)))
    # Two of them the request did not have: they are kept, and say nothing about accuracy.
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(3, 1.0, 1.0)}}
    listed = await stores.outcomes.find("rows", after=1, limit=2)
    assert [found.key.instance_index for found in listed] == [2, 3]
    assert await stores.outcomes.find("nobody", after=-1, limit=10) == []


async def test_names_are_kept_as_they_are(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    names = ["", "NULL", 'a "b"', "c\\d", "{e,f}", "tab\there", "two\nlines", "\r", "ü", "'", "\\N", "\\."]
    ids = [f"id {name}" for name in names]
    await stores.log.apply(batch(1, *ids, labels=[Labels([name, "second"]) for name in names]))
    taken = await stores.outcomes.report([outcome(request_id, "x") for request_id in ids], now=NOON)
    assert [found.predicted.label if found.predicted else None for found in taken] == names
    await stores.log.apply(batch(2, "numbers", labels=[Labels(numbers=[float("inf"), -1e-300, float("nan")])]))
    found = await stores.outcomes.report([outcome("numbers", 1.0, instance=place) for place in range(3)], now=NOON)
    assert [str(taken.predicted.number) for taken in found if taken.predicted] == ["inf", "-1e-300", "nan"]


async def test_numbers_give_errors_and_classes_accuracy(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "price", "failed", labels=[Labels(numbers=[10.5]), Labels()]))
    await stores.log.apply(batch(2, "digit", "flag", version="v2.0.0", labels=[Labels(["3"]), Labels(["true"])]))
    await matched(stores, outcome("price", 12.0), outcome("failed", 1.0, ctr=0.0))
    await matched(stores, outcome("digit", 3.0), outcome("flag", True))
    assert await sums(stores) == {
        "v1.0.0": {"absolute_error": MetricSum(1, 1.5, 2.25), "ctr": MetricSum(1, 0.0, 0.0)},
        "v2.0.0": {"accuracy": MetricSum(2, 2.0, 2.0)},
    }


async def test_copies_and_warm_ups_are_not_what_callers_got(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    labels = [Labels(["cat"])] * 2
    await stores.log.apply(batch(1, "one", "one", kinds=[2, 3], version="v9.0.0", labels=labels))
    await stores.log.apply(batch(2, "two", "two", kinds=[2, 3], version="v9.0.0"))
    assert await matched(stores, outcome("one", ctr=1.0), outcome("two", ctr=1.0)) == [False, False]
    await stores.log.apply(batch(3, "one", labels=labels[:1]))
    await stores.log.apply(batch(4, "two", kinds=[4]))
    assert await sums(stores) == {"v1.0.0": {"ctr": MetricSum(2, 2.0, 2.0)}}


async def test_what_a_retry_answered_is_what_the_caller_got(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    # The first attempt failed at another batcher, at once or with it; what the second one answered is known.
    await matched(stores, outcome("early", "cat"))
    await stores.log.apply(batch(1, "tried", "other", labels=[Labels(), Labels(["dog"])]))
    await stores.log.apply(
        batch(
            2,
            "early",
            "early",
            "tried",
            "lost",
            second=1,
            labels=[Labels(), *[Labels(["cat"])] * 3],
            kinds=[0, 1, 1, 1],
        )
    )
    await stores.log.apply(batch(3, "sampled", kinds=[1]))
    assert (
        await matched(stores, outcome("tried", "cat"), outcome("lost", "dog"), outcome("sampled", ctr=1.0))
        == [True] * 3
    )
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(3, 2.0, 2.0), "ctr": MetricSum(1, 1.0, 1.0)}}
    read = (await stores.evidence.read([WHOLE], now=NOON))[WHOLE].cells["v1.0.0"]
    assert read.counts[REQUESTS] == 3, "a retry is no traffic"


async def test_versions_that_are_not_under_test_are_joined_by_what_is_logged_of_them(
    evidence_stores: EvidenceStores,
) -> None:
    stores = evidence_stores
    await matched(stores, outcome("before", "cat", ctr=1.0))
    await stores.log.apply(batch(1, "before", "after"))
    assert await matched(stores, outcome("after", "cat", ctr=1.0)) == [True]
    assert await sums(stores) == {"v1.0.0": {"ctr": MetricSum(2, 2.0, 2.0)}}


async def test_late_outcomes_are_in_the_window_of_their_prediction(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.evidence.register(HEAD, now=NOON)
    for sequence, second in enumerate((29.9, 30.0, 59.9, 60.0, 200.0), start=1):
        await stores.log.apply(batch(sequence, f"at {second}", second=second, labels=[Labels(["cat"])]))
    later = NOON + SECONDS_KEPT + timedelta(days=1)
    await stores.evidence.forget(now=later)
    reported = [outcome(f"at {second}", ctr=1.0) for second in (29.9, 30.0, 59.9, 60.0, 200.0)]
    await stores.outcomes.report(reported, now=later)
    await stores.evidence.forget(now=later)
    assert await sums(stores, HEAD, now=later) == {"v1.0.0": {"ctr": MetricSum(4, 4.0, 4.0)}}
    assert await sums(stores, now=later) == {"v1.0.0": {"ctr": MetricSum(5, 5.0, 5.0)}}
    await stores.outcomes.report([outcome("at 30.0", ctr=0.0)], now=later)
    assert await sums(stores, HEAD, now=later) == {"v1.0.0": {"ctr": MetricSum(4, 3.0, 3.0)}}


async def test_a_batch_that_is_counted_already_joins_nothing(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await matched(stores, outcome("once", ctr=1.0))
    for expected in (Applied.COUNTED, Applied.COUNTED_BEFORE):
        assert await stores.log.apply(batch(1, "once", labels=[Labels(["cat"])])) is expected
    assert await sums(stores) == {"v1.0.0": {"ctr": MetricSum(1, 1.0, 1.0)}}


async def test_outcomes_are_forgotten(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.outcomes.report([outcome("old", "cat")], now=NOON)
    await stores.outcomes.report([outcome("new", 1e300), outcome("new", True, instance=1)], now=NOON + timedelta(1))
    await stores.outcomes.forget(before=NOON + timedelta(hours=1))
    assert await stores.outcomes.find("old", after=-1, limit=10) == []
    assert [found.truth for found in await stores.outcomes.find("new", after=-1, limit=10)] == [1e300, True]


@pytest.mark.parametrize("seed", range(3))
async def test_any_history_adds_up_to_what_was_reported_last(evidence_stores: EvidenceStores, seed: int) -> None:
    """Predictions and outcomes of twelve requests in random order, many reported again."""
    stores, draw = evidence_stores, random.Random(seed)
    await stores.evidence.register(HEAD, now=NOON)
    truth: dict[str, float] = {}
    answered: dict[str, tuple[str, float]] = {}
    for sequence in range(1, 13):
        for _ in range(draw.randint(0, 4)):
            request_id = f"req_{draw.randint(1, 12)}"
            truth[request_id] = draw.choice([0.1, 0.2, 0.7, 12345.678])
            await matched(stores, outcome(request_id, revenue=truth[request_id]))
        request_id, second = f"req_{sequence}", draw.choice([10.0, 31.0, 45.0, 75.0])
        version = draw.choice(["v1.0.0", "v2.0.0"])
        labels = [Labels(["cat"])] * draw.randint(0, 1)
        await stores.log.apply(batch(sequence, request_id, second=second, version=version, labels=labels))
        answered[request_id] = version, second
    for key, since in ((WHOLE, 0.0), (HEAD, 30.0)):
        expected: dict[str, MetricSum] = {}
        for version in ("v1.0.0", "v2.0.0"):
            inside = [name for name, (other, second) in answered.items() if other == version and second >= since]
            values = [truth[name] for name in inside if name in truth]
            if values:
                squares = sum(value**2 for value in values)
                expected[version] = rounded(MetricSum(len(values), sum(values), squares))
        found = await sums(stores, key)
        assert {version: rounded(values["revenue"]) for version, values in found.items()} == expected


def rounded(found: MetricSum) -> MetricSum:
    """Without the last digits, in which floats that were added up in another order differ."""
    return MetricSum(found.count, round(found.total, 6), round(found.sum_of_squares, 4))


RED = Reporter("red")
BLUE = Reporter("blue")
SEES_DIGITS = Sight(everything=False, names=frozenset({"digits"}), team="red")
SEES_NOTHING = Sight(everything=False, team="blue")


async def test_a_request_of_a_hidden_model_is_as_one_that_never_was(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "theirs", labels=[Labels(["cat"])]))
    sent = [replace(outcome(name, "cat", ctr=1.0), reporter=BLUE) for name in ("theirs", "nobodys")]
    taken = await stores.outcomes.report(sent, now=NOON, sight=SEES_NOTHING)
    assert [found.predicted for found in taken] == [None, None]
    assert await sums(stores) == {}
    for name in ("theirs", "nobodys"):
        [listed] = await stores.outcomes.find(name, after=-1, limit=10, sight=SEES_NOTHING)
        assert listed.predicted is None


async def test_what_another_team_reports_neither_replaces_nor_counts(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "ours", labels=[Labels(["cat"])]))
    await stores.outcomes.report([replace(outcome("ours", "cat"), reporter=RED)], now=NOON, sight=SEES_DIGITS)
    await stores.outcomes.report([replace(outcome("ours", "dog"), reporter=BLUE)], now=NOON, sight=SEES_NOTHING)
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(1, 1.0, 1.0)}}
    [ours] = await stores.outcomes.find("ours", after=-1, limit=10, sight=SEES_DIGITS)
    [theirs] = await stores.outcomes.find("ours", after=-1, limit=10, sight=SEES_NOTHING)
    assert (ours.truth, theirs.truth) == ("cat", "dog")
    assert len(await stores.outcomes.find("ours", after=-1, limit=10)) == 1


async def test_a_prediction_that_comes_later_is_joined_where_the_reporter_sees_its_model(
    evidence_stores: EvidenceStores,
) -> None:
    stores = evidence_stores
    for reporter, sight in ((BLUE, SEES_NOTHING), (RED, SEES_DIGITS), (Reporter("red", frozenset({"x"})), SEES_DIGITS)):
        name = "limited" if reporter.models else "later"
        await stores.outcomes.report([replace(outcome(name, "cat"), reporter=reporter)], now=NOON, sight=sight)
    await stores.log.apply(batch(1, "later", "limited", labels=[Labels(["cat"]), Labels(["cat"])]))
    assert await sums(stores) == {"v1.0.0": {"accuracy": MetricSum(1, 1.0, 1.0)}}
    [found] = await stores.outcomes.find("later", after=-1, limit=10, sight=SEES_DIGITS)
    assert found.predicted is not None
    [hidden] = await stores.outcomes.find("later", after=-1, limit=10, sight=SEES_NOTHING)
    assert hidden.predicted is None


async def test_a_model_that_is_taken_away_takes_its_outcomes_out_of_sight(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, "ours", labels=[Labels(["cat"])]))
    await stores.outcomes.report([replace(outcome("ours", "cat"), reporter=RED)], now=NOON, sight=SEES_DIGITS)
    gone = Sight(everything=False, team="red")
    assert await stores.outcomes.find("ours", after=-1, limit=10, sight=gone) == []
    [taken] = await stores.outcomes.report([replace(outcome("ours", "dog"), reporter=RED)], now=NOON, sight=gone)
    assert taken.predicted is None
    assert await sums(stores) == {}
