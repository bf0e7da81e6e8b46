"""Whose schedules are whose, by id too; and what a template carries."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from infermesh.batch.v1 import batch_job_pb2

from services.batch.convert_schedules import schedule_to_proto, template_of, wish_from_template
from services.batch.engines.jobs import Jobs
from services.batch.engines.schedules import Asked, Schedules
from services.common.access.book import EVERYTHING, Sight
from services.common.errors import MeshError, Reason
from tests.support.batch_fakes import SUMS, Catalogue, MemoryBatchStore
from tests.support.batch_schedules import MemoryScheduleStore
from tests.support.clock import FakeClock

RED = Sight(everything=False, names=frozenset({SUMS.model}), team="red")
BLUE = Sight(everything=False, names=frozenset({SUMS.model}), team="blue")
UNSHARED = Sight(everything=False, team="red")
JOB = batch_job_pb2.BatchJob(
    model_name="sums",
    input_uri="/in-{date}.csv",
    output_uri="/out-{date}-{time}-{run}-{other}.csv",
    batch_size=7,
    max_failed_fraction=0.0,
    parameters={"k": "v"},
    labels={"a": "b"},
    input=batch_job_pb2.InputOptions(
        event_time_column="at", feature_sources=[batch_job_pb2.FeatureSource(uri="/f-{date}.csv", entity="e")]
    ),
    output=batch_job_pb2.OutputOptions(overwrite=True),
    notifications=[batch_job_pb2.Notification(slack_channel="alerts", statuses=["failed"])],
    # What the service says is no wish.
    job_id="batch_job_1",
    status="running",
    team="blue",
    attempt=3,
)


def schedules() -> Schedules:
    clock = FakeClock()
    store = MemoryBatchStore(clock)
    nothing: Any = None
    jobs = Jobs(
        store=store,
        catalogue=Catalogue(SUMS),
        sources=nothing,
        workspace=nothing,
        clock=clock,
        wake=lambda: None,
    )
    return Schedules(store=MemoryScheduleStore(store), jobs=jobs, read=wish_from_template, clock=clock)


async def made(calls: Schedules) -> str:
    template = '{"model_name": "sums", "input_uri": "/in.csv", "output_uri": "/out-{run}.csv"}'
    asked = Asked("nightly", "0 3 * * *", "", "", paused=False, template=template)
    schedule = await calls.create(asked, request_id="", wish_digest="", created_by="ann", team="red")
    return schedule.schedule_id


CALLS: dict[str, Callable[[Schedules, str, Sight], Awaitable[object]]] = {
    "get": lambda calls, name, sight: calls.get(name, sight),
    "update": lambda calls, name, sight: calls.update(name, "", lambda schedule: schedule, sight),
    "delete": lambda calls, name, sight: calls.delete(name, sight),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sight", [BLUE, UNSHARED])
async def test_a_schedule_of_another_team_or_of_a_hidden_model_is_as_none(name: str, sight: Sight) -> None:
    calls = schedules()
    there = await made(calls)
    absent = f"{there[:-1]}x"
    messages = []
    for schedule_id in (there, absent):
        with pytest.raises(MeshError) as error:
            await CALLS[name](calls, schedule_id, sight)
        assert error.value.reason is Reason.SCHEDULE_NOT_FOUND
        messages.append((error.value.message, error.value.metadata))
    assert str(messages[0]).replace(there, absent) == str(messages[1])
    assert (await calls.get(there, RED)).team == "red"
    assert await calls.page(page_size=0, page_token="", sight=sight) == ([], "")
    assert len((await calls.page(page_size=0, page_token="", sight=RED))[0]) == 1


async def test_pages_go_on_where_they_ended() -> None:
    calls = schedules()
    await made(calls)
    found, token = await calls.page(page_size=1, page_token="", sight=EVERYTHING)
    assert (len(found), token) == (1, "")
    with pytest.raises(MeshError) as error:
        await calls.page(page_size=1, page_token="x", sight=EVERYTHING)
    assert error.value.reason is Reason.INVALID_PAGE_TOKEN


async def test_a_template_carries_every_wish_and_nothing_else() -> None:
    template = template_of(JOB)
    names = {"date": "2026-02-05", "time": "030000", "run": "12"}
    wish = wish_from_template(template, names)
    assert (wish.input_uri, wish.output_uri) == ("/in-2026-02-05.csv", "/out-2026-02-05-030000-12-{other}.csv")
    assert wish.feature_sources[0].uri == "/f-2026-02-05.csv"
    assert (wish.batch_size, wish.max_failed_fraction, wish.overwrite) == (7, 0.0, True)
    assert (wish.parameters, wish.labels) == ({"k": "v"}, {"a": "b"})
    assert wish.notices[0].slack_channel == "alerts"
    calls = schedules()
    schedule = await calls.get(await made(calls))
    shown = schedule_to_proto(schedule)
    assert (shown.job.model_name, shown.job.status, shown.job.job_id) == ("sums", "", "")
    assert template_of(shown.job) == template_of(batch_job_pb2.BatchJob.FromString(shown.job.SerializeToString()))
    assert wish_from_template(template_of(shown.job), {}).output_uri == "/out-{run}.csv"
