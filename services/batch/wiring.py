"""How the batch service is put together."""

import random
from dataclasses import dataclass
from pathlib import Path

from infermesh.batch.v1 import batch_service_pb2_grpc
from sqlalchemy.ext.asyncio import AsyncEngine

from services.batch.adapters.batcher import BatcherModel
from services.batch.adapters.board import PrometheusBoard
from services.batch.adapters.database import SCHEMA
from services.batch.adapters.files import LocalWorkspace
from services.batch.adapters.postgres_jobs import PostgresJobStore
from services.batch.adapters.postgres_work import PostgresWorkStore
from services.batch.adapters.registry import RegistryCatalogue
from services.batch.adapters.sources import LocalSources
from services.batch.adapters.tokens import RegistryTokens
from services.batch.engines.access import JobAccess
from services.batch.engines.jobs import Jobs
from services.batch.engines.runner import Runner, RunnerOptions
from services.batch.engines.sample import Sampler
from services.batch.servicer import BatchServicer
from services.batch.settings import BatchSettings
from services.common.access.parts import new_access
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.grpc.channel import open_channel
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.grpc.tls import PublicTls, peer_tls
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry

_SERVICE = "infermesh.batch.v1.BatchService"
_WORK_STOP_TIMEOUT_S = 4.0
"""How long a stop waits for work in hand to be given back; what takes longer is done again by the next start."""


@dataclass(frozen=True)
class Batch:
    """A batch service, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: BatchSettings, *, clock: Clock) -> Batch:
    """The service over PostgreSQL, local files, the registry and the batcher."""
    url = settings.database_url.get_secret_value()
    lifecycle = Lifecycle(name="batch", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    engine = create_engine(url, schema=SCHEMA)
    metrics = new_registry()
    board = PrometheusBoard(metrics)
    registry = open_channel(settings.registry_address, tls=peer_tls(settings))
    batcher = open_channel(settings.batcher_address, tls=_towards_gateway(settings))
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
    sources, workspace = LocalSources(), LocalWorkspace(settings.data_dir)
    # Only spreads retries over time.
    rng = random.Random()  # noqa: S311
    runner = Runner(
        store=PostgresWorkStore(engine),
        access=JobAccess(access.book),
        sources=sources,
        workspace=workspace,
        model=model,
        board=board,
        clock=clock,
        rng=rng,
        options=RunnerOptions(
            owner=settings.instance,
            jobs_max=settings.jobs_max,
            lease_s=settings.lease_s,
            poll_period_s=settings.poll_period_s,
            outage_timeout_s=settings.outage_timeout_s,
            chunk_rows_min=settings.chunk_rows_min,
        ),
    )
    jobs = Jobs(
        store=PostgresJobStore(engine),
        catalogue=RegistryCatalogue(registry),
        sources=sources,
        workspace=workspace,
        clock=clock,
        wake=runner.wake,
    )
    sampler = Sampler(model=model, sources=sources, board=board, clock=clock, rng=rng)
    servicer = BatchServicer(jobs=jobs, sampler=sampler, clock=clock, book=access.book)
    _add_database(lifecycle, engine, url)
    # Stopped in reverse: first nothing new is begun, then what runs is given back.
    lifecycle.add("work in hand", stop=runner.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
    lifecycle.add_task("runner", runner.run)
    lifecycle.on_health("the database answers", lambda: runner.reachable)
    server = add_grpc_server(
        lifecycle,
        settings,
        services=[
            (lambda server: batch_service_pb2_grpc.add_BatchServiceServicer_to_server(servicer, server), _SERVICE)
        ],
        clock=clock,
        registry=metrics,
        guard=access.guard,
    )
    return Batch(lifecycle, server)


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, url: str) -> None:
    async def start() -> None:
        await migrate(url, service=SCHEMA)

    lifecycle.add("database", start=start, stop=engine.dispose)


def _towards_gateway(settings: BatchSettings) -> PublicTls | None:
    """Raises SystemExit where the file is not there."""
    if settings.batcher_tls in ("", "system"):
        return PublicTls() if settings.batcher_tls else None
    path = Path(settings.batcher_tls)
    if not path.is_file():
        raise SystemExit(
            f"INFERMESH_BATCH_BATCHER_TLS is {settings.batcher_tls!r}; there is no such file of certificates"
        )
    return PublicTls(path)
