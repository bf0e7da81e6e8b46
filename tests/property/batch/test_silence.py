"""Workers of one job that hear of each other by heartbeats: which of them may give the job up, and when."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from services.batch.engines.silence import Silence
from tests.support.batch_fakes import MemoryBatchStore
from tests.support.batch_stores import LONG_S, PLAN, new
from tests.support.clock import FakeClock

JOB_ID = "batch_job_1"
PATIENCE_S = 5.0
WORKERS = 3
STEPS = st.lists(
    st.tuples(st.integers(0, WORKERS - 1), st.sampled_from(["answered", "failed", "failed", "lost", "anew"])),
    max_size=60,
)


@given(steps=STEPS)
def test_a_job_is_given_up_when_and_only_when_all_have_been_silent(steps: list[tuple[int, str]]) -> None:
    """One step a second; after each its worker sends a heartbeat, some of which are lost."""
    asyncio.run(drive(steps))


def test_an_answer_that_could_not_be_said_is_said_later() -> None:
    silence = Silence(FakeClock())
    assert silence.take() is None
    silence.answered()
    heard = silence.take()
    assert heard is True
    silence.failed()
    silence.put_back(heard)
    assert silence.take() is True
    silence.failed()
    assert silence.take() is False


async def drive(steps: list[tuple[int, str]]) -> None:
    clock = FakeClock()
    store = MemoryBatchStore(clock)
    await store.create(new(1))
    (carrier,) = await store.claim("carrier", lease_s=LONG_S, limit=1)
    await store.set_plan(carrier, PLAN)
    leases, _ = await store.lease_chunks("worker", lease_s=LONG_S, limit=1, after={})
    workers = [Silence(clock) for _ in range(WORKERS)]
    answered_s, failing_since_s = float("-inf"), None
    for place, step in steps:
        clock.advance(1.0)
        if step == "anew":
            workers[place] = Silence(clock)
        worker = workers[place]
        if step == "answered":
            worker.answered()
            answered_s, failing_since_s = clock.monotonic(), None
        else:
            worker.failed()
        heard = worker.take()
        assert heard is not None
        if step == "lost":
            worker.put_back(heard)
            continue
        failing_since_s = clock.monotonic() if failing_since_s is None and not heard else failing_since_s
        renewal = await store.renew_chunks(leases, lease_s=LONG_S, heard={JOB_ID: heard})
        worker.tell(renewal.paces[JOB_ID].silent_s)
        if worker.seconds >= PATIENCE_S:
            assert clock.monotonic() - answered_s >= PATIENCE_S
        if failing_since_s is not None and clock.monotonic() - failing_since_s >= PATIENCE_S:
            assert worker.seconds >= PATIENCE_S, "nobody had an answer since, and whoever asks is told"
