"""Outcomes reported over the API, joined to the log in any order, also at the very same moment."""

import asyncio
from datetime import datetime, timedelta

import pytest
from google.protobuf.struct_pb2 import Value
from infermesh.monitor.v1 import monitor_service_pb2, outcome_pb2, prediction_log_pb2

from services.common.database import create_engine, migrate
from services.common.errors import MeshError, Reason
from services.monitor.adapters.database import transaction
from services.monitor.adapters.postgres_joins import join_arrivals
from services.monitor.adapters.postgres_outcomes import PostgresOutcomeStore
from services.monitor.adapters.postgres_partitions import PostgresPartitionStore
from services.monitor.adapters.postgres_predictions import add_predictions
from services.monitor.domain.labels import Prediction
from services.monitor.domain.outcomes import Outcome, OutcomeKey
from services.monitor.domain.partitions import PartitionedTable
from services.monitor.domain.records import Labels
from services.monitor.engines.keeper import PartitionKeeper
from tests.integration.monitor.conftest import RunningMonitor
from tests.integration.monitor.test_evidence import first_evidence
from tests.support.clock import NOON, FakeClock
from tests.support.monitor_log import group_message, message

Group = prediction_log_pb2.PredictionGroup
REPORT = monitor_service_pb2.ReportOutcomesRequest


def outcome(request_id: str, truth: str = "", *, instance: int = 0, **metrics: float) -> outcome_pb2.Outcome:
    made = outcome_pb2.Outcome(request_id=request_id, instance_index=instance, metrics=metrics)
    if truth:
        made.ground_truth.CopyFrom(Value(string_value=truth))
    return made


def labelled(at: datetime, classes: list[str], *, prefix: str = "req_") -> Group:
    """Requests under test."""
    group = group_message([1000] * len(classes), at=at)
    del group.request_ids[:]
    group.request_ids.extend(f"{prefix}{place}" for place in range(len(classes)))
    group.request_labels.extend(prediction_log_pb2.RequestLabels(classes=[name]) for name in classes)
    return group


async def test_outcomes_reach_the_evidence_in_either_order(monitor: RunningMonitor, now: datetime) -> None:
    await first_evidence(monitor, now, "v1.0.0")
    early = await monitor.metrics.ReportOutcomes(
        REPORT(outcomes=[outcome(f"req_{place}", "cat", ctr=1.0) for place in range(10)])
    )
    assert (early.accepted_count, early.unmatched_count) == (10, 10)
    group = labelled(now + timedelta(seconds=1), ["cat"] * 15 + ["dog"] * 5)
    assert await monitor.send(message(1, group)) == 1
    late = await monitor.metrics.ReportOutcomes(
        REPORT(outcomes=[outcome(f"req_{place}", "cat", ctr=0.0) for place in range(9, 20)])
    )
    assert (late.accepted_count, late.unmatched_count) == (11, 0)
    found = (await first_evidence(monitor, now, "v1.0.0")).versions[0]
    assert found.request_count == 20
    assert (found.outcomes["accuracy"].count, found.outcomes["accuracy"].sum) == (20, 15)
    assert (found.outcomes["ctr"].count, found.outcomes["ctr"].sum) == (20, 9)

    one = await monitor.metrics.ReportOutcome(
        monitor_service_pb2.ReportOutcomeRequest(outcome=outcome("req_19", "dog", instance=0))
    )
    assert (one.model_name, one.version) == ("digits", "v1.0.0")
    again = (await first_evidence(monitor, now, "v1.0.0")).versions[0]
    assert (again.outcomes["accuracy"].sum, again.outcomes["ctr"].count) == (16, 19)


async def test_outcomes_are_listed_by_instance(monitor: RunningMonitor) -> None:
    sent = [outcome("rows", "cat", instance=place) for place in (2, 0, 1)]
    await monitor.metrics.ReportOutcomes(REPORT(outcomes=sent))
    first = await monitor.metrics.ListOutcomes(monitor_service_pb2.ListOutcomesRequest(request_id="rows", page_size=2))
    rest = await monitor.metrics.ListOutcomes(
        monitor_service_pb2.ListOutcomesRequest(request_id="rows", page_size=2, page_token=first.next_page_token)
    )
    assert [found.instance_index for found in (*first.outcomes, *rest.outcomes)] == [0, 1, 2]
    assert (first.outcomes[0].ground_truth.string_value, rest.next_page_token) == ("cat", "")


async def test_one_wrong_outcome_refuses_all(monitor: RunningMonitor) -> None:
    sent = [outcome("a", "cat"), outcome("b", "cat"), outcome("c", ctr=float("inf"))]
    with pytest.raises(MeshError) as caught:
        await monitor.metrics.ReportOutcomes(REPORT(outcomes=sent))
    assert caught.value.reason is Reason.INVALID_FIELD
    assert [violation.field for violation in caught.value.violations] == ['outcomes[2].metrics["ctr"]']
    listed = await monitor.metrics.ListOutcomes(monitor_service_pb2.ListOutcomesRequest(request_id="a"))
    assert not listed.outcomes
    with pytest.raises(MeshError, match="outcomes is '0 outcomes'"):
        await monitor.metrics.ReportOutcomes(REPORT())


async def test_a_prediction_and_its_outcome_may_be_stored_at_once(database_url: str) -> None:
    """The prediction is written and not committed yet when its outcome comes: neither could see the other."""
    await migrate(database_url, service="monitor")
    engine = create_engine(database_url, schema="monitor")
    tables = [PartitionedTable("prediction_labels", 30)]
    await PartitionKeeper(store=PostgresPartitionStore(engine), tables=tables, clock=FakeClock()).keep()
    store = PostgresOutcomeStore(engine)
    made = Prediction("req", "digits", "v1.0.0", round(NOON.timestamp() * 1e6), Labels(["cat"]))
    async with transaction(engine) as connection:
        await add_predictions(connection, [made])
        await join_arrivals(connection, [made])
        reporting = asyncio.create_task(
            store.report([Outcome(OutcomeKey("req", 0), "cat", {}, NOON)], now=NOON), name="report"
        )
        done, _ = await asyncio.wait([reporting], timeout=0.3)
        assert not done, "it waits for the prediction's transaction"
    [joined] = await reporting
    assert joined.predicted is not None
    assert joined.predicted.label == "cat"
    await engine.dispose()


async def test_predictions_and_outcomes_that_come_at_once_all_meet(monitor: RunningMonitor, now: datetime) -> None:
    rounds, size = 25, 20
    await first_evidence(monitor, now, "v1.0.0")

    async def report(turn: int) -> None:
        await asyncio.sleep(turn % 5 / 20)
        names = [f"{turn}_{place}" for place in range(size)]
        await monitor.metrics.ReportOutcomes(REPORT(outcomes=[outcome(name, "cat") for name in names]))

    async def log() -> None:
        for turn in range(rounds):
            group = labelled(now + timedelta(seconds=1), ["cat"] * size, prefix=f"{turn}_")
            assert await monitor.send(message(turn + 1, group)) == turn + 1

    await asyncio.gather(log(), *(report(turn) for turn in range(rounds)))
    found = (await first_evidence(monitor, now, "v1.0.0")).versions[0]
    assert (found.outcomes["accuracy"].count, found.outcomes["accuracy"].sum) == (rounds * size, rounds * size)
