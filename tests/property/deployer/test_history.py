"""Counts of five minutes become a series without gaps; what a replica can do is what it was seen to do."""

from datetime import datetime, timedelta

from hypothesis import assume, given
from hypothesis import strategies as st

from services.deployer.domain.history import (
    BUCKET_S,
    DAY,
    DECISIONS_MIN,
    HELD_MIN,
    KEEP_DAYS,
    KNOWN_MIN_S,
    Bucket,
    bucket_start,
    capacity,
    series,
)
from tests.support.clock import NOON

counts = st.floats(0, 1e6)
looked = st.builds(Bucket, started_at=st.just(NOON), known_s=st.floats(0, 300), requests=counts)
decided = st.builds(
    Bucket,
    started_at=st.just(NOON),
    version=st.sampled_from(("v1", "v2")),
    decisions=st.integers(1, 150),
    short=st.integers(0, 150),
    per_replica=counts,
)
buckets = looked | decided


def bucket(age: int, rate: float = 1.0, known_s: float = BUCKET_S) -> Bucket:
    """One that ended `age - 1` buckets before noon."""
    return Bucket(NOON - timedelta(seconds=age * BUCKET_S), known_s, rate * known_s)


def held(rate: float, version: str = "v1", *, decisions: int = DECISIONS_MIN, short: int = 0, age: int = 1) -> Bucket:
    return Bucket(
        NOON - timedelta(seconds=age * BUCKET_S), 300, 0, version, decisions, short, per_replica=rate * decisions
    )


@given(st.datetimes(timezones=st.just(NOON.tzinfo)))
def test_a_bucket_begins_at_a_multiple_of_five_minutes(moment: datetime) -> None:
    start = bucket_start(moment)
    assert timedelta(0) <= moment - start < timedelta(seconds=BUCKET_S)
    assert (start.minute % 5, start.second, start.microsecond) == (0, 0, 0)


@given(st.sets(st.integers(1, 5 * DAY), min_size=1, max_size=200))
def test_a_series_has_all_buckets_up_to_now_and_what_was_seen_in_its_place(ages: set[int]) -> None:
    found = series([bucket(age, rate=float(age)) for age in ages], NOON)
    oldest = len(found.rates)
    assert found.until == NOON
    assert found.known == sum(age <= oldest for age in ages)
    for age in ages:
        if age <= oldest:
            assert found.rates[oldest - age] == age
    # Whatever was not seen is something that was.
    assert set(found.rates) <= set(map(float, ages))
    # Nothing is bridged that lasts longer than a day.
    steps = sorted(age for age in ages if age <= oldest)
    assert all(after - before <= DAY for before, after in zip([0, *steps], steps, strict=False))


def test_a_hole_is_filled_with_what_came_at_that_time_of_the_nearest_day() -> None:
    found = series([bucket(age, rate=float(age)) for age in range(1, 3 * DAY + 1) if not 10 <= age <= 20], NOON)
    assert (len(found.rates), found.known) == (3 * DAY, 3 * DAY - 11)
    assert found.rates[3 * DAY - 15] == 15 + DAY


def test_two_whole_days_must_have_been_seen() -> None:
    two = [bucket(age) for age in range(1, 2 * DAY + 1)]
    assert not series(two, NOON).enough
    assert series([*two, bucket(2 * DAY + 1)], NOON).enough
    assert not series([*two, bucket(2 * DAY + 1, known_s=KNOWN_MIN_S / 2)], NOON).enough
    assert not series([*two, bucket(4 * DAY)], NOON).enough
    assert series(two, NOON).days == 2
    assert series([], NOON).days == 0


def test_what_is_being_counted_and_what_is_too_old_do_not_count() -> None:
    found = series([bucket(age) for age in range(-1, KEEP_DAYS * DAY + 100)], NOON)
    assert len(found.rates) == found.known == KEEP_DAYS * DAY


@given(buckets, buckets, buckets)
def test_it_does_not_matter_in_how_many_parts_a_bucket_is_counted(one: Bucket, two: Bucket, three: Bucket) -> None:
    # A version that comes back within five minutes is taken for one that stayed.
    assume(not two.version or one.version != three.version or two.version == one.version)
    left, right = one.plus(two).plus(three), one.plus(two.plus(three))
    assert left.version == right.version
    assert (left.decisions, left.short) == (right.decisions, right.short)
    for a, b in ((left.known_s, right.known_s), (left.requests, right.requests), (left.per_replica, right.per_replica)):
        assert abs(a - b) <= 1e-6 * max(1.0, abs(a))


def test_a_replica_can_do_what_it_did_while_the_targets_held() -> None:
    enough = [held(rate, age=age) for age, rate in enumerate(range(1, HELD_MIN + 1), start=1)]
    assert capacity(enough, "v1") == HELD_MIN
    assert capacity(enough[:-1], "v1") is None
    assert capacity(enough, "v2") is None
    busy = [held(100.0, short=1, age=90), held(100.0, decisions=DECISIONS_MIN - 1, age=91), held(100.0, "v2", age=92)]
    assert capacity([*enough, *busy], "v1") == HELD_MIN
    assert capacity([held(0.0, age=age) for age in range(1, 50)], "v1") is None
