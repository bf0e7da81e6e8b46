"""Comparisons of shadow copies, in PostgreSQL and in what stands in for it."""

from datetime import timedelta

from services.monitor.domain.aggregate import SECOND_US
from services.monitor.domain.evidence import WatchKey, version_evidence
from services.monitor.domain.records import Comparison, ShadowExample, StreamKey
from services.monitor.domain.shadows import EXAMPLES_MAX, ShadowPair
from services.monitor.engines.shadows import Shadows
from services.monitor.engines.stream import RecorderLimits, Stream
from services.monitor.ports import Batch
from tests.contract.monitor.conftest import EvidenceStores
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_of

LIMITS = RecorderLimits(flush_period_s=1.0, cells_max=100, rows_max=0, sample_rate=0.0)
NOON_US = int(NOON.timestamp()) * SECOND_US
PAIR = ShadowPair("digits", "v2.0.0", "v1.0.0")


def comparison(
    compared: int, disagreed: int, *, primary: str = "v1.0.0", failed: dict[str, int] | None = None, examples: int = 0
) -> Comparison:
    return Comparison(
        primary,
        compared,
        disagreed,
        dropped_count=3,
        failed_by_reason=failed or {},
        examples=[
            ShadowExample(f"req_{place}", NOON_US + place, place, '{"label":"3"}', '{"label":"8"}', 0.25)
            for place in range(examples)
        ],
    )


def batch(sequence: int, *comparisons: Comparison, second: float = 1.0, version: str = "v2.0.0") -> Batch:
    stream = Stream(StreamKey("batcher-0", 1), received=sequence, durable=sequence - 1)
    time_us = NOON_US + round(second * SECOND_US)
    group = group_of([500] * 2, times_us=[time_us] * 2, version=version, kinds=[2, 2], comparisons=comparisons)
    stream.waiting.add(group, now_us=NOON_US, reason_name=str, limits=LIMITS)
    stored = stream.to_store()
    assert stored is not None
    return stored


def shadows(stores: EvidenceStores) -> Shadows:
    return Shadows(reader=stores.metrics, examples=stores.examples, clock=FakeClock(), retention_days=30)


async def test_comparisons_add_up_by_pair(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, comparison(10, 2, failed={"MODEL_FAILED": 1}), comparison(4, 0, primary="v3.0.0")))
    await stores.log.apply(batch(2, comparison(20, 3, failed={"MODEL_FAILED": 1, "QUEUE_FULL": 2}), second=61.0))
    await stores.log.apply(batch(3, comparison(5, 5), version="v4.0.0"))
    # Two minutes are outside the window, until it ends later.
    found = await shadows(stores).find(
        "digits", shadow_version="", start=None, end=NOON + timedelta(minutes=2), examples_max=0
    )
    assert [(r.pair.shadow_version, r.pair.primary_version, r.compared, r.disagreed) for r in found] == [
        ("v2.0.0", "v1.0.0", 30, 5),
        ("v2.0.0", "v3.0.0", 4, 0),
        ("v4.0.0", "v1.0.0", 5, 5),
    ]
    assert found[0].failed_by_reason == {"MODEL_FAILED": 2, "QUEUE_FULL": 2}
    assert found[0].unsent == 6
    earlier = await shadows(stores).find(
        "digits", shadow_version="v2.0.0", start=None, end=NOON + timedelta(minutes=1), examples_max=0
    )
    assert [report.compared for report in earlier] == [10, 4]


async def test_comparisons_are_evidence_and_no_traffic(evidence_stores: EvidenceStores) -> None:
    stores, key = evidence_stores, WatchKey("digits", NOON + timedelta(seconds=30))
    await stores.evidence.register(key, now=NOON)
    await stores.log.apply(batch(1, comparison(10, 2)))
    await stores.log.apply(batch(2, comparison(20, 3), comparison(4, 1, primary="v3.0.0"), second=31.0))
    await stores.log.apply(batch(3, comparison(100, 0), second=61.0))
    found = version_evidence("v2.0.0", (await stores.evidence.read([key], now=NOON))[key])
    assert (found.shadow_compared_count, found.shadow_disagreement_count, found.shadow_count) == (124, 4, 4)
    assert (found.request_count, found.latency.count) == (0, 0)


async def test_the_newest_examples_are_kept(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, comparison(200, 60, examples=60)))
    await stores.log.apply(batch(2, comparison(200, 90, examples=90), comparison(1, 1, primary="v3.0.0", examples=1)))
    first, end = NOON, NOON + timedelta(minutes=1)
    found = await stores.examples.examples("digits", first=first, end=end, limit=1000)
    assert {pair: len(examples) for pair, examples in found.items()} == {
        PAIR: EXAMPLES_MAX,
        ShadowPair("digits", "v2.0.0", "v3.0.0"): 1,
    }
    assert [example.time_us for example in found[PAIR][:2]] == [NOON_US + 89, NOON_US + 88]
    assert found[PAIR][0] == ShadowExample("req_89", NOON_US + 89, 89, '{"label":"3"}', '{"label":"8"}', 0.25)
    few = await stores.examples.examples("digits", first=first, end=end, limit=2)
    assert [len(examples) for examples in few.values()] == [2, 1]
    assert await stores.examples.examples("digits", first=end, end=end + timedelta(1), limit=2) == {}
    await stores.examples.forget(before=end)
    assert await stores.examples.examples("digits", first=first, end=end, limit=2) == {}
