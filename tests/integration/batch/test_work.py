"""What workers are told and say: the same within the service's process and over the network."""

from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import grpc
import pytest
from infermesh.batch.v1 import worker_service_pb2 as pb
from infermesh.batch.v1 import worker_service_pb2_grpc

from services.batch.adapters.remote_work import RemoteWork
from services.batch.domain.chunks import ChunkResult, FailedRow, Part
from services.batch.domain.job import Job, Status
from services.batch.domain.launched import Bond
from services.batch.engines.shards import Shards
from services.batch.ports import FencedError, Work
from services.batch.servicers.workers import WorkerServicer
from services.common.clock import SystemClock
from services.common.errors import MeshError, Reason
from services.common.grpc.channel import open_channel
from services.common.grpc.interceptors import MeshInterceptor
from services.common.grpc.server import MESSAGE_MAX_BYTES
from services.common.telemetry.metrics import RpcMetrics, new_registry
from services.common.telemetry.tracing import Tracing
from tests.support.batch_fakes import CountingBoard, MemoryBatchStore
from tests.support.batch_stores import LONG_S, PLAN, done, new

JOB_ID = "batch_job_1"


class Site:
    """A store with a job that somebody carries, and the way to it."""

    def __init__(self) -> None:
        self.store = MemoryBatchStore(SystemClock())
        self.board = CountingBoard()
        self.told: list[Job] = []
        self.shards = Shards(
            store=self.store,
            board=self.board,
            clock=SystemClock(),
            lease_s=LONG_S,
            poll_period_s=0.05,
            told=self.told.append,
        )
        self.work: Work = self.shards

    async def begin(self) -> None:
        await self.store.create(new(1, parameters={"k": "v"}))
        (lease,) = await self.store.claim("carrier", lease_s=LONG_S, limit=1)
        await self.store.set_plan(lease, PLAN)


