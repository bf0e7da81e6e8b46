"""Windows to the second, in PostgreSQL and in what stands in for it."""

from datetime import datetime, timedelta

from services.monitor.domain.aggregate import SECOND_US
from services.monitor.domain.evidence import SECONDS_KEPT, WATCH_KEPT, Sums, WatchKey
from services.monitor.domain.measures import BY_CLASS, ERRORS, REQUESTS, SHADOWS
from services.monitor.domain.records import StreamKey
from services.monitor.engines.stream import RecorderLimits, Stream
from services.monitor.ports import Applied, Batch
from tests.contract.monitor.conftest import EvidenceStores
from tests.support.clock import NOON
from tests.support.monitor_log import group_of

STREAM = StreamKey("batcher-0", 1)
START = NOON + timedelta(seconds=30)
KEY = WatchKey("digits", START)
LIMITS = RecorderLimits(flush_period_s=1.0, cells_max=100, rows_max=0, sample_rate=0.0)


def batch(
    sequence: int,
    *seconds: float,
    version: str = "v1.0.0",
    model: str = "digits",
    coarse: bool = False,
    dropped: int = 0,
) -> Batch:
    """One request, one that failed and one shadow copy at each of these seconds after noon."""
    stream = Stream(STREAM, received=sequence, durable=sequence - 1, dropped_total=dropped)
    for second in seconds:
        group = group_of(
            [1000 + sequence, 7000, 5],
            times_us=[round((NOON.timestamp() + second) * SECOND_US)] * 3,
            model=model,
            version=version,
            codes=[0, 13, 0],
            reasons=[0, 404, 0],
            kinds=[0, 0, 2],
            by_class={'a "quoted" class': 1},
        )
        stream.waiting.add(group, now_us=int(NOON.timestamp()) * SECOND_US, reason_name=str, limits=LIMITS)
        stream.taken_us = round((NOON.timestamp() + second) * SECOND_US)
    if coarse:
        stream.waiting.give_up_seconds()
    stored = stream.to_store()
    assert stored is not None
    return stored


async def read(stores: EvidenceStores, key: WatchKey = KEY, *, now: datetime = NOON) -> Sums:
    return (await stores.evidence.read([key], now=now))[key]


async def requests(stores: EvidenceStores, key: WatchKey = KEY, *, now: datetime = NOON) -> dict[str, int]:
    sums = await read(stores, key, now=now)
    return {version: cell.counts[REQUESTS] for version, cell in sums.cells.items() if cell.counts[REQUESTS]}


async def test_a_window_begins_at_its_second(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, 29.999, 30.0))
    await stores.evidence.register(KEY, now=NOON)
    await stores.log.apply(batch(2, 30.5, 59.9, 60.0, 119.0))
    await stores.log.apply(batch(3, 10.0, 31.0, version="v2.0.0"))
    await stores.log.apply(batch(4, 31.0, model="other"))
    sums = await read(stores)
    assert sums.begins == START
    first, second = sums.cells["v1.0.0"], sums.cells["v2.0.0"]
    assert (first.counts[REQUESTS], first.counts[SHADOWS], first.counts[ERRORS, "404"]) == (10, 5, 5)
    assert first.counts[BY_CLASS, 'a "quoted" class'] == 5
    assert (first.latency.count, first.latency.sum_us) == (5, 1001 + 4 * 1002)
    assert (second.counts[REQUESTS], second.latency.sum_us) == (2, 1003)
    assert first.latency.quantile_us(0.99) == second.latency.quantile_us(0.99)


async def test_several_windows_are_read_at_once(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    keys = [WatchKey("digits", NOON + timedelta(seconds=second)) for second in (0, 30, 31, 60, 3600)]
    keys.append(WatchKey("other", START))
    for key in keys:
        await stores.evidence.register(key, now=NOON)
    await stores.log.apply(batch(1, 0.5, 30.2, 31.7, 59.0, 61.0))
    found = await stores.evidence.read(keys, now=NOON + timedelta(hours=1))
    counts = [sum(cell.counts[REQUESTS] for cell in found[key].cells.values()) for key in keys]
    assert counts == [10, 8, 6, 2, 0, 0]
    assert await stores.evidence.read([], now=NOON) == {}


async def test_what_was_counted_before_the_watch_is_in_it(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, 31.0, 35.0))
    await stores.evidence.register(KEY, now=NOON + timedelta(minutes=5))
    await stores.evidence.register(KEY, now=NOON + timedelta(minutes=6))
    assert await requests(stores) == {"v1.0.0": 4}


