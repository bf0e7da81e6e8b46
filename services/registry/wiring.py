"""How the registry is put together."""

from dataclasses import dataclass

from infermesh.registry.v1 import artifact_service_pb2_grpc, registry_service_pb2_grpc
from prometheus_client import CollectorRegistry
from sqlalchemy.ext.asyncio import AsyncEngine

from services.common.access.guard import Guard
from services.common.clock import Clock
from services.common.database import create_engine, migrate
from services.common.grpc.server import GrpcServer, add_grpc_server
from services.common.lifecycle import Lifecycle
from services.common.telemetry.metrics import new_registry
from services.registry.adapters.database import SCHEMA
from services.registry.adapters.postgres import PostgresCatalogue
from services.registry.adapters.postgres_aliases import PostgresAliasBook
from services.registry.adapters.postgres_search import PostgresFinder
from services.registry.adapters.readers.artifact_readers import ArtifactReaders
from services.registry.adapters.signature_rows import PostgresSignatureBook
from services.registry.adapters.signature_rules import PostgresTeamRules
from services.registry.adapters.signature_verifier import StoredSignatureChecker
from services.registry.engines.aliasing import Aliasing
from services.registry.engines.changing import Changing
from services.registry.engines.inspecting import Inspecting
from services.registry.engines.keeping import Keeping
from services.registry.engines.reading import Reading
from services.registry.engines.registering import Registering
from services.registry.engines.searching import Searching
from services.registry.engines.verifying import Verifying
from services.registry.engines.watch import DatabaseWatch
from services.registry.servicers.artifacts import ArtifactServicer
from services.registry.servicers.registry import RegistryServicer
from services.registry.settings import RegistrySettings
from services.registry.wiring_artifacts import build_artifacts
from services.registry.wiring_history import build_history
from services.registry.wiring_reading import build_importing
from services.registry.wiring_teams import Access, build_access

_PACKAGE = "infermesh.registry.v1"


@dataclass(frozen=True)
class Registry:
    """A registry, ready to run."""

    lifecycle: Lifecycle
    server: GrpcServer


def build(settings: RegistrySettings, *, clock: Clock) -> Registry:
    """A registry over its database and its artifact store."""
    lifecycle = Lifecycle(name="registry", clock=clock, stop_timeout_s=settings.shutdown_grace_s)
    url = settings.database_url.get_secret_value()
    metrics = new_registry()
    engine = create_engine(url, schema=SCHEMA, metrics=metrics)
    catalogue = PostgresCatalogue(engine)
    kept = build_artifacts(settings, engine, catalogue=catalogue, clock=clock)
    store = kept.store
    reader = ArtifactReaders(store)
    rules = PostgresTeamRules(engine, allow_unsafe_without_team=settings.allow_unsafe_artifacts)
    verifying = Verifying(
        checker=StoredSignatureChecker(store), book=PostgresSignatureBook(engine), rules=rules, clock=clock
    )
    watch = DatabaseWatch(catalogue, clock=clock, period_s=settings.database_period_s)
    reading = Reading(catalogue)
    _add_database(lifecycle, engine, url)
    access = build_access(lifecycle, settings, engine, reading=reading, clock=clock)
    history = build_history(lifecycle, settings, engine, reading=reading, sharing=access.sharing, clock=clock)
    registering = Registering(catalogue=catalogue, store=store, reader=reader, rules=rules, verifying=verifying)
    changing = Changing(catalogue=catalogue, reading=reading)
    aliasing = Aliasing(book=PostgresAliasBook(engine), reading=reading)
    registry = RegistryServicer(
        registering=registering,
        reading=reading,
        verifying=verifying,
        searching=Searching(PostgresFinder(engine)),
        changing=changing,
        aliasing=aliasing,
        importing=build_importing(
            settings, artifacts=kept, catalogue=catalogue, registering=registering, aliasing=aliasing, changing=changing
        ),
        sharing=access.sharing,
        history=history,
        store=store,
    )
    artifacts = ArtifactServicer(
        inspecting=Inspecting(catalogue=catalogue, store=store, reader=reader, rules=rules),
        uploading=kept.uploading,
        keeping=Keeping(catalogue=catalogue, store=store, clock=clock, sending=kept.sending),
    )
    lifecycle.add("artifact store", start=store.start, stop=store.stop)
    lifecycle.add_task("expiry of uploads", kept.uploading.run)
    lifecycle.add("first look at the database", start=watch.look)
    lifecycle.add_task("database watch", watch.run)
    lifecycle.on_health("the database answers", lambda: watch.reachable)
    server = _add_server(lifecycle, settings, clock, registry, artifacts, access=access, metrics=metrics)
    lifecycle.add("followers of access", stop=access.close)
    lifecycle.add("followers of changes", stop=history.close)
    return Registry(lifecycle, server)


def _add_database(lifecycle: Lifecycle, engine: AsyncEngine, url: str) -> None:
    async def start() -> None:
        await migrate(url, service=SCHEMA)

    lifecycle.add("database", start=start, stop=engine.dispose)


def _add_server(
    lifecycle: Lifecycle,
    settings: RegistrySettings,
    clock: Clock,
    registry: RegistryServicer,
    artifacts: ArtifactServicer,
    *,
    access: Access,
    metrics: CollectorRegistry,
) -> GrpcServer:
    return add_grpc_server(
        lifecycle,
        settings,
        services=[
            (
                lambda server: registry_service_pb2_grpc.add_RegistryServiceServicer_to_server(registry, server),
                f"{_PACKAGE}.RegistryService",
            ),
            (
                lambda server: artifact_service_pb2_grpc.add_ArtifactServiceServicer_to_server(artifacts, server),
                f"{_PACKAGE}.ArtifactService",
            ),
            access.service,
        ],
        clock=clock,
        registry=metrics,
        # Models are left to the database; keys that end while a stream is open are not.
        guard=Guard(revoked=access.feed.revoked, on_key=access.key_use.note),
    )
