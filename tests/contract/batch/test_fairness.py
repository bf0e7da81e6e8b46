"""Teams take turns: one with a hundred jobs waiting does not hold up one with a single job."""

from collections import Counter

from services.batch.ports import Lease, NewJob
from tests.support.batch_fakes import spec_of
from tests.support.batch_stores import Stores

LONG_S = 60.0


async def wait(stores: Stores, **counts: int) -> None:
    """So many jobs of each team wait, those of the first team being the oldest."""
    for team, count in counts.items():
        for number in range(count):
            name = f"{team}-{number:03}"
            await stores.jobs.create(NewJob(name, spec_of("/in.csv", f"/{name}.csv"), "", team))


async def claim(stores: Stores, limit: int, **limits: int) -> list[Lease]:
    return list(await stores.work.claim("one", lease_s=LONG_S, limit=limit, concurrency=limits))


def teams(leases: list[Lease]) -> Counter[str]:
    return Counter(lease.job_id.split("-")[0] for lease in leases)


async def test_a_team_with_one_job_is_next(stores: Stores) -> None:
    await wait(stores, red=100, blue=1)
    assert [lease.job_id for lease in await claim(stores, 1)] == ["red-000"]
    assert [lease.job_id for lease in await claim(stores, 1)] == ["blue-000"]
    assert {lease.job_id for lease in await claim(stores, 2)} == {"red-001", "red-002"}


async def test_what_runs_of_a_team_counts(stores: Stores) -> None:
    await wait(stores, red=10)
    await claim(stores, 3)
    await wait(stores, blue=10)
    assert teams(await claim(stores, 3)) == {"blue": 3}
    assert teams(await claim(stores, 2)) == {"red": 1, "blue": 1}


async def test_shares_stay_even_as_jobs_end(stores: Stores) -> None:
    await wait(stores, red=30, blue=10, green=3)
    running = await claim(stores, 6)
    begun = sorted(lease.job_id for lease in running)
    ended: list[str] = []
    while running:
        counts = teams(running)
        left = {"red": 30, "blue": 10, "green": 3}
        for name in [*ended, *(lease.job_id for lease in running)]:
            left[name.split("-")[0]] -= 1
        waiting = [counts[team] for team, count in left.items() if count]
        assert not waiting or max(counts.values()) - min(waiting) <= 1
        # The team with the most ends one.
        over = next(lease for lease in running if teams(running).most_common(1)[0][0] in lease.job_id)
        await stores.work.fail(over, reason="INTERNAL", message="")
        ended.append(over.job_id)
        running.remove(over)
        running += (following := await claim(stores, 1))
        begun += [lease.job_id for lease in following]
    assert len(ended) == len(set(ended)) == 43
    # A team's own jobs run in their order.
    for team in ("red", "blue", "green"):
        own = [name for name in begun if name.startswith(team)]
        assert own == sorted(own)


async def test_a_limit_holds_up_nobody_else(stores: Stores) -> None:
    await wait(stores, red=5, blue=3)
    assert teams(await claim(stores, 8, red=1)) == {"red": 1, "blue": 3}
    assert await claim(stores, 8, red=1) == []
    assert teams(await claim(stores, 8, red=2)) == {"red": 1}


async def test_an_interrupted_job_goes_before_its_team_s_others(stores: Stores) -> None:
    await wait(stores, red=3)
    (lease,) = await stores.work.claim("one", lease_s=0.0, limit=1)
    (again,) = await claim(stores, 1)
    assert (again.job_id, again.token > lease.token) == (lease.job_id, True)
