"""How a worker is put together."""

import random
from dataclasses import dataclass
from pathlib import Path

from services.batch.adapters.batcher import BatcherModel
from services.batch.adapters.objects import Buckets
from services.batch.adapters.remote_work import RemoteWork
from services.batch.adapters.sources import FileSources
from services.batch.adapters.tokens import RegistryTokens
from services.batch.adapters.workspaces import PlaceWorkspace
from services.batch.domain.launched import Bond
from services.batch.engines.worker import Worker, WorkerOptions
from services.batch.worker.settings import WorkerSettings
from services.common.clock import Clock
from services.common.grpc.channel import open_channel
from services.common.grpc.tls import PublicTls, peer_tls
from services.common.lifecycle import Lifecycle

TERMINATED = 143
"""The exit code of what SIGTERM ended, as shells have it."""
_WORK_STOP_TIMEOUT_S = 2.5
"""How long a stop waits for work in hand to be given back; what takes longer runs out."""


@dataclass(frozen=True)
class WorkerProcess:
    """A worker, ready to run."""

    lifecycle: Lifecycle
    worker: Worker

    async def run(self) -> int:
        """Runs until SIGTERM or SIGINT, or until nothing is left of its one job. The exit code: of a worker for one job
        it is 0 only where that job needs it no more, for Kubernetes starts no other in its place then."""
        code = await self.lifecycle.run()
        return code or (TERMINATED if self.worker.bond is not None and not self.worker.over else 0)


def build(settings: WorkerSettings, *, clock: Clock) -> WorkerProcess:
    """A worker of the batch service that the settings name."""
    lifecycle = Lifecycle(name="batch-worker", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    batch = open_channel(settings.batch_address, tls=peer_tls(settings))
    registry = open_channel(settings.registry_address, tls=peer_tls(settings))
    batcher = open_channel(settings.batcher_address, tls=towards_gateway(settings.batcher_tls))
    for name, channel in (("batch service", batch), ("registry", registry), ("batcher", batcher)):
        lifecycle.add(f"channel to the {name}", stop=channel.close)
    tokens = RegistryTokens(registry, clock=clock) if settings.authentication else None
    buckets = Buckets()
    worker = Worker(
        work=RemoteWork(batch),
        sources=FileSources(buckets),
        workspace=PlaceWorkspace(settings.data_dir, buckets),
        model=BatcherModel(batcher, clock=clock, timeout_s=settings.request_timeout_s, tokens=tokens),
        clock=clock,
        # Only spreads retries over time.
        rng=random.Random(),  # noqa: S311
        options=WorkerOptions(
            name=settings.instance,
            outage_timeout_s=settings.outage_timeout_s,
            bond=Bond(settings.job_id, settings.attempt) if settings.job_id else None,
        ),
    )

    async def run() -> None:
        await worker.run()
        lifecycle.request_stop()

    lifecycle.add("work in hand", stop=worker.stop, stop_timeout_s=_WORK_STOP_TIMEOUT_S)
    # Whoever started a worker for one job starts it again, and sees that it died.
    lifecycle.add_task("worker", run, restart=not settings.job_id)
    return WorkerProcess(lifecycle, worker)


def towards_gateway(told: str) -> PublicTls | None:
    """How the gateway is spoken to, by what `batcher_tls` says. Raises SystemExit where the file is not there."""
    if told in ("", "system"):
        return PublicTls() if told else None
    path = Path(told)
    if not path.is_file():
        raise SystemExit(f"batcher_tls is {told!r}; there is no such file of certificates")
    return PublicTls(path)