@pytest.fixture(params=["direct", "remote"])
async def site(request: pytest.FixtureRequest) -> AsyncIterator[Site]:
    made = Site()
    if request.param == "direct":
        yield made
        return
    interceptor = MeshInterceptor(
        clock=SystemClock(),
        metrics=RpcMetrics(new_registry()),
        tracing=Tracing(service="test", instance="test-0", otlp_endpoint=""),
    )
    options = (("grpc.max_receive_message_length", MESSAGE_MAX_BYTES),)
    server = grpc.aio.server(interceptors=(interceptor,), options=options)
    worker_service_pb2_grpc.add_WorkerServiceServicer_to_server(WorkerServicer(made.shards), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with open_channel(f"127.0.0.1:{port}") as channel:
        made.work = RemoteWork(channel)
        yield made
    await server.stop(None)


async def test_a_worker_is_told_of_a_job_once(site: Site) -> None:
    await site.begin()
    shift = await site.work.lease("one", limit=2, after={}, known={})
    assert [lease.chunk for lease in shift.leases] == list(PLAN.chunks[:2])
    assert shift.job == await site.store.work_of(JOB_ID)
    assert shift.pace is not None
    assert (shift.pace.batch_size, shift.pace.parallelism) == (3, 4)
    shift = await site.work.lease("one", limit=2, after={JOB_ID: 1}, known={JOB_ID: 1})
    assert [lease.chunk.index for lease in shift.leases] == [2]
    assert shift.job is None
    assert (await site.work.renew(shift.leases, {"QUEUE_FULL": 3}, {})).held == {shift.leases[0].token}
    assert site.board.retries == ["QUEUE_FULL"] * 3


async def test_who_waits_for_work_is_told_at_once(site: Site) -> None:
    await site.store.create(new(1))
    (carrier,) = await site.store.claim("carrier", lease_s=LONG_S, limit=1)
    await site.store.set_plan(carrier, replace(PLAN, chunks=PLAN.chunks[:1]))
    shift = await site.work.lease("one", limit=1, after={}, known={})
    await site.work.give_back(shift.leases)
    again = await site.work.lease("two", limit=1, after={}, known={JOB_ID: 1})
    assert again.leases[0].chunk == shift.leases[0].chunk
    with pytest.raises(FencedError):
        await site.work.complete(shift.leases[0], done(0))


async def test_a_worker_that_begins_anew_gets_what_it_had(site: Site) -> None:
    await site.begin()
    first = await site.work.lease("one", limit=3, after={}, known={}, begins=True)
    again = await site.work.lease("one", limit=3, after={}, known={}, begins=True)
    assert [lease.chunk for lease in again.leases] == [lease.chunk for lease in first.leases]


async def test_a_worker_for_one_job_is_told_when_nothing_of_it_is_left(site: Site) -> None:
    await site.store.create(new(1, runtime="far"))
    (carrier,) = await site.store.claim("carrier", lease_s=LONG_S, limit=1)
    await site.store.set_plan(carrier, PLAN)
    bond = Bond(JOB_ID, 1)
    shift = await site.work.lease("pod", limit=3, after={}, known={}, bond=bond)
    assert (len(shift.leases), shift.over) == (3, False)
    for lease in shift.leases:
        assert not (await site.shards.lease("other", limit=1, after={}, known={}, bond=bond, wait_s=0)).over
        await site.work.complete(lease, done(lease.chunk.index))
    shift = await site.work.lease("pod", limit=1, after={}, known={}, bond=bond)
    assert (list(shift.leases), shift.over) == ([], True)
    for other in (Bond(JOB_ID, 2), Bond("batch_job_2", 1)):
        assert (await site.work.lease("pod", limit=1, after={}, known={}, bond=other)).over


async def test_a_chunk_of_which_every_row_failed_is_recorded(site: Site) -> None:
    """Its messages together are larger than any message may be."""
    plan = replace(PLAN, chunks=(replace(PLAN.chunks[0], row_count=20_000),))
    await site.store.create(new(1))
    (carrier,) = await site.store.claim("carrier", lease_s=LONG_S, limit=1)
    await site.store.set_plan(carrier, plan)
    shift = await site.work.lease("one", limit=1, after={}, known={})
    failed = [
        FailedRow(row, f"key \0 {row}" + "k" * 240, Reason.SCHEMA_VIOLATION, f"column 'a' is {row!r} " + "x" * 990)
        for row in range(20_000)
    ]
    result = ChunkResult(plan.chunks[0], Part("0.part", 10, 0), failed, done(0).spent)
    for _ in range(2):
        await site.work.complete(shift.leases[0], result)
    assert list(await site.store.failed_rows(JOB_ID, after=-1, limit=30_000)) == failed
    assert (site.told[-1].failed_rows, site.told[-1].completed_chunks) == (20_000, 1)
    assert site.told[-1].spent == result.spent


async def test_nothing_can_be_done(site: Site) -> None:
    await site.begin()
    lease = (await site.work.lease("one", limit=1, after={}, known={})).leases[0]
    await site.work.fail(lease, reason=str(Reason.BACKEND_UNAVAILABLE), message="away")
    job = await site.store.get(JOB_ID)
    assert (job.status, job.error_reason, job.error_message) == (Status.FAILED, "BACKEND_UNAVAILABLE", "away")
    with pytest.raises(FencedError):
        await site.work.fail(lease, reason="INTERNAL", message="again")
    assert (await site.work.renew([lease], {}, {})).held == frozenset()


async def test_a_store_that_is_away_is_said_and_passes(site: Site) -> None:
    await site.begin()
    site.store.away = True
    with pytest.raises(MeshError) as error:
        await site.work.lease("one", limit=1, after={}, known={})
    assert error.value.reason is Reason.DEPENDENCY_UNAVAILABLE
    site.store.away = False
    assert (await site.work.lease("one", limit=1, after={}, known={})).leases


@pytest.mark.parametrize(
    "change",
    [lambda request: request.ClearField("worker_id"), lambda request: request.ClearField("limit")],
)
async def test_what_makes_no_sense_is_refused(change: Callable[[pb.LeaseChunksRequest], None]) -> None:
    request = pb.LeaseChunksRequest(worker_id="one", limit=1)
    change(request)
    with pytest.raises(MeshError) as error:
        await WorkerServicer(Site().shards).LeaseChunks(request, None)  # type: ignore[arg-type]  # not looked at
    assert error.value.reason is Reason.INVALID_FIELD
