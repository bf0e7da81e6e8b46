"""What every `ChangeLog` promises."""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

import pytest

from services.common.database import create_engine, migrate
from services.registry.adapters.change_rows import NewChange
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres_changes import PostgresChangeLog
from services.registry.domain.changes import Wanted
from services.registry.ports_history import ChangeLog
from tests.support.clock import FakeClock
from tests.support.registry_history_fakes import MemoryChangeLog

EVERYTHING = Wanted()


@dataclass(frozen=True)
class Log:
    """A log, and how something is noted in it."""

    log: ChangeLog
    add: Callable[[NewChange], Awaitable[None]]


@pytest.fixture(params=["memory", "postgres"])
def url(request: pytest.FixtureRequest) -> str:
    """Of the database; empty: memory. Its server starts outside of any loop."""
    return "" if request.param == "memory" else str(request.getfixturevalue("database_url"))


@pytest.fixture
async def log(url: str) -> AsyncIterator[Log]:
    if not url:
        memory = MemoryChangeLog(FakeClock())
        yield Log(memory, memory.add)
        return
    await migrate(url, service=SCHEMA)
    engine = create_engine(url, schema=SCHEMA, pool_size=4)
    postgres = PostgresChangeLog(engine)
    yield Log(postgres, postgres.add)
    await engine.dispose()


def change(name: str, kind: str = "model", action: str = "updated", **more: object) -> NewChange:
    """A change of a model, unless it is of something else."""
    model = name.partition("@")[0].partition("/")[0] if kind in ("model", "version", "alias") else ""
    return NewChange(resource_type=kind, resource_name=name, model_name=model, action=action, **more)  # type: ignore[arg-type]


async def test_changes_are_numbered_as_they_were_noted(log: Log) -> None:
    assert await log.log.last() == 0
    assert await log.log.behind(EVERYTHING, after=0, limit=5) == ([], 0)
    await log.add(change("iris", action="created", actor="ann", after={"name": "iris", "tags": ["a"]}))
    await log.add(change("iris@v1.0.0", "version", "stage", reason="proven", request_id="r", before={"stage": "draft"}))
    found, reached = await log.log.behind(EVERYTHING, after=0, limit=5)
    assert [one.resource_name for one in found] == ["iris", "iris@v1.0.0"]
    assert found[0].number < found[1].number == reached == await log.log.last()
    first, second = found
    assert (first.actor, first.before, first.after) == ("ann", None, {"name": "iris", "tags": ["a"]})
    assert (second.action, second.reason, second.request_id, second.before) == (
        "stage",
        "proven",
        "r",
        {"stage": "draft"},
    )
    assert await log.log.page(EVERYTHING, before=0, limit=5) == [second, first]


async def test_pages_and_steps_meet_without_gap_or_double(log: Log) -> None:
    for number in range(7):
        await log.add(change(f"m{number}"))
    backwards: list[int] = []
    before = 0
    while page := await log.log.page(EVERYTHING, before=before, limit=3):
        backwards += [one.number for one in page]
        before = page[-1].number
    forwards: list[int] = []
    reached = 0
    while True:
        found, reached = await log.log.behind(EVERYTHING, after=reached, limit=2)
        if not found:
            break
        forwards += [one.number for one in found]
    assert forwards == backwards[::-1]
    assert len(forwards) == 7


async def test_who_wants_little_still_learns_how_far_it_has_read(log: Log) -> None:
    for name in ("a", "b", "c"):
        await log.add(change(name))
    wanted = Wanted(model_name="a")
    found, reached = await log.log.behind(wanted, after=0, limit=5)
    assert ([one.resource_name for one in found], reached) == (["a"], await log.log.last())
    assert await log.log.behind(wanted, after=reached, limit=5) == ([], reached)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(resource_types=("alias", "version")), ["b/x", "a@v1.0.0"]),
        (Wanted(resource_name="a"), ["a"]),
        (Wanted(model_name="b"), ["b/x", "b"]),
        (Wanted(actor="ann"), ["b", "a"]),
        (Wanted(team="vision", actor="ann"), ["a"]),
        (Wanted(team="vision", resource_types=("alias",)), []),
    ],
)
async def test_every_filter_that_is_given_holds(log: Log, wanted: Wanted, expected: list[str]) -> None:
    await log.add(change("a", actor="ann", team="vision"))
    await log.add(change("a@v1.0.0", "version", actor="bob", team="vision"))
    await log.add(change("b", actor="ann", team="fraud"))
    await log.add(change("b/x", "alias", actor="bob"))
    assert [one.resource_name for one in await log.log.page(wanted, before=0, limit=9)] == expected
    found, _ = await log.log.behind(wanted, after=0, limit=9)
    assert [one.resource_name for one in found] == expected[::-1]


async def test_a_team_sees_what_it_did(log: Log) -> None:
    await log.add(change("a", team="vision"))
    await log.add(change("b", team="fraud"))
    assert [one.resource_name for one in await log.log.page(EVERYTHING, before=0, limit=9, team="vision")] == ["a"]
    found, reached = await log.log.behind(EVERYTHING, after=0, limit=9, team="fraud")
    assert ([one.resource_name for one in found], reached) == (["b"], await log.log.last())
