"""Which partitions are made and dropped."""

from datetime import date, timedelta

from services.monitor.domain.partitions import PartitionedTable, plan

TABLE = PartitionedTable("inference_logs", retention_days=30)
TODAY = date(2026, 3, 1)


def test_an_empty_table_gets_yesterday_to_three_days_ahead() -> None:
    assert plan(TABLE, [], today=TODAY).create == tuple(TODAY + timedelta(days=offset) for offset in range(-1, 4))


def test_only_what_is_missing_is_made() -> None:
    have = [TABLE.partition(TODAY + timedelta(days=offset)) for offset in range(-1, 3)]
    assert plan(TABLE, have, today=TODAY).create == (date(2026, 3, 4),)


def test_what_is_past_retention_goes_and_the_last_day_of_it_stays() -> None:
    have = [TABLE.partition(TODAY - timedelta(days=age)) for age in (29, 30, 31, 400)]
    assert plan(TABLE, have, today=TODAY).drop == ("inference_logs_20250125", "inference_logs_20260129")


def test_what_is_not_ours_is_left_alone() -> None:
    others = ["inference_logs_default", "inference_logs_20200230", "other_20200101", "inference_logs_2020010"]
    assert plan(TABLE, others, today=TODAY).drop == ()