async def test_a_window_whose_seconds_are_unknown_begins_at_the_next_minute(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, 31.0, coarse=True))
    await stores.log.apply(batch(2, 35.0, 65.0))
    late = WatchKey("digits", START + timedelta(minutes=2))
    await stores.evidence.register(KEY, now=NOON)
    await stores.evidence.register(late, now=NOON + timedelta(minutes=40))
    assert (await read(stores)).begins == NOON + timedelta(minutes=1)
    assert await requests(stores) == {"v1.0.0": 2}
    assert (await read(stores, late)).begins == NOON + timedelta(minutes=3)
    assert (await read(stores, WatchKey("digits", NOON + timedelta(seconds=1)))).begins == NOON + timedelta(minutes=1)


async def test_seconds_given_up_later_move_the_beginning(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.evidence.register(KEY, now=NOON)
    await stores.log.apply(batch(1, 31.0, 61.0))
    await stores.log.apply(batch(2, 31.0, coarse=True, model="other"))
    assert await requests(stores) == {"v1.0.0": 4}
    await stores.log.apply(batch(3, 32.0, coarse=True))
    assert (await read(stores)).begins == NOON + timedelta(minutes=1)
    assert await requests(stores) == {"v1.0.0": 2}


async def test_seconds_stay_where_a_window_begins_and_go_elsewhere(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.evidence.register(KEY, now=NOON)
    await stores.log.apply(batch(1, 31.0, 61.0, 95.0))
    later = NOON + SECONDS_KEPT + timedelta(minutes=3)
    await stores.evidence.forget(now=later)
    assert await requests(stores, now=later) == {"v1.0.0": 6}
    gone = WatchKey("digits", NOON + timedelta(seconds=90))
    await stores.evidence.register(gone, now=NOON + timedelta(minutes=9))
    assert (await read(stores, gone, now=later)).begins == NOON + timedelta(minutes=2)
    # Late requests of the first minute are in it too.
    await stores.log.apply(batch(2, 33.0))
    await stores.evidence.forget(now=later)
    assert await requests(stores, now=later) == {"v1.0.0": 8}


async def test_a_window_that_nobody_asks_for_is_forgotten(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.evidence.register(KEY, now=NOON)
    await stores.evidence.register(KEY, now=NOON + timedelta(days=1))
    await stores.log.apply(batch(1, 31.0))
    await stores.evidence.forget(now=NOON + WATCH_KEPT + timedelta(hours=1))
    assert await requests(stores) == {"v1.0.0": 2}
    await stores.evidence.forget(now=NOON + WATCH_KEPT + timedelta(days=2))
    sums = await read(stores)
    assert (sums.begins, sums.cells) == (NOON + timedelta(minutes=1), {})


async def test_a_batch_that_is_counted_already_adds_nothing(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.evidence.register(KEY, now=NOON)
    for expected in (Applied.COUNTED, Applied.COUNTED_BEFORE):
        assert await stores.log.apply(batch(1, 31.0, dropped=4)) is expected
    assert await requests(stores) == {"v1.0.0": 2}
    assert (await read(stores)).dropped == 4


async def test_drops_are_counted_in_the_windows_that_they_fall_in(evidence_stores: EvidenceStores) -> None:
    stores = evidence_stores
    await stores.log.apply(batch(1, 29.0, dropped=3))
    await stores.log.apply(batch(2, 30.0, dropped=3))
    await stores.log.apply(batch(3, 31.0, dropped=10))
    await stores.log.apply(batch(4, 31.5, dropped=11))
    await stores.evidence.register(KEY, now=NOON)
    assert (await read(stores)).dropped == 8
