"""Whose jobs are whose, by id too, and in whose name they run."""

from collections.abc import Awaitable, Callable

import pytest

from services.batch.engines.access import JobAccess
from services.batch.engines.jobs import Jobs
from services.batch.ports import NewJob
from services.common.access.book import EVERYTHING, AccessBook, AccessUpdate, Sight, TeamTerms
from services.common.access.decide import Standing
from services.common.errors import MeshError, Reason
from services.common.grpc.identity import Identity
from tests.support.batch_fakes import SUMS, Catalogue, MemoryBatchStore, spec_of
from tests.support.clock import FakeClock

RED = Sight(everything=False, names=frozenset({SUMS.model}), team="red")
BLUE = Sight(everything=False, names=frozenset({SUMS.model}), team="blue")
UNSHARED = Sight(everything=False, team="red")


async def _jobs() -> Jobs:
    store = MemoryBatchStore(FakeClock())
    await store.create(NewJob("job-1", spec_of("in.csv", "out.csv"), "ada", "red"))
    nothing: object = None
    return Jobs(
        store=store,
        catalogue=Catalogue(SUMS),
        sources=nothing,  # type: ignore[arg-type]  # no file is opened here
        workspace=nothing,  # type: ignore[arg-type]
        clock=FakeClock(),
        wake=lambda: None,
    )


CALLS: dict[str, Callable[[Jobs, str, Sight], Awaitable[object]]] = {
    "get": lambda jobs, job, sight: jobs.get(job, sight),
    "watch": lambda jobs, job, sight: anext(jobs.watch(job, lambda: sight)),
    "update": lambda jobs, job, sight: jobs.update(job, "", lambda spec: spec, sight),
    "cancel": lambda jobs, job, sight: jobs.cancel(job, sight),
    "pause": lambda jobs, job, sight: jobs.pause(job, sight),
    "resume": lambda jobs, job, sight: jobs.resume(job, sight),
    "retry": lambda jobs, job, sight: jobs.retry(job, sight),
    "delete": lambda jobs, job, sight: jobs.delete(job, sight),
    "failed rows": lambda jobs, job, sight: jobs.failed_rows(job, page_size=0, page_token="", sight=sight),
    "chunks": lambda jobs, job, sight: jobs.chunks(job, page_size=0, page_token="", sight=sight),
}


async def _error(call: Awaitable[object]) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await call
    return caught.value


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("sight", [BLUE, UNSHARED])
async def test_a_job_of_another_team_or_of_a_hidden_model_is_as_none(name: str, sight: Sight) -> None:
    jobs = await _jobs()
    hidden, absent = await _error(CALLS[name](jobs, "job-1", sight)), await _error(CALLS[name](jobs, "job-2", sight))
    assert hidden.reason is absent.reason is Reason.JOB_NOT_FOUND
    assert hidden.message.replace("job-1", "job-2") == absent.message
    assert {**hidden.metadata, "job_id": "job-2"} == absent.metadata


@pytest.mark.parametrize("sight", [RED, EVERYTHING])
async def test_its_own_team_and_operators_have_it(sight: Sight) -> None:
    jobs = await _jobs()
    assert (await jobs.get("job-1", sight)).team == "red"
    assert (await jobs.pause("job-1", sight)).paused


def _book(standing: Standing | None) -> AccessBook:
    book = AccessBook()
    teams = {"red": TeamTerms("red", batch_concurrency=2), "blue": TeamTerms("blue")}
    models = {SUMS.model: standing} if standing is not None else {}
    book.apply(AccessUpdate("1", frozenset(), teams, models, models_reset=True))
    return book


async def test_a_job_predicts_in_its_teams_name_as_a_viewer() -> None:
    job = await (await _jobs()).get("job-1")
    assert JobAccess(_book(None)).caller_of(job) == Identity(user="ada", team="red", role="viewer")


@pytest.mark.parametrize(
    ("standing", "goes_on"),
    [
        (Standing("red"), True),
        (Standing("blue", frozenset({"red"})), True),
        (Standing(), True),
        (None, True),
        (Standing("blue"), False),
    ],
)
async def test_a_job_goes_on_while_its_team_sees_the_model(standing: Standing | None, *, goes_on: bool) -> None:
    refusal = JobAccess(_book(standing)).refusal(await (await _jobs()).get("job-1"))
    assert (refusal is None) == goes_on
    assert refusal is None or refusal.reason is Reason.MODEL_NOT_FOUND


def test_only_teams_with_a_limit_have_one() -> None:
    assert JobAccess(_book(None)).concurrency() == {"red": 2}
