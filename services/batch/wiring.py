"""How the batch service is put together."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

from infermesh.batch.v1 import batch_service_pb2_grpc
from infermesh.batch.v1.worker_service_pb2_grpc import add_WorkerServiceServicer_to_server as add_workers
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.batcher import BatcherModel
from services.batch.adapters.board import PrometheusBoard
from services.batch.adapters.database import SCHEMA
from services.batch.adapters.local_workers import LocalWorkers, environment_of
from services.batch.adapters.objects import Buckets
from services.batch.adapters.postgres_attic import PostgresAttic
from services.batch.adapters.postgres_backlog import PostgresBacklog
from services.batch.adapters.postgres_jobs import PostgresJobStore
from services.batch.adapters.postgres_outbox import PostgresOutbox
from services.batch.adapters.postgres_schedules import PostgresScheduleStore
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.batch.adapters.registry import RegistryCatalogue
from services.batch.adapters.sources import FileSources
from services.batch.adapters.tokens import RegistryTokens
from services.batch.adapters.workspaces import PlaceWorkspace
from services.batch.clusters import new_launches
from services.batch.convert_schedules import wish_from_template
from services.batch.couriers import add_notifier
from services.batch.engines.access import JobAccess
from services.batch.engines.backlog import BacklogWatch
from services.batch.engines.jobs import Jobs
from services.batch.engines.launch import Launches
from services.batch.engines.runner import Runner, RunnerOptions
from services.batch.engines.sample import Sampler
from services.batch.engines.scheduler import Scheduler
from services.batch.engines.schedules import Schedules
from services.batch.engines.shards import Shards
from services.batch.engines.sweeper import Sweeper
from services.batch.engines.worker import Worker, WorkerOptions
from services.batch.servicer import BatchServicer
from services.batch.servicers.workers import WorkerServicer
from services.batch.settings import BatchSettings
from services.batch.worker.wiring import towards_gateway
from services.common.access.parts import new_access
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import peer_tls
from services.common.kubernetes.namespaces import RegistryNamespaces
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry

_SERVICE = "infermesh.batch.v1.BatchService"
_WORKER_SERVICE = "infermesh.batch.v1.WorkerService"
_DAY_S = 86_400.0
_WORK_STOP_TIMEOUT_S = 4.0
"""How long a stop waits for work in hand to be given back; what takes longer is done again by the next start."""


@dataclass(frozen=True)
class Batch:
    """A batch service, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: BatchSettings, *, clock: Clock) -> Batch:
    """The service over PostgreSQL, files and buckets, the registry and the batcher. Raises SystemExit with what does
    not fit together in its settings."""
    if fault := settings.fault():
        raise SystemExit(fault)
    url = settings.database_url.get_secret_value()
    lifecycle = Lifecycle(name="batch", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    metrics = new_registry()
    engine = create_engine(url, schema=SCHEMA, metrics=metrics)
    board = PrometheusBoard(metrics)
    registry = open_channel(settings.registry_address, tls=peer_tls(settings))
    batcher = open_channel(settings.batcher_address, tls=towards_gateway(settings.batcher_tls))
    lifecycle.add("channel to the registry", stop=registry.close)
    lifecycle.add("channel to the batcher", stop=batcher.close)
    access = new_access(
        lifecycle,
        registry=registry,
        watcher_id=settings.instance,
        path=settings.data_dir / "access.pb",
        clock=clock,
    )
    tokens = RegistryTokens(registry, clock=clock) if settings.authentication else None
    model = BatcherModel(batcher, clock=clock, timeout_s=settings.request_timeout_s, tokens=tokens)
    buckets = Buckets()
    sources, workspace = FileSources(buckets), PlaceWorkspace(settings.data_dir, buckets)
    # Only spreads retries over time.
    rng = random.Random()  # noqa: S311
    store = PostgresWorkStore(engine)
    launches = new_launches(
        lifecycle, settings, store=store, namespaces=RegistryNamespaces(registry), metrics=metrics, clock=clock
    )
    runner, shards = _carriers(
        settings,
        store=store,
        launches=launches,
        access=JobAccess(access.book),
        sources=sources,
        workspace=workspace,
        board=board,
        clock=clock,
    )
    jobs = Jobs(
        store=PostgresJobStore(engine),
        catalogue=RegistryCatalogue(registry),
        sources=sources,
        workspace=workspace,
        clock=clock,
        wake=runner.wake,
        offices=settings.offices(),
        clusters=tuple(settings.kubeconfigs),
        ended=board.job_ended,
    )
    schedule_store = PostgresScheduleStore(engine)
    schedules = Schedules(store=schedule_store, jobs=jobs, read=wish_from_template, clock=clock)
    scheduler = Scheduler(
        store=schedule_store,
        jobs=jobs,
        read=wish_from_template,
        board=board,
        clock=clock,
        period_s=settings.poll_period_s,
    )
    sampler = Sampler(model=model, sources=sources, board=board, clock=clock, rng=rng)
    servicer = BatchServicer(
        jobs=jobs,
        schedules=schedules,
        sampler=sampler,
        outbox=PostgresOutbox(engine),
        clock=clock,
        book=access.book,
    )
    _add_database(lifecycle, engine, url, board=board, clock=clock)
    add_notifier(lifecycle, settings, engine, board=board, clock=clock, rng=rng)
    lifecycle.add_task("scheduler", scheduler.run)
    if settings.retention_days:
        sweeper = Sweeper(
            attic=PostgresAttic(engine), workspace=workspace, clock=clock, age_s=settings.retention_days * _DAY_S
        )
        lifecycle.add_task("sweeper", sweeper.run)
    if settings.kubeconfigs:
        lifecycle.add_task("tidier of clusters", launches.tidy)
    # Stopped in reverse: first nothing new is begun, then what runs is given back.
    lifecycle.add("jobs in hand", stop=runner.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
    lifecycle.add_task("runner", runner.run)
    lifecycle.on_health("the database answers", lambda: runner.reachable)
    server = add_grpc_server(
        lifecycle,
        settings,
        services=[
            (lambda server: batch_service_pb2_grpc.add_BatchServiceServicer_to_server(servicer, server), _SERVICE),
            (lambda server: add_workers(WorkerServicer(shards), server), _WORKER_SERVICE),
        ],
        clock=clock,
        registry=metrics,
        guard=access.guard,
    )
    # After the server: while it still answers, they give back what they have.
    if settings.workers:
        lifecycle.add_task("workers", _local_workers(settings, server, clock=clock).run)
    else:
        worker = Worker(
            work=shards,
            sources=sources,
            workspace=workspace,
            model=model,
            clock=clock,
            rng=rng,
            options=WorkerOptions(name=settings.instance, outage_timeout_s=settings.outage_timeout_s),
        )
        lifecycle.add("chunks in hand", stop=worker.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
        lifecycle.add_task("worker", worker.run)
    return Batch(lifecycle, server)


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, url: str, *, board: PrometheusBoard, clock: Clock) -> None:
    async def start() -> None:
        await migrate(url, service=SCHEMA)

    lifecycle.add("database", start=start, stop=engine.dispose)
    lifecycle.add_task("backlog", BacklogWatch(reader=PostgresBacklog(engine), board=board, clock=clock).run)


def _carriers(
    settings: BatchSettings,
    *,
    store: PostgresWorkStore,
    launches: Launches,
    access: JobAccess,
    sources: FileSources,
    workspace: PlaceWorkspace,
    board: PrometheusBoard,
    clock: Clock,
) -> tuple[Runner, Shards]:
    """Who carries jobs and who gives their chunks out: each tells the other when there is something new."""
    shards = Shards(
        store=store,
        board=board,
        clock=clock,
        lease_s=settings.lease_s,
        poll_period_s=settings.poll_period_s,
        told=lambda job: runner.told(job),
    )
    runner = Runner(
        store=store,
        access=access,
        sources=sources,
        workspace=workspace,
        board=board,
        offer=shards.wake,
        launches=launches,
        clock=clock,
        options=RunnerOptions(
            owner=settings.instance,
            jobs_max=settings.jobs_max,
            lease_s=settings.lease_s,
            poll_period_s=settings.poll_period_s,
            chunk_rows_min=settings.chunk_rows_min,
        ),
    )
    return runner, shards


def _local_workers(settings: BatchSettings, server: GrpcServer, *, clock: Clock) -> LocalWorkers:
    def environment(name: str) -> Mapping[str, str]:
        told = {
            "instance": name,
            "batch_address": f"127.0.0.1:{server.port}",
            "registry_address": settings.registry_address,
            "batcher_address": settings.batcher_address,
            "batcher_tls": settings.batcher_tls,
            "authentication": settings.authentication,
            "data_dir": settings.data_dir.absolute(),
            "request_timeout_s": settings.request_timeout_s,
            "outage_timeout_s": settings.outage_timeout_s,
            "log_level": settings.log_level,
            "tls_dir": settings.tls_dir,
            "niceness": settings.worker_niceness,
        }
        return environment_of("INFERMESH_BATCH_WORKER_", told)

    names = tuple(f"{settings.instance}-worker-{place}" for place in range(settings.workers))
    return LocalWorkers(names=names, environment=environment, clock=clock)
